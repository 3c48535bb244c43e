"""The paged cache: the same tokens as one at a time, with any amount of memory, and no page is left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
import torch

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine import admission, paged_cache
from evalkit.model.engine.engine import Engine
from evalkit.model.engine.options import EngineOptions
from evalkit.model.engine.pages import PAGE_TOKENS
from evalkit.model.hf.loading import load_model
from evalkit.model.hf.processor_loading import load_processor
from evalkit.types import Decoding, ImagePart, Message, PromptSpec, Request, Response, Shot, TextPart

LIMITS = (3, 130, 200, 40, 200, 160)


@pytest.fixture(autouse=True)
def pages_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers are kept in pages, too."""
    monkeypatch.setattr(admission, "LONG_ANSWER", 0)


def _backend(overlap: bool = False, in_place: bool = True, **settings: Any) -> HFBackend:
    checkpoint = resolve_checkpoint("tiny")
    model = load_model(checkpoint, device=torch.device("cpu"), dtype="float32")
    backend = HFBackend(model, load_processor(checkpoint), **settings)
    if backend.engine is not None:
        assert backend.engine.language.page_attention
        backend.engine.language.page_attention = in_place
        backend.engine.scheduler.async_scheduling = overlap
    return backend


def _engine(backend: HFBackend) -> Engine:
    assert backend.engine is not None
    return backend.engine


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Answers of 3 to 200 tokens, which are not ended before; several questions per image, few-shot, repeated, scored."""
    family, task = registry.families.get("qwen2.5-vl"), registry.tasks.get("vqav2")
    samples = list(task.load(open_data("tiny"), "val"))[:10]
    spec = PromptSpec("vqav2", task.kind)
    shots = [
        Shot(s, family.answer(spec, s, family.image_size(s.images[0].size()))) for s in samples[-2:] if s.references
    ]
    found = []
    for at, sample in enumerate(samples):
        limit = LIMITS[at % len(LIMITS)]
        decoding = Decoding(limit, limit)
        found.append(Request(f"zero-{at}", family.prompt(spec, sample), decoding))
        if at < 4:
            found.append(Request(f"shots-{at}", family.prompt(spec, sample, shots), decoding))
        if at < 2:
            found += [Request(f"repeat-{at}-{n}", family.prompt(spec, sample), decoding) for n in range(3)]
    question = (ImagePart(samples[0].images[0]), TextPart("What is it? A, B, C or D?"))
    found.append(Request("letters", (Message("user", question),), Decoding(1), ("A red one", "A blue one", "It")))
    drawn = Decoding(60, 60, temperature=1.5, seed=3)
    return [*found, Request("drawn", family.prompt(spec, samples[3]), drawn)]


@pytest.fixture(scope="module")
def alone(requests: list[Request]) -> dict[str, Response]:
    return {r.id: r for r in _backend(exact=True).generate(requests)}


def _same(found: Iterator[Response], alone: dict[str, Response]) -> None:
    responses = list(found)
    assert sorted(r.id for r in responses) == sorted(alone)  # once each
    for r in responses:
        one = alone[r.id]
        assert r.error is None
        assert (r.tokens, r.text, r.finish) == (one.tokens, one.text, one.finish), r.id
        assert (r.prompt_tokens, r.image_sizes) == (one.prompt_tokens, one.image_sizes), r.id


def _limit_pages(backend: HFBackend, pages: int) -> None:
    engine = _engine(backend)
    size = int(pages * engine.scheduler.running.paged.page_bytes / paged_cache.POOL_SHARE) + 1
    engine.scheduler.limits = replace(engine.limits, bytes=size)


def _nothing_is_left(engine: Engine) -> None:
    pool = engine.scheduler.running.paged.pool
    assert (pool.used, pool.end, len(engine.scheduler.running)) == (0, 0, 0)
    assert engine.scheduler.running.paged.tensors is None


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "gathered"])
@pytest.mark.parametrize(("rows", "overlap"), [(4, False), (64, False), pytest.param(5, True, marks=pytest.mark.slow)])
def test_same_tokens(
    rows: int, overlap: bool, in_place: bool, requests: list[Request], alone: dict[str, Response]
) -> None:
    backend = _backend(overlap, in_place, batch_size=rows)
    _same(backend.generate(requests), alone)
    _nothing_is_left(_engine(backend))


@pytest.mark.parametrize("pages", [8, pytest.param(14, marks=pytest.mark.slow), 20])
@pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])
def test_preemption_changes_no_token(
    pages: int, overlap: bool, requests: list[Request], alone: dict[str, Response]
) -> None:
    backend = _backend(overlap, batch_size=16)
    _limit_pages(backend, pages)
    engine = _engine(backend)
    running = engine.scheduler.running
    largest = 0
    grow = running.paged.grow

    def grown() -> None:
        nonlocal largest
        grow()
        largest = max(largest, running.paged.pool.used)

    running.paged.grow = grown  # type: ignore[method-assign]
    _same(backend.generate(requests), alone)
    assert engine.scheduler.admission.preemptions > 0
    assert 0.5 * pages < largest <= pages
    _nothing_is_left(engine)


def test_preempted_sequences_keep_their_tokens(requests: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    """A preempted sequence is prefilled with its tokens, not decoded again."""
    backend = _backend(batch_size=16)
    _limit_pages(backend, 12)
    engine = _engine(backend)
    steps = 0
    decode = engine.language.decode_paged

    def counted(ids: torch.Tensor, *given: Any) -> torch.Tensor:
        nonlocal steps
        steps += len(ids)
        return decode(ids, *given)

    monkeypatch.setattr(engine.language, "decode_paged", counted)
    asked = [r for r in requests if r.id.startswith("zero")]
    tokens = sum(len(r.tokens) for r in backend.generate(asked))
    assert engine.scheduler.admission.preemptions > 0
    assert steps <= tokens


def test_sequence_that_does_not_fit_alone_fails(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=8)
    needed = {key: -(-(r.prompt_tokens + len(r.tokens)) // PAGE_TOKENS) for key, r in alone.items()}
    pages = max(needed.values()) - 1
    _limit_pages(backend, pages)
    found = {r.id: r for r in backend.generate(requests)}
    failed = {key for key, r in found.items() if r.error is not None}
    assert 0 < len(failed) < len(found)
    assert all(needed[key] >= pages for key in failed)  # a shared prefix may need a page more
    assert all("room for" in str(found[key].error) or "are free" in str(found[key].error) for key in failed)
    assert all(found[key].tokens == alone[key].tokens for key in found.keys() - failed)
    _nothing_is_left(_engine(backend))


def test_finished_sequences_leave_at_once_and_others_join(requests: list[Request]) -> None:
    """With four rows, a waiting sequence is prefilled whenever one has finished."""
    backend = _backend(batch_size=4)
    engine = _engine(backend)
    rows: list[int] = []
    decode = engine.language.decode_paged

    def counted(ids: torch.Tensor, *given: Any) -> torch.Tensor:
        rows.append(len(ids))
        assert not any(sequence.finished for sequence in engine.scheduler.running.sequences)
        if engine.scheduler.waiting:
            assert len(ids) == 4
        return decode(ids, *given)

    engine.language.decode_paged = counted  # type: ignore[method-assign]
    list(backend.generate([r for r in requests if r.id.startswith("zero")]))
    assert rows.count(4) > 0.4 * len(rows)


def test_answers_are_yielded_when_they_are_finished(requests: list[Request]) -> None:
    backend = _backend(batch_size=64)
    asked = [r for r in requests if r.id.startswith("zero")]
    running = _engine(backend).scheduler.running
    found = [(len(r.tokens), len(running)) for r in backend.generate(asked)]
    limits = sorted(r.decoding.max_new_tokens for r in asked)
    assert found == [(limit, sum(other > limit for other in limits)) for limit in limits]


def test_shared_prefixes_are_held_once(requests: list[Request]) -> None:
    backend = _backend(batch_size=64)
    engine = _engine(backend)
    pool, used = engine.scheduler.running.paged.pool, []
    decode = engine.language.decode_paged

    def counted(*given: Any) -> torch.Tensor:
        used.append((pool.used, len(engine.scheduler.running)))
        return decode(*given)

    engine.language.decode_paged = counted  # type: ignore[method-assign]
    (one,) = [r for r in requests if r.id == "shots-1"]
    prompt = next(backend.generate([one])).prompt_tokens
    used.clear()
    list(backend.generate([replace(one, id=str(n)) for n in range(8)]))
    pages, rows = used[0]
    assert rows == 8
    assert pages <= -(-prompt // PAGE_TOKENS) + 8


def test_stopping_finishes_preempted_sequences(requests: list[Request], alone: dict[str, Response]) -> None:
    """They were running when the run was stopped."""
    backend = _backend(batch_size=4)
    _limit_pages(backend, 11)
    engine = _engine(backend)
    stop = Event()
    found, started = [], set()
    for response in backend.generate(requests, stop):
        found.append(response)
        if engine.scheduler.admission.preemptions and not stop.is_set():
            stop.set()
            started = {
                s.request.request.id
                for s in (*engine.scheduler.running.sequences, *engine.scheduler.waiting)
                if s.tokens
            }  # type: ignore[attr-defined]
    answered = {r.id for r in found}
    assert started - {"letters"} <= answered
    assert len(answered) < len(requests)
    assert all(r.tokens == alone[r.id].tokens for r in found)


def test_abandoned_run_leaves_nothing_behind(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=8)
    for _ in backend.generate(requests):
        break
    _same(backend.generate(requests), alone)
    gc.collect()
    _nothing_is_left(_engine(backend))


def test_out_of_memory_while_decoding_keeps_tokens(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=32)
    inner = backend.model.model.language_model.forward
    times = 0

    def few(*, inputs_embeds: torch.Tensor, **rest: Any) -> Any:
        nonlocal times
        if inputs_embeds.shape[1] == 1 and inputs_embeds.shape[0] > 9:
            times += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(inputs_embeds=inputs_embeds, **rest)

    backend.model.model.language_model.forward = few
    _same(backend.generate(requests), alone)
    assert times > 0
    _nothing_is_left(_engine(backend))


def test_nan_does_not_spread_through_reused_pages(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=4)
    engine = _engine(backend)
    decode, steps = engine.language.decode_paged, 0

    def poisoned(*given: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        cache = engine.scheduler.running.paged
        if steps in (5, 40):
            assert cache.tensors is not None
            page = int(cache._last[0])
            cache.tensors.store[:, :, page] = torch.nan
        return decode(*given)

    engine.language.decode_paged = poisoned  # type: ignore[method-assign]
    found = {r.id: r for r in backend.generate(requests)}
    failed = {key for key, r in found.items() if r.error is not None}
    assert 1 <= len(failed) <= 2
    assert all(found[key].tokens == alone[key].tokens for key in found.keys() - failed)


def test_paged_cache_can_be_switched_off(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=6, options=EngineOptions(paged_cache=False))
    _engine(backend).language.decode_paged = None  # type: ignore[assignment]
    _same(backend.generate(requests), alone)


def test_short_answers_use_the_contiguous_cache(
    requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LONG_ANSWER", 100)
    backend = _backend(batch_size=6)
    engine = _engine(backend)
    short = [r for r in requests if r.decoding.max_new_tokens <= 100]
    for asked, paged in ((short, False), (requests, True)):
        found = []
        for response in backend.generate(asked):
            found.append(response)
            assert engine.scheduler.running.uses_pages == paged
        _same(iter(found), {r.id: alone[r.id] for r in asked})


@pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])
def test_long_prompts_are_prefilled_in_parts_between_decode_steps(
    overlap: bool, requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "CHUNK", {"cpu": 24})
    backend = _backend(overlap, batch_size=5)
    engine = _engine(backend)
    events: list[str] = []
    decode, prefill = engine.language.decode_paged, engine.language.prefill

    def decoded(*given: Any) -> torch.Tensor:
        events.append("d")
        return decode(*given)

    def prefilled(segments: Any, *given: Any) -> Any:
        events.append("p")
        if engine.scheduler.running:
            assert sum(len(segment.ids) for segment in segments) <= 24 or len(segments) == 1
        return prefill(segments, *given)

    engine.language.decode_paged = decoded  # type: ignore[method-assign]
    engine.language.prefill = prefilled  # type: ignore[method-assign]
    _same(backend.generate(requests), alone)
    _nothing_is_left(engine)
    between = "".join(events)
    assert between.count("dpd") > 5
    started = between.index("d")
    assert between[started:].count("ppp") == 0


def test_parts_of_prompts_change_no_token_when_memory_is_short(
    requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "CHUNK", {"cpu": 24})
    backend = _backend(batch_size=16)
    _limit_pages(backend, 10)
    _same(backend.generate(requests), alone)
    assert _engine(backend).scheduler.admission.preemptions > 0
    _nothing_is_left(_engine(backend))
