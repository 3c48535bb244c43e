"""Qwen-VL through the backend: the engine answers as ``generate`` does for each sample alone, NTK factors and all.

The checkpoints are small and random, and written as the published ones are.  ``seq_length`` is 400, so that one
image's prompt (258 tokens and a question) lies below it or above, and eight images' lie several doublings above.
With these seeds the likeliest token leads by at least 2e-3 at every step, so that no answer hangs on rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.loading import load_model
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.qwen_vl import QwenVLProcessor
from evalkit.types import Decoding, ImagePart, Message, PromptSpec, Request, Response, Sample, Shot, TextPart

from .published import write_checkpoint

SEQ_LENGTH = 400
LONG = "Tell me what the man at the table said about the theatre, and then what the others answered him: "


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("checkpoints")
    return {
        "chat": write_checkpoint(where / "Qwen-VL-Chat", chat=True, seed=1, seq_length=SEQ_LENGTH),
        "base": write_checkpoint(where / "Qwen-VL", chat=False, seed=2, seq_length=SEQ_LENGTH),
    }


def _backend(folder: Path, dtype: str = "float32", **settings: Any) -> HFBackend:
    checkpoint = resolve_checkpoint(str(folder))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=dtype)
    backend = HFBackend(model, load_processor(checkpoint), **settings)
    if not settings.get("exact"):
        assert backend.unfit is None
        assert backend.engine is not None
        assert backend.engine.supports_several_images
    return backend


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(registry.tasks.get("vqav2").load(open_data("tiny"), "val"))


def _mixed(samples: list[Sample], *, chat: bool) -> list[Request]:
    """Zero-shot with several questions an image, after examples, in turns, without images, letters; long and short.

    Prompts that begin alike end below ``seq_length`` and above it.
    """
    base, talking = registry.families.get("qwen-vl"), registry.families.get("qwen-vl-chat")
    vqa, grounding, turns = (
        PromptSpec("vqav2", "vqa"),
        PromptSpec("refcoco", "grounding"),
        registry.tasks.get("vqav2").prompt_spec("lmms-eval"),
    )
    shots = [Shot(sample, str(sample.references[0])) for sample in samples[-20:]]
    short, box = Decoding(8, 1), Decoding(14, 10)
    found: list[Request] = []

    def add(messages: Iterable[Message], decoding: Decoding, *options: str) -> None:
        found.append(Request(str(len(found)), tuple(messages), decoding, options))

    for at, sample in enumerate(samples[:8]):
        add(base.prompt(vqa, sample), short)
        if at < 4:
            add(base.prompt(grounding, sample), box)
            add(base.prompt(vqa, sample, shots[:1]), short)
            add(base.prompt(vqa, sample, shots[at : at + 1]), short)
            # One beginning (the image, or nothing), questions of about 20 to 700 tokens.
            more = (TextPart(LONG * (3 * at**2 // 4) + sample.text),)
            add([Message("plain", (ImagePart(samples[0].images[0]), *more))], short)
            add([Message("plain", (TextPart(LONG * 2), *more))], short)
        if at < 2:
            add(base.prompt(vqa, sample, shots[:7]), short)
            add(base.prompt(vqa, sample, shots[at : at + 7]), short)
            add(base.prompt(vqa, sample), short, " A", " B", " C", " D")
            add(base.prompt(vqa, sample), short, " a red one", " it is blue", " it", " B")
    for characters in (130, 134, 135):  # of a token each: answers that go past seq_length, prompts on either side of it
        add([Message("plain", (ImagePart(samples[0].images[0]), TextPart("x" * characters + " Answer:")))], box)
    if chat:
        for at, sample in enumerate(samples[:5]):
            add(talking.prompt(turns, sample), short)
            add([Message("user", (ImagePart(sample.images[0]), TextPart(LONG * at), TextPart(sample.text)))], short)
            if at < 2:
                add(talking.prompt(turns, sample, shots[:2]), short)
                add(talking.prompt(turns, sample, shots[at : at + 7]), short)
                add(talking.prompt(turns, sample), short, "A", "B", "C")
                add([Message("user", (TextPart(LONG * (1 + 3 * at)), TextPart(sample.text)))], short)
    return found


@pytest.fixture(scope="module")
def asked(samples: list[Sample]) -> dict[str, list[Request]]:
    return {"chat": _mixed(samples, chat=True), "base": _mixed(samples, chat=False)[:26]}


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path], asked: dict[str, list[Request]]) -> dict[str, dict[str, Response]]:
    """What ``model.generate`` answers, a sample at a time, by kind of checkpoint and request."""
    return {
        kind: {r.id: r for r in _backend(folder, exact=True).generate(asked[kind])} for kind, folder in folders.items()
    }


def _same(found: Iterable[Response], alone: dict[str, Response]) -> None:
    responses = list(found)
    assert sorted(r.id for r in responses) == sorted(alone)
    for r in responses:
        one = alone[r.id]
        assert r.error is None
        assert (r.tokens, r.text, r.finish) == (one.tokens, one.text, one.finish), r.id
        assert (r.prompt_tokens, r.image_sizes) == (one.prompt_tokens, one.image_sizes), r.id


def test_requests_are_of_all_kinds(alone: dict[str, dict[str, Response]], folders: dict[str, Path]) -> None:
    """What the tests below hold against: answers that differ, NTK factors of several doublings, some ends of turns."""
    config = _backend(folders["chat"], exact=True).model.config
    for answers in alone.values():
        assert {config.ntk_alpha(r.prompt_tokens) for r in answers.values()} >= {1.0, 3.0, 15.0}
        assert max(r.prompt_tokens for r in answers.values()) > 8 * 258
        generated = [r.tokens for r in answers.values()]
        assert len(set(generated)) > 0.8 * len(generated)
    assert {r.finish for r in alone["chat"].values()} == {"stop", "length"}


QUICK = (("chat", 3, True), ("chat", 16, False), ("base", 16, True))
ALL = [(kind, rows, share) for kind in ("chat", "base") for rows in (1, 3, 16) for share in (True, False)]


@pytest.mark.parametrize(
    ("kind", "rows", "share"), [pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow) for one in ALL]
)
def test_batched_equals_batch_size_1(
    kind: str,
    rows: int,
    share: bool,
    folders: dict[str, Path],
    asked: dict[str, list[Request]],
    alone: dict[str, dict[str, Response]],
) -> None:
    backend = _backend(folders[kind], batch_size=rows, options=EngineOptions(prefix_sharing=share))
    _same(backend.generate(asked[kind]), alone[kind])


@pytest.mark.parametrize("leave", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_small_batches_of_tokens(
    leave: bool, folders: dict[str, Path], asked: dict[str, list[Request]], alone: dict[str, dict[str, Response]]
) -> None:
    backend = _backend(
        folders["chat"], batch_size=5, max_batch_tokens=300, options=EngineOptions(continuous_batching=leave)
    )
    _same(backend.generate(asked["chat"]), alone["chat"])


def test_rope_factor_changes_answers(
    folders: dict[str, Path], asked: dict[str, list[Request]], alone: dict[str, dict[str, Response]]
) -> None:
    """What the tests above would see if keys were rotated with the factor of short prompts throughout."""
    backend = _backend(folders["chat"], batch_size=16)
    assert backend.engine is not None
    backend.engine.language.ntk_alpha = lambda tokens: 1.0
    by_id = {r.id: r for r in asked["chat"] if alone["chat"][r.id].prompt_tokens < 700}
    for r in backend.generate(list(by_id.values())):
        one = alone["chat"][r.id]
        if one.prompt_tokens <= SEQ_LENGTH:
            assert r.tokens == one.tokens, r.id
        elif not by_id[r.id].continuations:
            assert r.tokens != one.tokens, r.id


def _counted(backend: HFBackend) -> list[tuple[int, int]]:
    """(rows, tokens) of each pass through the language model to come."""
    found: list[tuple[int, int]] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        found.append(kwargs["inputs_embeds"].shape[:2])

    backend.model.model.register_forward_pre_hook(count, with_kwargs=True)
    return found


def test_prefixes_are_shared_among_equal_factors_only(samples: list[Sample], folders: dict[str, Path]) -> None:
    """Questions about one image: it goes through the language model once for those below ``seq_length``, and once
    for those above, and through the vision encoder once in all.
    """
    questions = [LONG[:20] + "x" * n for n in (10, 20, 30, 210, 230)]
    image = ImagePart(samples[0].images[0])
    requests = [
        Request(str(at), (Message("plain", (image, TextPart(question))),), Decoding(1))
        for at, question in enumerate(questions)
    ]
    passed = {}
    for share in (True, False):
        backend = _backend(folders["chat"], batch_size=16, options=EngineOptions(prefix_sharing=share))
        images: list[int] = []
        backend.model.model.visual.register_forward_pre_hook(lambda _, args, seen=images: seen.append(len(args[0])))
        passes = _counted(backend)
        responses = list(backend.generate(requests))
        assert sum(images) == 1
        assert all(r.error is None for r in responses)
        lengths = {int(r.id): r.prompt_tokens for r in responses}
        assert [lengths[at] > SEQ_LENGTH for at in range(5)] == [False, False, False, True, True]
        passed[share] = sorted((rows, tokens) for rows, tokens in passes if tokens > 1)
    shared = [(rows, tokens) for rows, tokens in passed[True] if tokens > 258]
    assert sum(rows for rows, _ in shared) == 2
    assert sum(rows * tokens for rows, tokens in passed[True]) < 0.7 * sum(rows * t for rows, t in passed[False])


@pytest.mark.slow
def test_prefix_tree_saves_tokens(folders: dict[str, Path], asked: dict[str, list[Request]]) -> None:
    tokens = {}
    for share in (True, False):
        backend = _backend(folders["base"], batch_size=16, options=EngineOptions(prefix_sharing=share))
        passes = _counted(backend)
        list(backend.generate(asked["base"]))
        tokens[share] = sum(rows * length for rows, length in passes if length > 1)
    assert tokens[True] < 0.8 * tokens[False]


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "engine"])
def test_end_of_turn_does_not_end_running_text(exact: bool, samples: list[Sample], folders: dict[str, Path]) -> None:
    """``<|im_end|>`` made the likeliest first token: it ends an answer in turns, and in running text it is a token."""
    content = (ImagePart(samples[0].images[0]), TextPart(samples[0].text))
    for role, finish in (("user", "stop"), ("plain", "length")):
        backend = _backend(folders["chat"], exact=exact)
        end = backend.tokenizer.special_ids["<|im_end|>"]
        request = Request(role, (Message(role, content),), Decoding(2))  # type: ignore[arg-type]
        (before,) = backend.generate([request])
        head = backend.model.lm_head.weight.data
        head[end] = 2 * head[before.tokens[0]]
        (after,) = backend.generate([request])
        assert after.finish == finish
        assert after.tokens[:1] == (() if role == "user" else (end,))


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision(
    dtype: str,
    folders: dict[str, Path],
    asked: dict[str, list[Request]],
    alone: dict[str, dict[str, Response]],
) -> None:
    """The engine fits, and most answers begin as in fp32."""
    found = {r.id: r for r in _backend(folders["base"], dtype, batch_size=16).generate(asked["base"][:20])}
    assert [r.error for r in found.values() if r.error is not None] == []
    alike = sum(r.tokens[:1] == alone["base"][key].tokens[:1] for key, r in found.items())
    assert alike >= 0.8 * len(found)


def test_models_that_count_padding_bypass_the_engine(
    folders: dict[str, Path], asked: dict[str, list[Request]], alone: dict[str, dict[str, Response]], tmp_path: Path
) -> None:
    """The original's padding is a matter of the batch: alone, answers are the same; in a batch, long ones are not."""
    folder = write_checkpoint(tmp_path / "Qwen-VL", chat=False, seed=2, seq_length=SEQ_LENGTH, original_padding=True)
    checkpoint = resolve_checkpoint(str(folder))
    short = (r for r in asked["base"] if not r.continuations and alone["base"][r.id].prompt_tokens < 600)
    images = [replace(r, decoding=Decoding(4)) for r in short if r.images][:12]
    answers = {}
    for rows in (1, 8):
        model = load_model(checkpoint, device=torch.device("cpu"), dtype="float32")
        backend = HFBackend(model, load_processor(checkpoint), batch_size=rows)
        assert backend.engine is None
        assert "original_padding" in str(backend.unfit)
        assert "original_padding" in backend.describe()["engine"]
        answers[rows] = {r.id: r.tokens for r in backend.generate(images)}
    assert answers[1] == {r.id: r.tokens for r in _backend(folders["base"], exact=True).generate(images)}
    changed = {key for key, tokens in answers[8].items() if tokens != answers[1][key]}
    assert changed


def test_generation_settings_of_the_checkpoint_are_ignored(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Its ``generation_config.json`` samples; and one line says how its pickles are read."""
    with caplog.at_level(logging.WARNING):
        backend = _backend(folders["chat"])
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Qwen-VL-Chat: its weights are pickles, read with weights_only=True"]
    assert not backend.model.generation_config.do_sample
    assert isinstance(backend.processor, QwenVLProcessor)
    assert (backend.stops, backend.turn_stops) == ((262,), (262, 264, 263))
    assert _backend(folders["base"]).turn_stops == (262,)
