"""Several answers to one sample: its prompt and its image are computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from evalkit import registry
from evalkit.api import load_task
from evalkit.checkpoint import bundled_folder
from evalkit.jobs import Job, build_requests
from evalkit.model.backends.hf import HFBackend
from evalkit.model.grouping import order_by_images
from evalkit.types import Request, Response

REPEATS, TOKENS = 8, 6


@pytest.fixture(scope="module")
def backend() -> Iterator[tuple[HFBackend, Counter[str]]]:
    """The tiny checkpoint, and counts of the tokens and patches that pass its first layers."""
    folder = bundled_folder("tiny")
    # Not in the checkpoint's half precision: rounding differs with a batch's rows, and draws with it.
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    passed: Counter[str] = Counter()

    def counting(what: str) -> Any:
        def hook(module: Any, arguments: tuple[Any, ...]) -> None:
            passed[what] += arguments[0].shape[:-1].numel()

        return hook

    model.model.language_model.layers[0].self_attn.o_proj.register_forward_pre_hook(counting("tokens"))
    model.model.visual.blocks[0].register_forward_pre_hook(counting("patches"))
    opened = HFBackend(model, AutoProcessor.from_pretrained(folder))
    yield opened, passed
    opened.release()


def requests(samples: int, repeats: int, new_tokens: int = TOKENS) -> list[Request]:
    loaded = load_task("coco_caption/test", data="tiny")
    some = list(loaded)[:samples]
    exactly = {"temperature": 3.0, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens}
    job = Job(
        loaded.task, loaded.split, some, limited=True, all_samples=some, repeats=repeats, decoding_overrides=exactly
    )  # fmt: skip
    return [question.request for question in build_requests(job, registry.families.get("qwen2.5-vl")).values()]


def answered(backend: HFBackend, wanted: Sequence[Request]) -> dict[str, Response]:
    return {response.id: response for response in backend.generate(wanted)}


def test_prompt_and_image_are_computed_once(backend: tuple[HFBackend, Counter[str]]) -> None:
    opened, passed = backend
    passed.clear()
    (single,) = answered(opened, requests(1, 1, 1)).values()
    once = Counter(passed)
    assert once["tokens"] == single.prompt_tokens
    passed.clear()
    found = answered(opened, requests(1, REPEATS))
    assert len(found) == REPEATS
    assert passed["patches"] == once["patches"]
    # Each answer computes its prompt's last token again, and each of its own tokens but the last.
    assert passed["tokens"] == once["tokens"] + (REPEATS - 1) + REPEATS * (TOKENS - 1)
    assert passed["tokens"] < 3 * once["tokens"] + REPEATS * (TOKENS - 1)


def test_repeats_are_different_draws_and_the_first_is_the_single_answer(
    backend: tuple[HFBackend, Counter[str]],
) -> None:
    opened, _ = backend
    once, several = (answered(opened, requests(3, repeats)) for repeats in (1, REPEATS))
    for sample in once:
        drawn = {response.tokens for key, response in several.items() if key.partition("#")[0] == sample}
        assert len(drawn) > 1
    assert {key: several[key].tokens for key in once} == {key: response.tokens for key, response in once.items()}
    shuffled = answered(opened, requests(3, REPEATS)[::-1])
    assert {key: r.tokens for key, r in shuffled.items()} == {key: r.tokens for key, r in several.items()}


def test_repeats_of_a_sample_are_sent_in_a_row() -> None:
    ids = [request.id.partition("#")[0] for request in order_by_images(requests(3, REPEATS))]
    assert ids == [name for name in dict.fromkeys(ids) for _ in range(REPEATS)]
