"""Packed weights for a model that the engine does not support."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.engine.patches import packed_linear
from evalkit.types import Batching, Decoding, ImagePart, Message, Request, TextPart

from ..families.checkpoints import built
from .test_architectures import save

Copies = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=["kosmos-2", "mllama", "florence2"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HFBackend:
    """One prompt at a time, with the model's own weights."""
    folder = tmp_path_factory.mktemp("packed")
    save(request.param, folder, partial(built, request.param))
    backend = BACKEND.open(
        resolve_checkpoint(str(folder)), device="cpu", dtype="float32", batching=Batching(exact=True)
    )
    assert isinstance(backend, HFBackend)
    return backend


def weights(backend: HFBackend) -> Copies:
    return {name: weight.clone() for name, weight in backend.model.named_parameters()}


def layers(backend: HFBackend) -> int:
    """The number of packed layers."""
    return sum(packed_linear.packed_weight(module) is not None for module in backend.model.modules())


def same(one: Copies, other: Copies) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_answers_and_weights_stay_the_same(opened: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    role = "user" if opened.inputs.has_chat_template else "plain"
    samples = registry.tasks.get("vqav2").load(open_data("tiny"), "val")
    asked = [
        Request(str(at), (Message(role, (ImagePart(sample.images[0]), TextPart("What " * at))),), Decoding(6))
        for at, sample in zip((1, 4, 9), samples, strict=False)
    ]
    before, alone = weights(opened), {response.id: response.tokens for response in opened.generate(asked)}
    assert layers(opened) == 0
    monkeypatch.setattr(packed_linear, "MIN_NUMBERS", 1)
    backend = HFBackend(opened.model, opened.processor)
    assert backend.engine is None
    assert (layers(backend) > 0) == (not opened.model.config.is_encoder_decoder)
    assert {response.id: response.tokens for response in backend.generate(asked)} == alone
    backend.close()
    assert layers(backend) == 0
    assert same(weights(backend), before)
    with BACKEND.wrap(opened.model, opened.processor) as wrapped:
        assert isinstance(wrapped, HFBackend)
        assert layers(wrapped) == 0


def test_other_logits_are_refused(opened: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, before = packed_linear.multiply, weights(opened)

    def wrong(*given: Any) -> torch.Tensor:
        return multiply(*given) * 1.05

    monkeypatch.setattr(packed_linear, "MIN_NUMBERS", 1)
    monkeypatch.setattr(packed_linear, "multiply", wrong)
    backend = HFBackend(opened.model, opened.processor)
    assert layers(backend) == 0
    assert same(weights(backend), before)
