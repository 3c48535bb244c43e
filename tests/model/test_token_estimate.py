"""Token estimates, compared with real token counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

from evalkit import registry
from evalkit.data import open_data
from evalkit.jobs import build_requests, load_job
from evalkit.model.backends.hf import HFBackend
from evalkit.model.token_estimate import estimate_tokens
from evalkit.task_names import parse_tasks
from evalkit.types import Decoding, ImagePart, Message, Request, Size, TextPart


@dataclass(frozen=True)
class Named:
    """An image that cannot be opened."""

    name: str


def asked(name: str, *parts: str, image_first: bool = True, limit: int = 5) -> Request:
    content = [TextPart(part) for part in parts]
    image = ImagePart(Named(name))  # type: ignore[arg-type]
    return Request("x", (Message("user", (image, *content) if image_first else (*content, image)),), Decoding(limit))


def hundredth(sizes: Sequence[Size]) -> list[int]:
    return [w * h // 100 for w, h in sizes]


SIZES = {"a": (100, 100), "b": (200, 300)}


def test_shared_images_are_counted_once() -> None:
    requests = [asked("a", "what?" * 7), asked("b", "what?" * 7), asked("a", "why?" * 7), asked("a", "")]
    each = 3 * 5
    alone = estimate_tokens(requests, SIZES, visual=hundredth, shared=False)
    assert alone == [100 + 10 + each, 600 + 10 + each, 100 + 8 + each, 100 + each]
    assert estimate_tokens(requests, SIZES, visual=hundredth, shared=True) == [*alone[:2], 8 + each, each]


def test_text_before_image_is_part_of_prefix() -> None:
    requests = [asked("a", text, image_first=False) for text in ("x" * 35, "y" * 35, "x" * 35)]
    first, other, again = estimate_tokens(requests, SIZES, visual=hundredth, shared=True)
    assert first == other == again + 110


def test_shared_examples_are_counted_once() -> None:
    def shot(name: str) -> Request:
        parts = (ImagePart(Named("b")), TextPart("x" * 35), ImagePart(Named(name)), TextPart("y" * 35))  # type: ignore[arg-type]
        return Request(name, (Message("user", parts),), Decoding(1))

    found = estimate_tokens(
        [shot("a"), shot("c"), shot("a")], {**SIZES, "c": (100, 100)}, visual=hundredth, shared=True
    )
    assert found == [600 + 10 + 100 + 10 + 3, 10 + 100 + 10 + 3, 10 + 3]


def test_unknown_sizes_are_mean_of_known() -> None:
    assert estimate_tokens([asked("z")], SIZES, visual=hundredth, shared=True) == [350 + 15]
    assert estimate_tokens([asked("z")], {}, visual=hundredth, shared=True) == [640 * 480 // 100 + 15]


def test_estimates_are_close_to_real_prompts(tiny_backend: HFBackend) -> None:
    """On real prompts: the sum without sharing, as far as that is prompts, is the tokens that they had."""
    assert 50e6 < tiny_backend.memory() < 100e9
    ((task, split),) = parse_tasks(["vqav2/val"])
    job = load_job(task, split, open_data("tiny"), limit=24, seed=0)
    requests = [q.request for q in build_requests(job, registry.families.get("qwen2.5-vl")).values()]
    sizes = {image.name: image.size() for request in requests for image in request.images}
    found = estimate_tokens(requests, sizes, visual=tiny_backend.inputs.visual, shared=False)
    prompts = sum(found) - sum(3 * min(r.decoding.max_new_tokens, 16) for r in requests)
    truth = sum(response.prompt_tokens for response in tiny_backend.generate(requests))
    assert isclose(prompts, truth, rel_tol=0.25), f"{prompts} guessed, {truth} in truth"
    assert sum(tiny_backend.estimate_tokens(requests, sizes)) < sum(found), "the engine shares"


def test_estimates_are_fast(tiny_backend: HFBackend) -> None:
    requests, sizes = [], {}
    for number in range(20_000):
        name = f"/data/coco/val2014/COCO_val2014_{number // 5:012d}.jpg"
        sizes[name] = (300 + number % 340, 640)
        requests.append(asked(name, f"What is the colour of thing {number}? Answer in one word."))
    began = time.process_time()
    found = tiny_backend.estimate_tokens(requests, sizes)
    assert time.process_time() - began < 1, "ten times as many take about a second"
    assert sum(found[0::5]) > sum(found[1::5]), "the first question of an image pays for it"
