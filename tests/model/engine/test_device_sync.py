"""The engine on a fake GPU: nothing synchronizes with the device but reading a step's tokens."""

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
from evalkit.model.engine import admission
from evalkit.model.engine.compatibility import image_processor_for, image_tokens
from evalkit.model.engine.encoder_cache import EncoderCache
from evalkit.model.engine.engine import Engine
from evalkit.model.engine.image_table import Placeholders
from evalkit.model.engine.language_model import LanguageModel
from evalkit.model.engine.options import EngineOptions, Limits
from evalkit.model.engine.patches import packed_attention, patched, vision_grids
from evalkit.model.engine.sampler import SampledTokens
from evalkit.model.engine.sequence import Sequence as EngineSequence
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.types import Decoding, PromptSpec, Request, Shot

from ..hf.test_architectures import save
from ..qwen_vl.published import write_checkpoint
from .fake_device import DEVICE, FakeGPU, is_fake

later = pytest.mark.skipif(
    not hasattr(vision_grids.vision_utils, "get_vision_attention_seqlens"),
    reason="an earlier transformers, which synchronizes",
)

# Each synchronizes, given a tensor on the device and one on the CPU.
SYNCHRONIZING: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a number": lambda there, _: there[0, 0].item(),
    "numbers": lambda there, _: there.tolist(),
    "a condition": lambda there, _: bool(there.any()),
    "the indices of nonzero elements": lambda there, _: there.nonzero(),
    "a selection by a mask": lambda there, _: there[there > 0],
    "an assignment by a mask": lambda there, _: there.__setitem__(there > 0, there[0, 0]),
    "an index of the CPU": lambda there, here: there[here],
    "a list as an index": lambda there, _: there[[1, 0]],
    "an assignment by a list": lambda there, _: there.__setitem__([1, 0], there[0]),
    "a copy from the CPU": lambda _, here: here.to(DEVICE),
    "a copy from memory that is not pinned": lambda _, here: here.to(DEVICE, non_blocking=True),
    "a blocking copy from pinned memory": lambda _, here: here.pin_memory().to(DEVICE),
    "a copy to the CPU": lambda there, _: there.to("cpu"),
    "a copy with cpu()": lambda there, _: there.cpu(),
    "a row from the CPU": lambda there, here: there.__setitem__(0, here),
    "a tensor created there": lambda there, _: torch.tensor([1, 2], device=there.device),
    "repeats without output_size": lambda there, _: there[0].repeat_interleave(there[1]),
}


@pytest.mark.parametrize("what", SYNCHRONIZING)
def test_synchronizations_are_detected(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGPU()
    with gpu.active(monkeypatch):
        there, here = torch.zeros(2, 3, dtype=torch.long, device=DEVICE), torch.tensor([0, 1, 1])
        assert gpu.synchronizations == []
        try:
            SYNCHRONIZING[what](there, here)
        except Exception:  # there are no numbers
            assert gpu.synchronizations
        assert gpu.synchronizations


def test_asynchronous_operations_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGPU()
    with gpu.active(monkeypatch):
        there = torch.zeros(2, 3, dtype=torch.long, device=DEVICE)
        sent = torch.tensor([1, 0]).pin_memory().to(DEVICE, non_blocking=True)
        assert is_fake(sent)
        assert is_fake(there[sent] + there.argmax(-1)[:, None])
        there[:1] = 7
        found = there.to("cpu", non_blocking=True)
        assert not is_fake(found)
        assert found.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert gpu.synchronizations == []


def _engine(folder: Path, gpu: FakeGPU, inputs: Inputs, limits: Limits) -> Engine:
    """As ``compatibility.build_engine`` makes it, except for what needs numbers."""
    with gpu.mode, DEVICE:
        config = AutoConfig.from_pretrained(folder)  # Qwen-VL's since its processor was opened
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).eval()
    placeholder, image_token = image_tokens(model, inputs.processor)
    options = EngineOptions(cuda_graphs=False, fused_kernels=False, image_prefetch=False)
    patches = patched(model, options).__enter__()
    processor = image_processor_for(model, inputs, image_token, None, grids_on_cpu=patches.grids_on_cpu)
    cache = EncoderCache(model.model, processor, device=DEVICE, dtype=model.dtype, max_bytes=2**30)
    return Engine(
        LanguageModel(model, [image_token]), processor, cache, placeholders=Placeholders(placeholder), limits=limits,
        options=options, prefetch_workers=0, prefetch_pixels=0,
    )  # fmt: skip


