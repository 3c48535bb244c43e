"""Each family on a small random checkpoint: its prompts, with examples and several images, answered in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import BatchFeature

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Family
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.hf.responses import truncate_at_stop
from evalkit.types import Batching, Decoding, ImageSize, Request, Shot

from ..hf.test_architectures import plain, save
from .checkpoints import built

TASKS = ("coco_caption", "vqav2", "pope", "scienceqa_img", "refcoco", "screenspot", "odinw13", "muirbench")
ARCHITECTURES = (
    "internvl",
    "llava_onevision",
    "gemma3",
    "glm4v",
    "qwen3_5",
    "smolvlm",
    "idefics3",
    "mistral3",
    "molmo2",
    "aya_vision",
    "ovis2",
    "mllama",
    "llama4",
    "minicpmv4_6",
    "kosmos-2",
    "florence2",
)


def requests_of(family: Family) -> Iterator[Request]:
    """The family's prompts for two samples of each task that it has one for, the second also after an example."""
    for name in TASKS:
        task = registry.tasks.get(name)
        samples = task.load(open_data("tiny"), task.default_splits[0])
        first, second = next(samples := iter(samples)), next(samples)
        spec = task.prompt_spec()
        if len(first.all_images) > 1 and not family.several_images:
            continue
        size = first.all_images[0].size()
        try:
            shot = Shot(first, family.answer(spec, first, ImageSize(size, size)))
        except UserError:  # the family has no prompt for this kind of task
            continue
        shots = [shot] if family.several_images else []
        for at, prompt in enumerate((family.prompt(spec, first), family.prompt(spec, second, shots))):
            yield Request(f"{name} {at}", prompt, Decoding(4))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_answers_are_those_of_generate(model_type: str, tmp_path: Path) -> None:
    save(model_type, tmp_path / model_type, partial(built, model_type))
    checkpoint = resolve_checkpoint(str(tmp_path / model_type))
    name = registry.family_name(checkpoint.model_type, checkpoint.name)
    assert name is not None
    family = registry.families.get(name)
    opened = BACKEND.open(checkpoint, device="cpu", dtype="float32", batching=Batching(1))
    assert isinstance(opened, HFBackend)
    requests = list(requests_of(family))
    assert {len(request.images) for request in requests} >= ({1, 2} if family.several_images else {1})
    alone = {}
    for request in requests:
        inputs = BatchFeature(plain(opened, request)).to(dtype=torch.float32)  # Llama 4's pixels are half as wide
        with torch.inference_mode():
            found = opened.model.generate(**inputs, do_sample=False, max_new_tokens=4)[0]
        start = 1 if opened.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        alone[request.id] = truncate_at_stop(found[start:].tolist(), opened.stops)[0]
    assert len({tuple(tokens) for tokens in alone.values()}) > 2, "the answers differ"
    for size in (1, 3, 16):
        backend = HFBackend(opened.model, opened.processor, batch_size=size)
        responses = list(backend.generate(requests))
        assert [response.error for response in responses if response.error] == []
        assert {response.id: list(response.tokens) for response in responses} == alone, f"batches of {size}"
        assert (backend.engine is None) == bool(family.without_sharing), backend.unfit
