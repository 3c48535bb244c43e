"""The engine against the model's own ``generate``, one sample at a time: the same tokens, however batches are cut."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from PIL import Image

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.images import RowImage
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine import compatibility
from evalkit.model.engine.kv_cache import KVCache
from evalkit.model.engine.kv_tensors import KVTensors
from evalkit.model.engine.language_model import TOLERANCE
from evalkit.model.engine.options import EngineOptions, Limits
from evalkit.model.engine.patches import attention
from evalkit.model.engine.patches.prefix_attention import prefix_attention
from evalkit.model.engine.sampler import SampledTokens
from evalkit.model.hf.loading import load_model
from evalkit.model.hf.processor_loading import load_processor
from evalkit.types import Decoding, ImagePart, Message, PromptSpec, Request, Response, Shot, TextPart, image_key


def _model() -> tuple[Any, Any]:
    checkpoint = resolve_checkpoint("tiny")
    return load_model(checkpoint, device=torch.device("cpu"), dtype="float32"), load_processor(checkpoint)


def _backend(overlap: bool = False, **settings: Any) -> HFBackend:
    """With ``overlap``, steps are launched before the previous step's tokens are read, as on a GPU."""
    backend = HFBackend(*_model(), **settings)
    assert settings.get("exact") or backend.unfit is None
    if overlap:
        assert backend.engine is not None
        backend.engine.scheduler.async_scheduling = True
    return backend


both = pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Zero-shot and few-shot (the same examples for all, and different ones), several questions per image, and options."""
    family = registry.families.get("qwen2.5-vl")
    found = []
    for name, split, decoding in (("refcoco", "testA", Decoding(40)), ("vqav2", "val", Decoding(12, 2))):
        task = registry.tasks.get(name)
        samples = list(task.load(open_data("tiny"), split))
        spec = PromptSpec(name, task.kind)
        image_size = family.image_size(samples[0].images[0].size())
        shots = [Shot(s, family.answer(spec, s, image_size)) for s in samples[-6:] if s.references]
        for at, sample in enumerate(samples[:10]):
            found.append(Request(f"{name}-{at}", family.prompt(spec, sample), decoding))
            if at < 4:
                found.append(Request(f"{name}-{at}-fixed", family.prompt(spec, sample, shots[:2]), decoding))
                found.append(Request(f"{name}-{at}-own", family.prompt(spec, sample, [shots[at % 3]]), decoding))
    letters = tuple("ABCD")
    for at, sample in enumerate(samples[:3]):
        messages = (Message("user", (ImagePart(sample.images[0]), TextPart(f"{sample.text} A, B, C or D?"))),)
        found.append(Request(f"letters-{at}", messages, Decoding(1), letters))
        found.append(Request(f"words-{at}", messages, Decoding(1), ("A red one", "A blue one", "It", "B")))
    found.append(Request("text", (Message("user", (TextPart("What is red?"),)),), Decoding(8)))
    return found


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


@pytest.mark.parametrize("share", [True, False], ids=["shared", "unshared"])
@pytest.mark.parametrize("rows", [1, 3, 16, 64])
def test_answers_do_not_depend_on_batch_size(
    rows: int, share: bool, requests: list[Request], alone: dict[str, Response]
) -> None:
    _same(_backend(batch_size=rows, options=EngineOptions(prefix_sharing=share)).generate(requests), alone)


@pytest.mark.parametrize(
    "off", ["token_budget", "continuous_batching", "packed_vision_attention", "packed_weights", "image_prefetch"]
)
def test_answers_do_not_depend_on_options(off: str, requests: list[Request], alone: dict[str, Response]) -> None:
    _same(_backend(batch_size=7, options=EngineOptions(**{off: False})).generate(requests), alone)


@pytest.mark.parametrize("rows", [3, 16])
def test_answers_do_not_depend_on_how_prefixes_are_read(
    rows: int, requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where attention cannot read them in place, or does so wrongly, they are copied."""
    read: list[bool] = []
    write = KVTensors.write_prefix

    def written(self: KVTensors, *arguments: Any) -> None:
        read.append(False)
        write(self, *arguments)

    def attend(*arguments: Any, **options: Any) -> torch.Tensor:
        read.append(True)
        return prefix_attention(*arguments, **options)

    monkeypatch.setattr(KVTensors, "write_prefix", written)
    monkeypatch.setattr(attention, "prefix_attention", attend)
    _same(_backend(batch_size=rows).generate(requests), alone)
    assert set(read) == {True}
    for wrong in (lambda *_, **__: 1 / 0, lambda *arguments, **options: 1.1 * prefix_attention(*arguments, **options)):
        monkeypatch.setattr(attention, "prefix_attention", wrong)
        read.clear()
        backend = _backend(batch_size=rows)
        assert backend.engine is not None
        assert not backend.engine.language.prefix_attention
        _same(backend.generate(requests), alone)
        assert set(read) == {False}


