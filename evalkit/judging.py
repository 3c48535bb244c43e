"""Verdicts: the questions of a judged metric, asked of a judge round by round, and what its replies say.

A question is an ordinary request.  It is identified by the judge, by its text (which contains the prompt and the
answer) and by its images; a log (``VerdictLog``) keeps the replies, so that none is asked for twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from evalkit.end_of_turn import ended, first_turn
from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import Backend, Family, JudgedMetric
from evalkit.jobs import Job, Record, prompt_digest
from evalkit.judged_contract import MOST_ROUNDS, new_questions
from evalkit.reasoning import split
from evalkit.run import ImageDigests, Stopped, raw_answer, wrap_backend_error
from evalkit.types import (
    Answered,
    Decoding,
    JudgedAnswer,
    JudgeQuestion,
    PromptSpec,
    Request,
    Response,
    Sample,
    Verdict,
)

SPEC = PromptSpec("judge", "vqa", verbatim=True)
"""A judge's reply is read as a text, without reasoning and special tokens."""


@dataclass(frozen=True)
class Judge:
    """A model that judges.

    Attributes:
        label: its name and the digest of its identity, ``NAME@DIGEST``.
        backend: opened when the first question is asked; None to use recorded verdicts only.
        thinking_limit: new tokens of a judge that thinks before it answers, where a prompt allows fewer; None if it
            does not think.
    """

    label: str
    family: Family
    backend: Backend | None
    thinking_limit: int | None = None

    @property
    def name(self) -> str:
        return self.label.rpartition("@")[0]


@dataclass(frozen=True)
class AskedQuestion:
    """A question about a sample's answer as a request.

    Attributes:
        prompt: the digest of the request's text.
        answer: the digest of the answer that is judged.
    """

    sample: Sample
    question: JudgeQuestion
    request: Request
    prompt: str
    answer: str

    @classmethod
    def of(cls, answered: Answered, question: JudgeQuestion, thinking_limit: int | None = None) -> AskedQuestion:
        """Greedy decoding, up to the prompt's token limit, or that of a judge that thinks."""
        decoding = Decoding(max(question.prompt.max_new_tokens, thinking_limit or 0))
        request = Request(f"{answered.sample.id}#{question.key}", question.messages, decoding)
        text = f"{question.prompt.name}\n{question.prompt.max_new_tokens}\n{prompt_digest(question.messages)}"
        return cls(answered.sample, question, request, _digest(text), _digest(str(answered.prediction.value)))


class VerdictLog(Protocol):
    """Keeps a judge's replies."""

    def kept(self, asked: Sequence[AskedQuestion], digests: ImageDigests) -> Mapping[str, Response]:
        """The replies to these questions from earlier, by the id of the request; those that failed are not."""

    def add(
        self, asked: AskedQuestion, response: Response, verdict: Verdict, digests: tuple[str | None, ...]
    ) -> object:
        """Keep a reply.  Raises ``RunFailed`` if it cannot be written."""


class NoLog:
    """Keeps nothing."""

    def kept(self, asked: Sequence[AskedQuestion], digests: ImageDigests) -> Mapping[str, Response]:
        return {}

    def add(
        self, asked: AskedQuestion, response: Response, verdict: Verdict, digests: tuple[str | None, ...]
    ) -> object:
        return None


@dataclass(frozen=True)
class Judgement:
    """The verdicts on a split's answers.

    Attributes:
        judge: its label.
        verdicts: by sample id and question key.
        missing: questions without a recorded verdict, where no judge could be asked.
    """

    judge: str
    verdicts: Mapping[str, Mapping[str, Verdict]]
    missing: int = 0

    def problem(self, sample: str) -> str:
        """Why a sample has no verdict; empty if it has all."""
        return next((verdict.problem for verdict in self.verdicts.get(sample, {}).values() if verdict.problem), "")

    def of(self, answers: Sequence[Answered]) -> list[JudgedAnswer]:
        """The answers with their verdicts, without those that have none."""
        return [
            JudgedAnswer(answered, self.verdicts.get(answered.sample.id, {}))
            for answered in answers
            if not self.problem(answered.sample.id)
        ]


