"""Batches of ``generate``: limited by requests and by tokens, with the questions about an image side by side."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from evalkit import registry
from evalkit.data import open_data
from evalkit.images import PathImage
from evalkit.model.backends.hf import HFBackend
from evalkit.model.hf.generate import by_images
from evalkit.model.hf.planned import PlannedRequest
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart


def planned(name: str, image: str, tokens: int) -> PlannedRequest:
    message = Message("user", (ImagePart(PathImage(image)), TextPart(name)))
    return PlannedRequest(Request(name, (message,), Decoding(4)), name, (), ((8, 8),), tokens)


def test_questions_about_an_image_are_neighbours_unless_much_shorter() -> None:
    asked = [planned("a", "1", 90), planned("b", "2", 100), planned("c", "1", 110), planned("d", "1", 20)]
    assert [one.request.id for one in by_images(asked)] == ["c", "a", "b", "d"]


def test_batches_are_limited_by_tokens_and_images_read_once(
    tiny_backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = registry.tasks.get("vqav2").load(open_data("tiny"), "val")
    images = list({sample.images[0].key: sample.images[0] for sample in every}.values())[:2]
    asked = [
        Request(f"{at}-{number}", (Message("user", (ImagePart(image), TextPart(text))),), Decoding(4))
        for number, text in enumerate(("What is it?", "How many are there?", "Is it red?"))
        for at, image in enumerate(images)
    ]
    exact = HFBackend(tiny_backend.model, tiny_backend.processor, exact=True)
    assert exact.describe()["max_batch_tokens"] is None
    alone = {r.id: r.tokens for r in exact.generate(asked)}
    longest = max(exact.inputs.plan(request)[0].tokens for request in asked)
    backend = HFBackend(tiny_backend.model, tiny_backend.processor, max_batch_tokens=3 * longest + 2)
    backend.release()
    assert (backend.batch_size, backend.describe()["max_batch_tokens"]) == (32, 3 * longest + 2)
    sizes: list[int] = []
    reads: Counter[str] = Counter()
    generate, load = backend.model.generate, PathImage.load

    def counted(*, input_ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(input_ids))
        return generate(input_ids=input_ids, **options)

    def read(image: PathImage) -> Any:
        reads[image.name] += 1
        return load(image)

    monkeypatch.setattr(backend.model, "generate", counted)
    monkeypatch.setattr(PathImage, "load", read)
    assert {r.id: r.tokens for r in backend.generate(asked)} == alone
    assert sizes == [3, 3]
    assert set(reads.values()) == {1}
    assert len(reads) == len({image.key for image in images})