@pytest.mark.parametrize(("rows", "leave"), [(1, True), (3, True), (16, True), (64, True), (7, False)])
def test_answers_do_not_depend_on_async_scheduling(
    rows: int, leave: bool, requests: list[Request], alone: dict[str, Response]
) -> None:
    _same(_backend(True, batch_size=rows, options=EngineOptions(continuous_batching=leave)).generate(requests), alone)


def test_next_step_is_launched_before_tokens_are_read(requests: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for batches that sample at random: their tokens are read first."""
    events: list[str] = []
    fetch = SampledTokens.fetch

    def fetched(sampled: SampledTokens) -> Any:
        events.append("fetch")
        return fetch(sampled)

    monkeypatch.setattr(SampledTokens, "fetch", fetched)

    def run(asked: Sequence[Request]) -> list[str]:
        events.clear()
        backend = _backend(True, batch_size=64, max_batch_tokens=10**6)
        assert backend.engine is not None
        language = backend.engine.language
        plain = language.decode

        def step(*given: Any) -> torch.Tensor:
            events.append("step")
            return plain(*given)

        language.decode = step  # type: ignore[method-assign]
        list(backend.generate(asked))
        return list(events)

    free = [r for r in requests if not r.continuations and r.id.startswith("refcoco")]
    found = run(free)
    assert found[:4] == ["step", "fetch", "step", "fetch"]  # the first is read when the second has been launched
    assert found.count("fetch") - 1 <= found.count("step") <= found.count("fetch")
    drawn = replace(free[0], id="drawn", decoding=replace(free[0].decoding, temperature=1.0))
    assert run([drawn, *free])[:4] == ["fetch", "step", "fetch", "step"]


def test_first_slots_are_known_on_cpu(
    requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``first_slots`` agrees with ``valid``, however rows were appended, moved and copied to a larger cache."""
    seen = 0
    advance = KVTensors.advance

    def checked(cache: KVTensors, slots: int) -> None:
        nonlocal seen
        advance(cache, slots)
        valid = cache.valid[: cache.rows, : cache.filled]
        assert cache.first_slots[: cache.rows] == valid.int().argmax(1).tolist()
        assert bool(valid.any(1).all())
        seen += 1

    monkeypatch.setattr(KVTensors, "advance", checked)
    monkeypatch.setattr("evalkit.model.engine.kv_cache.SPARE_SLOTS", 4)
    _same(_backend(batch_size=6).generate(requests), alone)
    assert seen > 50


def test_windows_overlap(requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.model.hf.planning_thread.FIRST_WINDOW", 7)
    monkeypatch.setattr("evalkit.model.hf.planning_thread.WINDOW", 7)
    backend = _backend(batch_size=16)
    assert backend.engine is not None
    scheduler = backend.engine.scheduler
    live: list[int] = []
    add = scheduler.add

    def added(*given: Any) -> None:
        live.append(len(scheduler.running))
        add(*given)

    scheduler.add = added  # type: ignore[method-assign]
    _same(backend.generate(requests), alone)
    assert len(live) == -(-len(requests) // 7)
    # A plan may come too late now and then, on a busy machine.
    assert sum(rows > 0 for rows in live) > len(live) // 2


def test_out_of_memory_between_windows(
    requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences of two windows are put back and answered, once each."""
    monkeypatch.setattr("evalkit.model.hf.planning_thread.FIRST_WINDOW", 7)
    monkeypatch.setattr("evalkit.model.hf.planning_thread.WINDOW", 7)
    backend = _backend(True, batch_size=16)
    assert backend.engine is not None
    engine = backend.engine
    inner = backend.model.model.language_model.forward
    mixed = 0

    def few(*, inputs_embeds: torch.Tensor, **rest: Any) -> Any:
        nonlocal mixed
        if inputs_embeds.shape[1] == 1 and inputs_embeds.shape[0] > 7 and not mixed:
            mixed = len(engine.scheduler.running)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(inputs_embeds=inputs_embeds, **rest)

    backend.model.model.language_model.forward = few
    _same(backend.generate(requests), alone)
    assert mixed > 7


def test_small_token_budgets(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=16, max_batch_tokens=30)
    _same(backend.generate(requests), alone)


def test_plain_generate_in_batches(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=6)
    backend.release()
    _same(backend.generate(requests), alone)


def test_images_are_encoded_once(requests: list[Request]) -> None:
    backend = _backend(batch_size=16)
    encoded: list[int] = []
    inner = backend.model.model.visual.forward

    def count(pixels: torch.Tensor, grid_thw: torch.Tensor, **rest: Any) -> Any:
        encoded.append(len(grid_thw))
        return inner(pixels, grid_thw=grid_thw, **rest)

    backend.model.model.visual.forward = count
    list(backend.generate(requests))
    assert sum(encoded) == len({image.name for request in requests for image in request.images})


def test_image_in_several_data_rows_is_encoded_once(requests: list[Request], alone: dict[str, Response]) -> None:
    """As in the hub's VQAv2, which has a row with its own copy of the image per question."""
    rows: list[dict[str, Any]] = []

    def moved(part: Any) -> Any:
        if not isinstance(part, ImagePart):
            return part
        rows.append({"image": {"bytes": Path(part.image.name).read_bytes(), "path": None}})
        return ImagePart(RowImage(f"rows[{len(rows) - 1}]", rows, len(rows) - 1))

    asked = [
        replace(r, messages=tuple(replace(m, content=tuple(map(moved, m.content))) for m in r.messages))
        for r in requests
    ]
    backend = _backend(batch_size=16)
    encoded: list[int] = []
    inner = backend.model.model.visual.forward

    def count(pixels: torch.Tensor, grid_thw: torch.Tensor, **rest: Any) -> Any:
        encoded.append(len(grid_thw))
        return inner(pixels, grid_thw=grid_thw, **rest)

    backend.model.model.visual.forward = count
    _same(backend.generate(asked), alone)
    assert sum(encoded) == len({row["image"]["bytes"] for row in rows}) < len(rows)


def test_prefixes_are_computed_once(requests: list[Request]) -> None:
    """The language model computes the tokens of the tree, not those of all prompts.

    One sequence at a time, so that no padding is counted.
    """
    tokens = {True: 0, False: 0}
    for share in tokens:
        backend = _backend(batch_size=1, options=EngineOptions(prefix_sharing=share))
        inner = backend.model.model.language_model.forward

        def count(*, inputs_embeds: torch.Tensor, _inner: Any = inner, _share: bool = share, **rest: Any) -> Any:
            if inputs_embeds.shape[1] > 1:
                tokens[_share] += inputs_embeds.shape[0] * inputs_embeds.shape[1]
            return _inner(inputs_embeds=inputs_embeds, **rest)

        backend.model.model.language_model.forward = count
        list(backend.generate(requests))
    assert tokens[True] < 0.5 * tokens[False]


class _Full:
    """Makes a model run out of memory in forward passes with more than ``limit`` tokens."""

    def __init__(self, backend: HFBackend, limit: int) -> None:
        self.inner = backend.model.model.language_model.forward
        self.limit = limit
        self.times = 0
        backend.model.model.language_model.forward = self

    def __call__(self, *, inputs_embeds: torch.Tensor, **rest: Any) -> Any:
        if inputs_embeds.shape[0] * inputs_embeds.shape[1] > self.limit:
            self.times += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return self.inner(inputs_embeds=inputs_embeds, **rest)


@pytest.mark.parametrize("limit", [400, 150])
def test_out_of_memory_loses_nothing(
    limit: int, requests: list[Request], alone: dict[str, Response], caplog: pytest.LogCaptureFixture
) -> None:
    backend = _backend(batch_size=64)
    full = _Full(backend, limit)
    _same(backend.generate(requests), alone)
    assert 0 < full.times < 12  # it is remembered
    assert "out of memory with" in caplog.text
    assert backend.batch_size < 64


@both
def test_out_of_memory_while_decoding(overlap: bool, requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(overlap, batch_size=32)
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


@both
def test_out_of_memory_while_appending_rows(
    overlap: bool, requests: list[Request], alone: dict[str, Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the appended sequences is left behind: no token is counted twice."""
    monkeypatch.setattr("evalkit.model.engine.kv_cache.SPARE_SLOTS", 2)
    backend = _backend(overlap, batch_size=24)
    assert backend.engine is not None
    cache: KVCache = backend.engine.scheduler.running.cache
    append, times = cache.append, 0

    def full(*given: Any) -> None:
        nonlocal times
        if cache.tensors is not None:  # there are running sequences
            times += 1
            if times in (1, 3):
                raise torch.OutOfMemoryError("CUDA out of memory.")
        append(*given)

    cache.append = full  # type: ignore[method-assign]
    _same(backend.generate(requests), alone)
    assert times > 3


def test_request_that_does_not_fit_alone_fails(requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(batch_size=8, options=EngineOptions(prefix_sharing=False))
    longest = max(r.prompt_tokens for r in alone.values())
    _Full(backend, longest - 40)
    found = {r.id: r for r in backend.generate(requests)}
    failed = {key for key, r in found.items() if r.error is not None}
    assert 0 < len(failed) < len(found)
    assert all("memory" in str(found[key].error).lower() for key in failed)
    assert all(found[key].tokens == alone[key].tokens for key in found.keys() - failed)


def test_corrupt_image_fails_its_own_requests_only(
    requests: list[Request], alone: dict[str, Response], tmp_path: Any
) -> None:
    from evalkit.images import PathImage

    path = tmp_path / "torn.png"
    Image.radial_gradient("L").convert("RGB").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # the header is fine
    asked = [
        Request(
            f"torn-{n}", (Message("user", (ImagePart(PathImage(str(path))), TextPart(f"Question {n}?"))),), Decoding(4)
        )
        for n in range(3)
    ]
    found = {r.id: r for r in _backend(batch_size=16).generate([*requests[:5], *asked, *requests[5:]])}
    assert [found[r.id].finish for r in asked] == ["error"] * 3
    assert all("torn.png" in str(found[r.id].error) for r in asked)
    assert all(found[key].tokens == one.tokens for key, one in alone.items())


def test_stopping_finishes_running_sequences(requests: list[Request], alone: dict[str, Response]) -> None:
    stop = Event()
    found = []
    for response in _backend(batch_size=4).generate(requests, stop):
        found.append(response)
        if len(found) == 9:
            stop.set()
    assert 9 <= len(found) <= 9 + 4
    assert all(r.tokens == alone[r.id].tokens for r in found)


@both
def test_abandoned_run_leaves_nothing_behind(
    overlap: bool, requests: list[Request], alone: dict[str, Response]
) -> None:
    backend = _backend(overlap, batch_size=8)
    for _ in backend.generate(requests):
        break
    _same(backend.generate(requests), alone)


@both
def test_nan_fails_its_own_request_only(overlap: bool, requests: list[Request], alone: dict[str, Response]) -> None:
    backend = _backend(overlap, batch_size=16)
    assert backend.engine is not None
    broken = image_key(requests[0].images[0])
    features = backend.engine.encoder_cache.features

    def poisoned(wanted: Any, tokens: int) -> Any:
        return {k: torch.full_like(v, torch.nan) if k == broken else v for k, v in features(wanted, tokens).items()}

    backend.engine.encoder_cache.features = poisoned  # type: ignore[method-assign]
    found = {r.id: r for r in backend.generate(requests)}
    bad = {key for key, r in found.items() if r.error is not None}
    touched = {r.id for r in requests if broken in map(image_key, r.images)}
    assert bad == touched
    assert all(found[key].tokens == alone[key].tokens for key in found.keys() - bad)


@both
def test_memory_is_freed_after_run(overlap: bool, requests: list[Request]) -> None:
    """No keys or values of a run are left, without waiting for the garbage collector."""
    backend = _backend(overlap, batch_size=16)
    assert backend.engine is not None
    gc.collect()
    gc.disable()
    try:
        list(backend.generate(requests))
        _nothing_is_held(backend)
    finally:
        gc.enable()


def _nothing_is_held(backend: HFBackend) -> None:
    assert backend.engine is not None
    assert backend.engine.scheduler.running.cache.tensors is None
    assert not backend.engine.scheduler.running
    shape = backend.engine.language.shape
    caches = [
        t
        for t in gc.get_objects()
        if isinstance(t, torch.Tensor) and t.ndim == 6 and t.shape[0] == shape.layers and t.shape[3] == shape.heads
    ]
    assert caches == []


def test_limits() -> None:
    engine = _backend(batch_size=5, max_batch_tokens=700).engine
    assert engine is not None
    assert (engine.limits.rows, engine.limits.tokens) == (5, 700)
    assert isinstance(engine.limits, Limits)
    assert engine.limits.bytes > 2**20


def _asked(requests: list[Request], **how: Any) -> list[Request]:
    return [replace(r, decoding=replace(r.decoding, **how)) for r in requests if not r.continuations][:16]


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 1.5, "seed": 3},
        {"temperature": 2.0, "top_k": 3, "top_p": 0.8},
        {"num_beams": 3},
        {"stop": (",", "e")},
        {"repetition_penalty": 1.4, "presence_penalty": 0.5},
        {"repetition_penalty": 1.1, "presence_penalty": 1.5, "temperature": 0.7, "top_k": 20},
    ],
    ids=["drawn", "drawn from few", "beams", "stopped", "penalized", "drawn and penalized"],
)
def test_other_decoding_is_same_at_every_batch_size(how: dict[str, Any], requests: list[Request]) -> None:
    asked = _asked(requests, **how)
    alone = {r.id: r for r in _backend(exact=True).generate(asked)}
    greedy = {r.id: r for r in _backend(batch_size=16).generate(_asked(requests))}
    assert any(alone[key].text != r.text for key, r in greedy.items())
    for rows in (1, 5):
        _same(_backend(rows == 5, batch_size=rows).generate(asked), alone)
    if "stop" in how:
        assert not any(mark in r.text for r in alone.values() for mark in how["stop"])
        assert any(r.finish == "stop" and not greedy[r.id].text.endswith(r.text) for r in alone.values())


def test_random_sampling_follows_distribution_and_seed() -> None:
    from evalkit.model.hf.sampler import TokenSampler

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    how = Decoding(1, temperature=1.0)
    counts = torch.zeros(4)
    for n in range(4000):
        counts[TokenSampler(how, str(n)).sample(logits, ())] += 1
    assert torch.allclose(counts / 4000, logits.softmax(-1), atol=0.03)
    one, other = (TokenSampler(replace(how, seed=seed), "a") for seed in (0, 1))
    assert [one.sample(logits, ()) for _ in range(30)] != [other.sample(logits, ()) for _ in range(30)]
    few = TokenSampler(Decoding(1, temperature=1.0, top_k=3, top_p=0.7), "a")
    assert {few.sample(logits, ()) for _ in range(300)} == {0, 1}


def test_penalties_are_those_of_transformers_and_vllm() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    from evalkit.model.hf.sampler import TokenSampler

    torch.manual_seed(0)
    prompt, answer = [3, 3, 7, 60], []
    repetition = RepetitionPenaltyLogitsProcessor(1.3)
    sampler = TokenSampler(Decoding(1, repetition_penalty=1.3, presence_penalty=1.5), "a", prompt)
    for step in range(40):
        logits = torch.randn(64) * 3
        expected = repetition(torch.tensor([prompt + answer]), logits[None])[0]
        for token in set(answer):
            expected[token] -= 1.5
        if step == 20:  # as if its output were discarded
            sampler.restart()
        assert sampler.sample(logits, answer) == int(expected.argmax())
        answer = [] if step == 19 else [*answer, int(expected.argmax())]


def test_repetition_penalty_is_that_of_generate(requests: list[Request]) -> None:
    """Token by token, in float32, on the bundled checkpoint."""
    from evalkit.model.hf.processor import Inputs

    model, processor = _model()
    asked = _asked(requests, repetition_penalty=1.4)[:5]
    inputs = Inputs(processor)
    penalized = {r.id: r for r in HFBackend(model, processor, batch_size=3).generate(asked)}
    plain = {r.id: r for r in HFBackend(model, processor, batch_size=3).generate(_asked(requests))}
    assert any(penalized[r.id].tokens != plain[r.id].tokens for r in asked)
    for request in asked:
        prepared = inputs.prepare(inputs.plan(request)).inputs
        with torch.inference_mode():
            out = model.generate(
                **prepared, do_sample=False, repetition_penalty=1.4, max_new_tokens=request.decoding.max_new_tokens,
                min_new_tokens=request.decoding.min_new_tokens or None,
            )  # fmt: skip
        new = out[0, prepared["input_ids"].shape[1] :].tolist()
        tokens = list(penalized[request.id].tokens)
        assert tokens
        assert tokens == new[: len(tokens)]
        assert len(new) - len(tokens) <= 1  # the end of the turn


def test_decoding_to_dict() -> None:
    assert Decoding(8, 1).to_dict() == {"max_new_tokens": 8, "min_new_tokens": 1}
    assert Decoding(8, seed=5).to_dict() == {"max_new_tokens": 8, "min_new_tokens": 0}
    drawn = Decoding(8, temperature=0.5, seed=5, stop=("a",)).to_dict()
    assert drawn == {"max_new_tokens": 8, "min_new_tokens": 0, "temperature": 0.5, "seed": 5, "stop": ("a",)}


def test_tolerance_in_half_precision() -> None:
    checkpoint = resolve_checkpoint("tiny")
    model = load_model(checkpoint, device=torch.device("cpu"), dtype="bfloat16")
    engine = HFBackend(model, load_processor(checkpoint)).engine
    assert engine is not None
    assert TOLERANCE[torch.bfloat16] <= engine.language.tolerance <= compatibility.MAX_TOLERANCE
    full_precision = _backend(batch_size=4).engine
    assert full_precision is not None
    assert full_precision.language.tolerance == TOLERANCE[torch.float32]