def gather_verdicts(
    job: Job,
    metric: JudgedMetric,
    records: Sequence[Record],
    judge: Judge,
    log: VerdictLog,
    stop: Event | None = None,
) -> Judgement:
    """Ask the judge everything that the metric wants to know about the parsed answers among ``records``.

    Raises:
        Stopped: ``stop`` was set before the last reply.
        RunFailed: the judge's backend failed.
        UserError: the metric breaks its contract, or has no verdict recorded where no judge can be asked.
    """
    answers = [Answered(r.sample, r.prediction) for r in records if r.response.finish != "error"]
    open_answers = [answered for answered in answers if answered.prediction.parsed]
    verdicts: dict[str, dict[str, Verdict]] = {answered.sample.id: {} for answered in open_answers}
    missing = 0
    for _ in range(MOST_ROUNDS):
        asked: list[AskedQuestion] = []
        for answered in open_answers:
            known = verdicts[answered.sample.id]
            if not any(verdict.problem for verdict in known.values()):
                new = new_questions(metric, answered, known)
                asked += [AskedQuestion.of(answered, question, judge.thinking_limit) for question in new]
        if not asked:
            return Judgement(judge.label, verdicts, missing)
        found = _ask(job, asked, judge, log, stop)
        for one in asked:
            verdict = found.get(one.request.id)
            missing += verdict is None
            verdicts[one.sample.id][one.question.key] = verdict or Verdict(
                None, problem="error", error="there is no recorded verdict, and no judge to ask"
            )
    raise UserError(f"the metric {metric.name} has new questions after {MOST_ROUNDS} rounds; correct the metric.")


def _ask(
    job: Job, asked: Sequence[AskedQuestion], judge: Judge, log: VerdictLog, stop: Event | None
) -> dict[str, Verdict]:
    """The verdicts on the questions by the id of the request; without a backend, the recorded ones."""
    by_id = {one.request.id: one for one in asked}
    with ImageDigests(one.request for one in asked) as digests:
        kept = log.kept(asked, digests)
        found = {key: read_verdict(by_id[key].question, judge.family, response) for key, response in kept.items()}
        pending = [one.request for one in asked if one.request.id not in found]
        if judge.backend is None or not pending:
            return found
        with closing(_responses(job, judge.backend, pending, stop)) as responses:
            for response in responses:
                one = by_id[response.id]
                response = raw_answer(response, judge.family)
                verdict = read_verdict(one.question, judge.family, response)
                log.add(one, response, verdict, digests.of(one.request))
                found[response.id] = verdict
    lost = [request.id for request in pending if request.id not in found]
    if lost and stop is not None and stop.is_set():
        raise Stopped
    if lost:
        raise RunFailed(f"{job.name}: the judge {judge.name} answered no request {', '.join(lost[:3])}.")
    return found


def _responses(
    job: Job, backend: Backend, requests: Sequence[Request], stop: Event | None
) -> Generator[Response, None, None]:
    try:
        yield from backend.generate(requests, stop)
    except Exception as error:
        raise wrap_backend_error(job, backend.name, error) from error


def read_verdict(question: JudgeQuestion, family: Family, response: Response) -> Verdict:
    """What a raw reply says.  Nothing is guessed: a reply that the prompt's rule cannot read is a problem."""
    prompt, text = question.prompt, response.text
    if response.finish == "error":
        return Verdict(None, text, "error", response.error or "")
    turn = first_turn(text)
    if not split(turn, family.reasoning, ended=ended(text, response.finish)).complete or (
        response.finish == "length" and not prompt.leading
    ):
        return Verdict(None, text, "truncated")
    final = family.parse(SPEC, turn, ()).value
    value = prompt.read(final) if isinstance(final, str) else None
    if value is None:
        return Verdict(None, text, "unreadable")
    if prompt.scale is not None and not prompt.scale.holds(value):
        return Verdict(None, text, "out of range")
    return Verdict(value, text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
