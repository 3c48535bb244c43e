"""Kosmos-2 in batches of prompts of different lengths: decode steps do not count the padding."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.positions import trained_positions
from evalkit.types import Batching, Decoding, ImagePart, Message, Request, TextPart

from ..families.checkpoints import built
from .test_architectures import save

TEXTS = (
    "An image of",
    "Question: Is it red or blue? Answer:",
    "<grounding><phrase>the man on the left</phrase>",
    "What is it? " * 12,
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> HFBackend:
    """One prompt at a time."""
    folder = tmp_path_factory.mktemp("kosmos")
    save("kosmos-2", folder, partial(built, "kosmos-2"))
    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="cpu", dtype="float32", batching=Batching(1))
    assert isinstance(backend, HFBackend)
    return backend


def requests_of(decoding: Decoding) -> list[Request]:
    samples = registry.tasks.get("vqav2").load(open_data("tiny"), "val")
    images = [sample.images[0] for sample in samples][: len(TEXTS)]
    return [
        Request(text, (Message("plain", (ImagePart(image), TextPart(text))),), decoding)
        for text, image in zip(TEXTS, images, strict=True)
    ]


@pytest.mark.parametrize("beams", [1, 3])
def test_lengths_share_a_batch(opened: HFBackend, monkeypatch: pytest.MonkeyPatch, beams: int) -> None:
    asked = requests_of(Decoding(12, min_new_tokens=12, num_beams=beams))
    alone = {response.id: response.tokens for response in opened.generate(asked)}
    batches: list[int] = []
    generate = opened.model.generate
    monkeypatch.setattr(
        opened.model, "generate", lambda **inputs: batches.append(len(inputs["input_ids"])) or generate(**inputs)
    )
    backend = HFBackend(
        opened.model, opened.processor, batch_size=len(asked), options=EngineOptions(encoder_sharing=False)
    )
    assert {response.id: response.tokens for response in backend.generate(asked)} == alone
    assert batches == [len(asked)]
    assert len({len(opened.inputs.plan(request)[0].ids) for request in asked}) == len(asked)


def test_positions_start_after_the_padding(opened: HFBackend) -> None:
    embedding = opened.model.text_model.model.embed_positions
    pad, text = embedding.padding_idx, embedding.padding_idx + 5
    ids = torch.tensor([[pad, pad, text, text], [text, pad, text, text]])  # the second row's own text has such a token
    used = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    new = torch.full((2, 1), text)
    with trained_positions(opened.model, used):
        prompt = embedding(input_ids=ids, inputs_embeds=None)
        step = embedding(input_ids=new, inputs_embeds=None, past_key_values_length=4)
    for row, own in enumerate((ids[:1, 2:], ids[1:])):
        start = 4 - own.shape[1]
        assert torch.equal(prompt[row : row + 1, start:], embedding(input_ids=own))
        assert torch.equal(step[row : row + 1], embedding(input_ids=new[:1], past_key_values_length=own.shape[1]))
    assert not torch.equal(step, embedding(input_ids=new, past_key_values_length=4)), "the model's own again"
