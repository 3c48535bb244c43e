"""Continuations: ranked as a plain loop over prompt + option ranks them, at any batch size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit import registry
from evalkit.data import open_data
from evalkit.images import PathImage
from evalkit.model.backends.hf import HFBackend
from evalkit.model.hf.continuations import build_branches
from evalkit.types import Decoding, ImagePart, Message, PromptSpec, Request, TextPart

LETTERS = ("A", "B", "C", "D")
# One token and many, one the beginning of another, one twice.
PHRASES = ("red", "red circle", "a large green circle", "7", "42", "a blue square", "a blue triangle", "red")


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """20 questions on images of several sizes, half of them with lettered options, half with phrases."""
    task, family = registry.tasks.get("vqav2"), registry.families.get("qwen2.5-vl")
    samples = list(task.load(open_data("tiny"), "val"))[:20]
    return [
        Request(
            s.id,
            family.prompt(PromptSpec(task.name, task.kind), s),
            Decoding(1),
            LETTERS if n % 2 else PHRASES[n // 7 :],
        )
        for n, s in enumerate(samples)
    ]


def plain_loop(backend: HFBackend, request: Request) -> list[float]:
    """The mean cross-entropy of each option after the prompt, in one forward pass for each."""
    means = []
    for option in request.continuations:
        prompt = backend.inputs.prompt(request)
        inputs = backend.processor(text=[prompt], images=[request.images[0].load()], return_tensors="pt")
        ids = torch.tensor([backend.tokenizer(option, add_special_tokens=False)["input_ids"]])
        start = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1)
        with torch.inference_mode():
            logits = backend.model(**inputs).logits[0, start - 1 : -1]
        means.append(torch.nn.functional.cross_entropy(logits, ids[0]).item())
    return means


def mean_losses(backend: HFBackend, request: Request) -> list[float]:
    """The mean cross-entropy of each option, from all rows of the request in one batch."""
    found = {}
    for outcome in backend.plain.answer(backend.inputs.plan(request)):
        assert outcome.error is None
        assert not outcome.broken
        assert outcome.planned.branch is not None
        for (place, _), mean in zip(outcome.planned.branch.options, outcome.mean_losses, strict=True):
            found[place] = mean
    return [found[place] for place in range(len(found))]


def test_batch_sizes_agree_with_each_other_and_with_plain_loop(
    tiny_backend: HFBackend, requests: list[Request]
) -> None:
    means = {r.id: plain_loop(tiny_backend, r) for r in requests}
    best = {r.id: r.continuations[means[r.id].index(min(means[r.id]))] for r in requests}
    assert len(set(best.values())) > 4, "the answers differ among themselves"
    for size in (1, 3, 16):
        backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=size)
        responses = {r.id: r for r in backend.generate(requests)}
        assert {k: r.text for k, r in responses.items()} == best, f"batches of {size}"
        for request in requests:
            response = responses[request.id]
            assert response.finish == "stop"
            assert backend.tokenizer.decode(response.tokens) == response.text
            assert response.prompt_tokens == backend.inputs.plan(request)[0].tokens
            assert response.image_sizes[0].resized == (112, 112)


def test_cross_entropies_are_those_of_plain_loop(tiny_backend: HFBackend, requests: list[Request]) -> None:
    for request in requests[:4]:
        assert mean_losses(tiny_backend, request) == pytest.approx(plain_loop(tiny_backend, request), abs=1e-4)


def test_letters_need_one_sequence(tiny_backend: HFBackend, requests: list[Request]) -> None:
    (row,) = tiny_backend.inputs.plan(requests[1])
    assert row.branch is not None
    assert row.branch.forced == ()
    assert len(tiny_backend.inputs.plan(requests[0])) > 2


options = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8)


@given(options)
@settings(max_examples=300, deadline=None)
def test_branches_cover_every_option_once(given: list[tuple[int, ...]]) -> None:
    found = build_branches(given)
    assert sorted(o for row in found for o in row.options) == list(enumerate(given))
    for row in found:
        assert all(row.forced[: len(tokens) - 1] == tokens[:-1] for _, tokens in row.options)
    heads = [row.forced for row in found]
    assert all(a[: len(b)] != b for a in heads for b in heads if a is not b), "none could be read off another's row"


def test_equal_options_give_first(tiny_backend: HFBackend, requests: list[Request]) -> None:
    same = replace(requests[0], continuations=("red", "red"))
    (response,) = tiny_backend.generate([same])
    assert response.text == "red"
    first, second = mean_losses(tiny_backend, same)
    assert first == second


def test_mixed_with_generation(tiny_backend: HFBackend, requests: list[Request]) -> None:
    plain = [replace(r, id=f"{r.id}-free", continuations=(), decoding=Decoding(16)) for r in requests[:5]]
    apart = {r.id: r.text for batch in (requests, plain) for r in tiny_backend.generate(batch)}
    together = [x for pair in zip(requests, plain, strict=False) for x in pair] + requests[5:]
    assert {r.id: r.text for r in tiny_backend.generate(together)} == apart


def test_continuation_may_contain_stop_token(tiny_backend: HFBackend, requests: list[Request]) -> None:
    ending = replace(requests[0], continuations=("red<|im_end|>\nred", "red<|im_end|>\nblue"))
    assert mean_losses(tiny_backend, ending) == pytest.approx(plain_loop(tiny_backend, ending), abs=1e-4)


def test_not_number_is_error(tiny_backend: HFBackend, requests: list[Request]) -> None:
    hook = tiny_backend.model.lm_head.register_forward_hook(lambda *a: torch.full_like(a[2], torch.nan))
    try:
        answers = list(tiny_backend.generate(requests[:6]))
    finally:
        hook.remove()
    assert sorted(a.id for a in answers) == sorted(r.id for r in requests[:6]), "one response each"
    assert {a.finish for a in answers} == {"error"}
    assert "are NaN" in str(answers[0].error)


def test_out_of_memory_halves_batches_and_loses_nothing(
    tiny_backend: HFBackend, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=16)
    whole = {r.id: r.text for r in backend.generate(requests)}
    backend.release()
    generate = backend.model.generate
    tried: list[int] = []

    def cramped(*, input_ids: torch.Tensor, **options: Any) -> Any:
        tried.append(len(input_ids))
        if tried[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return generate(input_ids=input_ids, **options)

    monkeypatch.setattr(backend.model, "generate", cramped)
    answers = list(backend.generate(requests))
    assert {r.id: r.text for r in answers} == whole
    assert len(answers) == len(requests)
    assert tried[:4] == [16, 8, 4, 4]

    def full(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA oom")

    monkeypatch.setattr(backend.model, "generate", full)
    answers = list(backend.generate(requests[:3]))
    assert [r.finish for r in answers] == ["error"] * 3


def test_each_invalid_request_fails_once(tiny_backend: HFBackend, requests: list[Request], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(Path(requests[0].images[0].name).read_bytes()[:900])
    message = Message("user", (ImagePart(PathImage(str(tmp_path / "broken.jpg"))), TextPart("what?")))
    torn = Request("torn", (message,), Decoding(1), PHRASES)
    empty = replace(requests[0], id="empty", continuations=("A", ""))
    answers = {r.id: r for r in tiny_backend.generate([torn, requests[1], empty])}
    assert len(answers) == 3
    assert answers["torn"].finish == answers["empty"].finish == "error"
    assert "a continuation is empty" in str(answers["empty"].error)
    assert answers[requests[1].id].text in LETTERS


def test_stopping_answers_whole_requests_only(tiny_backend: HFBackend, requests: list[Request]) -> None:
    backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=2)
    whole = {r.id: r.text for r in backend.generate(requests)}
    stop = Event()
    answered = {}
    for response in backend.generate(requests, stop):
        answered[response.id] = response.text
        stop.set()
    assert 0 < len(answered) < len(requests)
    assert answered.items() <= whole.items()
    assert {r.id: r.text for r in backend.generate(requests)} == whole, "nothing is left over from before"