def _sequences(inputs: Inputs, requests: Sequence[Request]) -> list[EngineSequence]:
    found = []
    for request in requests:
        (planned,) = inputs.plan(request)
        limit, least = request.decoding.max_new_tokens, request.decoding.min_new_tokens
        found.append(EngineSequence(planned, planned.ids, request.images, planned.tokens, limit, least, (1, 2)))
    return found


def _requests(family_name: str, shots: bool) -> list[Request]:
    """Questions of various lengths, several per image, some with few-shot examples."""
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
@pytest.mark.parametrize(("rows", "paged"), [(5, False), (64, False), (5, True)])
def test_generating_does_not_synchronize(
    name: str, rows: int, paged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder = _folder(name, tmp_path)
    inputs = Inputs(load_processor(resolve_checkpoint(str(folder))))
    monkeypatch.setattr(packed_attention, "varlen_kernel", lambda *_: None)  # testing the kernel needs numbers
    monkeypatch.setattr("evalkit.model.engine.kv_cache.SPARE_SLOTS", 3)  # grows often
    if paged:
        monkeypatch.setattr(admission, "LONG_ANSWER", 0)
    gpu = FakeGPU()
    fetched = []
    fetch = SampledTokens.fetch

    def counted(sampled: SampledTokens) -> Any:
        fetched.append(len(sampled.sequences))
        return fetch(sampled)

    monkeypatch.setattr(SampledTokens, "fetch", counted)
    family = "qwen-vl-chat" if name == "qwen_vl" else "qwen2.5-vl"
    windows = [_sequences(inputs, _requests(family, shots)) for shots in (True, False)]
    engine = _engine(folder, gpu, inputs, Limits(rows, 700, 2**30))
    assert engine.scheduler.async_scheduling
    with gpu.active(monkeypatch), torch.inference_mode():
        following = iter(windows[1:])
        answers = list(engine.generate(windows[0], more=lambda: next(following, [])))
    assert gpu.synchronizations == []
    assert engine.scheduler.running.uses_pages == paged
    assert [a.error for a in answers] == [None] * 48
    assert sorted(a.max_new_tokens for a in answers) == sorted(2 + at % 7 for at in range(24) for _ in "ab")
    assert all(a.tokens == [0] * a.max_new_tokens for a in answers)
    assert 10 < len(fetched) == gpu.read, "only tokens are read"


@later
@pytest.mark.parametrize("name", ["tiny", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_encoding_does_not_synchronize(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for Qwen3-VL, whose language model does synchronize in its first layers (transformers uses a mask there)."""
    folder = _folder(name, tmp_path)
    inputs = Inputs(load_processor(resolve_checkpoint(str(folder))))
    monkeypatch.setattr(packed_attention, "varlen_kernel", lambda *_: None)
    gpu = FakeGPU()
    engine = _engine(folder, gpu, inputs, Limits(8, 700, 2**30))
    images = {s.images[0].name: s.images[0] for s in registry.tasks.get("vqav2").load(open_data("tiny"), "val")}
    with gpu.active(monkeypatch), torch.inference_mode():
        wanted = {name: engine.processor.preprocess(image.load()) for name, image in list(images.items())[:9]}
        found = engine.encoder_cache.features(wanted, 300)
    assert gpu.synchronizations == []
    assert all(is_fake(features) for features in found.values())
    assert [features.shape[1] for features in found.values()] == [seen.tokens for seen in wanted.values()]
