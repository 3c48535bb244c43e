"""On a GPU that is not there: the engine's whole way, and nothing on it for which Python waits but a step's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText

from evalkit import registry
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.engine import compatibility
from evalkit.model.engine.engine import Engine
from evalkit.model.engine.image_table import Item
from evalkit.model.engine.model_runner import Language
from evalkit.model.engine.options import Limits, Options
from evalkit.model.engine.patches import attention, patch_embed, vision_grids
from evalkit.model.engine.sequence import Said
from evalkit.model.engine.vision import Features
from evalkit.model.hf.loading import load_processor
from evalkit.model.hf.processor import Inputs
from evalkit.types import Decoding, PromptSpec, Request, Shot

from ..hf.test_architectures import save
from ..qwen_vl.published import write_checkpoint
from .fake_device import DEVICE, Imaginary, fake

later = pytest.mark.skipif(
    not hasattr(vision_grids.vision_utils, "get_vision_attention_seqlens"),
    reason="an earlier transformers, which waits",
)

# Each does what waits, given a tensor on the device, one of the CPU and a way to send one.
WAITS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a number": lambda there, _: there[0, 0].item(),
    "numbers": lambda there, _: there.tolist(),
    "a condition": lambda there, _: bool(there.any()),
    "the places of what is not zero": lambda there, _: there.nonzero(),
    "a selection by a mask": lambda there, _: there[there > 0],
    "an assignment by a mask": lambda there, _: there.__setitem__(there > 0, there[0, 0]),
    "an index of the CPU": lambda there, here: there[here],
    "a list as an index": lambda there, _: there[[1, 0]],
    "an assignment by a list": lambda there, _: there.__setitem__([1, 0], there[0]),
    "a copy from the CPU": lambda _, here: here.to(DEVICE),
    "a copy from memory that is not pinned": lambda _, here: here.to(DEVICE, non_blocking=True),
    "a copy from pinned memory that is waited for": lambda _, here: here.pin_memory().to(DEVICE),
    "a copy to the CPU": lambda there, _: there.to("cpu"),
    "the same, called otherwise": lambda there, _: there.cpu(),
    "a row from the CPU": lambda there, here: there.__setitem__(0, here),
    "a tensor made there": lambda there, _: torch.tensor([1, 2], device=there.device),
    "repeats that are not counted": lambda there, _: there[0].repeat_interleave(there[1]),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_waits_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Imaginary()
    with gpu.here(monkeypatch):
        there, here = torch.zeros(2, 3, dtype=torch.long, device=DEVICE), torch.tensor([0, 1, 1])
        assert gpu.waits == []
        try:
            WAITS[what](there, here)
        except Exception:  # there are no numbers
            assert gpu.waits
        assert gpu.waits


def test_what_does_not_wait_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Imaginary()
    with gpu.here(monkeypatch):
        there = torch.zeros(2, 3, dtype=torch.long, device=DEVICE)
        sent = torch.tensor([1, 0]).pin_memory().to(DEVICE, non_blocking=True)
        assert fake(sent)
        assert fake(there[sent] + there.argmax(-1)[:, None])
        there[:1] = 7
        found = there.to("cpu", non_blocking=True)
        assert not fake(found)
        assert found.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert gpu.waits == []


def _engine(folder: Path, gpu: Imaginary, inputs: Inputs, limits: Limits) -> Engine:
    """Made as ``compatibility.build`` makes it, but for what needs numbers."""
    with gpu.mode, DEVICE:
        config = AutoConfig.from_pretrained(folder)  # Qwen-VL's since its processor was opened
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).eval()
    place, image = compatibility._tokens(model, inputs.processor)
    attention.install_vision(model)
    attention.install_text(model)
    patch_embed.install(model)
    stay = vision_grids.install(model) > 0
    eyes = compatibility._eyes(model, inputs.processor, image, stay=stay)
    features = Features(model.model, eyes, device=DEVICE, dtype=model.dtype, limit=2**30)
    options = Options(cuda_graphs=False, fused_kernels=False, image_prefetch=False)
    language = Language(model, image)
    return Engine(language, eyes, features, place=place, limits=limits, options=options, workers=0, ahead=0)


def _items(inputs: Inputs, requests: Sequence[Request]) -> list[Item]:
    found = []
    for request in requests:
        (planned,) = inputs.plan(request)
        limit, least = request.decoding.max_new_tokens, request.decoding.min_new_tokens
        found.append(Item(planned, planned.ids, request.images, planned.tokens, limit, least, (1, 2)))
    return found


def _requests(family_name: str, shots: bool) -> list[Request]:
    """Questions of few and many tokens, several to an image, some after exemplars."""
    family, task = registry.families.get(family_name), registry.tasks.get("vqav2")
    samples = list(task.load(open_data("tiny"), "val"))[:24]
    spec = PromptSpec("vqav2", task.kind)
    every = [Shot(s, family.answer(spec, s, family.image_size(s.images[0].size()))) for s in samples[-2:]]
    return [
        Request(s.id, family.prompt(spec, s, every if shots and at % 3 == 0 else ()), Decoding(2 + at % 7, at % 3))
        for at, s in enumerate(samples)
    ]


def _folder(name: str, folder: Path) -> Path:
    if name == "tiny":
        return bundled_folder("tiny")
    if name == "qwen_vl":
        return write_checkpoint(folder / "Qwen-VL-Chat", seq_length=200)
    save(name, folder)
    return folder


@later
@pytest.mark.parametrize("name", ["tiny", "qwen2_vl", "qwen_vl"])
@pytest.mark.parametrize("rows", [5, 64])
def test_nothing_waits_for_it(
    name: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder = _folder(name, tmp_path)
    inputs = Inputs(load_processor(resolve_checkpoint(str(folder))))
    monkeypatch.setattr(attention, "_varlen", lambda *_: None)  # tried once, with numbers
    monkeypatch.setattr("evalkit.model.engine.decode_batch.ROOM", 3)  # wider again and again
    gpu = Imaginary()
    heard = []
    hear = Said.hear

    def hearing(said: Said) -> Any:
        heard.append(len(said.rows))
        return hear(said)

    monkeypatch.setattr(Said, "hear", hearing)
    family = "qwen-vl-chat" if name == "qwen_vl" else "qwen2.5-vl"
    windows = [_items(inputs, _requests(family, shots)) for shots in (True, False)]
    engine = _engine(folder, gpu, inputs, Limits(rows, 700, 2**30))
    assert engine.pool.ahead
    with gpu.here(monkeypatch), torch.inference_mode():
        following = iter(windows[1:])
        answers = list(engine.answer(windows[0], more=lambda: next(following, [])))
    assert gpu.waits == []
    assert [a.error for a in answers] == [None] * 48
    assert sorted(a.row.limit for a in answers if a.row) == sorted(2 + at % 7 for at in range(24) for _ in "ab")
    assert all(a.row is not None and a.row.tokens == [0] * a.row.limit for a in answers)
    assert 10 < len(heard) == gpu.read, "tokens are all that is read"


@later
@pytest.mark.parametrize("name", ["tiny", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_images_are_encoded_without_waiting(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen3-VL's too, whose language model waits at its first layers (transformers looks for images by a mask)."""
    folder = _folder(name, tmp_path)
    inputs = Inputs(load_processor(resolve_checkpoint(str(folder))))
    monkeypatch.setattr(attention, "_varlen", lambda *_: None)
    gpu = Imaginary()
    engine = _engine(folder, gpu, inputs, Limits(8, 700, 2**30))
    images = {s.images[0].name: s.images[0] for s in registry.tasks.get("vqav2").load(open_data("tiny"), "val")}
    with gpu.here(monkeypatch), torch.inference_mode():
        wanted = {name: engine.eyes.look(image.load()) for name, image in list(images.items())[:9]}
        found = engine.features.of(wanted, 300)
    assert gpu.waits == []
    assert all(fake(features) for features in found.values())
    assert [features.shape[1] for features in found.values()] == [seen.tokens for seen in wanted.values()]
