"""The run loop: samples → requests → responses → readings → scores, one task split at a time.

What is done with each answer (journal, progress) is the caller's: it gives callbacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Protocol, runtime_checkable

from evalkit import registry
from evalkit.data import Data
from evalkit.errors import RunFailed, UserError
from evalkit.fingerprint import of_samples
from evalkit.jsonl_task import OwnTask, is_own, read_own
from evalkit.task_groups import expand
from evalkit.types import (
    Answered,
    Ask,
    Backend,
    Decoding,
    Family,
    ImageRef,
    Message,
    Picture,
    Ranks,
    Reading,
    Request,
    Response,
    Sample,
    Scores,
    Shot,
    Task,
)  # fmt: skip

OFFICIAL = "official"
GENERATE, LOGLIKELIHOOD = "generate", "loglikelihood"
DIGESTING = 2  # threads that read pictures for their digests


@dataclass(frozen=True)
class Record:
    """One answered sample, as it goes into the journal.

    Attributes:
        images: the pictures of the request, those of exemplars first; with a digest each, None where there is none.
        shots: the ids of the exemplars.
    """

    sample: Sample
    prompt_digest: str
    response: Response
    reading: Reading
    images: tuple[ImageRef, ...] = ()
    image_digests: tuple[str | None, ...] = ()
    shots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A sample with what is asked for it; ``shots`` are the ids of its exemplars."""

    sample: Sample
    request: Request
    shots: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """A digest of what is asked: roles, texts and continuations in order, pictures as placeholders."""
        return prompt_digest(self.request.messages, self.request.continuations)

    def answered(self, response: Response, reading: Reading, digests: tuple[str | None, ...]) -> Record:
        """The record of an answer."""
        return Record(self.sample, self.digest, response, reading, self.request.images, digests, self.shots)


@dataclass(frozen=True)
class Job:
    """One split of a task, its samples chosen from the ``whole``.

    ``asked`` is what the signature says of how it was asked; empty where answers come from elsewhere.  ``how`` holds
    what of the decoding is not to be as the protocol has it.
    """

    task: Task
    split: str
    samples: Sequence[Sample]
    limited: bool
    whole: Sequence[Sample] = ()
    protocol: str = OFFICIAL
    choice: str = GENERATE
    asked: str = ""
    how: Mapping[str, Any] = field(default_factory=dict)

    def decoding(self, family: Family) -> Decoding:
        """How its answers are generated.  Raises ``UserError`` where the protocol does not ask so."""
        decoding = replace(family.decoding(self.ask, self.task.decoding), **self.how)
        if decoding.min_new_tokens > decoding.max_new_tokens:
            raise UserError(
                f"{self.name}: {decoding.max_new_tokens} new tokens at most are fewer than the "
                f"{decoding.min_new_tokens} that the protocol {self.protocol} asks for at least."
            )
        return decoding

    @property
    def name(self) -> str:
        return f"{self.task.name}/{self.split}"

    @property
    def ask(self) -> Ask:
        """How the task is asked."""
        return Ask(self.task.name, self.task.kind, self.protocol, self.choice)

    @cached_property
    def annotations(self) -> str:
        """A digest of the whole split's questions and references, whatever was chosen of them."""
        return of_samples(self.whole)

    @property
    def reference(self) -> str:
        """What ``--tasks`` calls it, from any folder: a file of one's own by its absolute path."""
        return str(self.task.path) if isinstance(self.task, OwnTask) else self.name


@runtime_checkable
class Submits(Protocol):
    """A task with splits whose answers are not public: it writes the file that the official server scores."""

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(the file's name, its content).

        Every sample of the split is there in the official order, those without an answer with the reading None:
        servers refuse a file that leaves questions out.
        """
        ...


@runtime_checkable
class HasResults(Protocol):
    """A task whose official scorer reads answers from a file, also where the references are public."""

    def results(self, answers: Sequence[Answered]) -> str:
        """The file's content: every answer in the official order, "" where nothing could be read."""
        ...


@dataclass(frozen=True)
class Submission:
    """What stands for a score where a split's answers are not public."""

    file: str
    content: str


@dataclass(frozen=True)
class Result:
    """What a job came to.

    Attributes:
        scores: the metric's verdict; None where the split's answers are not public.
        submission: the file for the official server, in the score's stead.
        n: samples scored; those with ``errors`` are not among them.
        unparsed: answers in which nothing could be read; they count as wrong.
        truncated: answers cut off by the token limit.
    """

    job: Job
    scores: Scores | None
    n: int
    unparsed: int
    truncated: int
    errors: int
    seconds: float
    clusters: dict[str, str] = field(default_factory=dict)
    submission: Submission | None = None

    @property
    def complete(self) -> bool:
        return self.errors == 0


def parse_tasks(names: Iterable[str], splits: Sequence[str] = (), kind: str | None = None) -> list[tuple[Task, str]]:
    """``refcoco`` is its default splits, ``refcoco/testA`` one of them; ``splits`` narrows the bare names.

    A group's name stands for its members (``evalkit.task_groups``).  A name that ends in ``.jsonl`` is a custom
    task file (``evalkit.jsonl_task``), and ``kind`` what it holds.

    Raises:
        UserError: an unknown task or split, or a file that is not as expected.
    """
    found: list[tuple[Task, str]] = []
    for name in expand(names):
        task, wanted = _own(name, kind, found) if is_own(name) else _named(name, splits)
        for split in wanted:
            if not any(t.name == task.name and s == split for t, s in found):
                found.append((task, split))
    if not found:
        raise UserError(
            "no task was named: give --tasks, for example --tasks refcoco,vqav2 ('evalkit tasks' lists them)."
        )
    if kind is not None and not any(isinstance(task, OwnTask) for task, _ in found):
        raise UserError(f"--kind {kind}: it says what --tasks FILE.jsonl holds, and no such file is named.")
    return found


def _named(name: str, splits: Sequence[str]) -> tuple[Task, Sequence[str]]:
    bare, slash, one = name.partition("/")
    task = registry.tasks.get(bare)
    wanted = [one] if slash else list(splits or task.default_splits)
    for split in wanted:
        if split not in task.splits:
            raise UserError(f"task {task.name} has no split {split!r}: there are {', '.join(task.splits)}.")
    return task, wanted


def _own(name: str, kind: str | None, found: Sequence[tuple[Task, str]]) -> tuple[Task, Sequence[str]]:
    task = read_own(Path(name), kind)
    for other, _ in found:
        if isinstance(other, OwnTask) and other.name == task.name and other.path != task.path:
            raise UserError(f"--tasks: {other.path} and {task.path} would both be called {task.name}; rename one.")
    return task, task.default_splits


def choose(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` samples, drawn by the hash of (seed, id): a larger limit keeps those of a smaller one."""
    if limit is None or limit >= len(samples):
        return list(samples)

    def order(sample: Sample) -> bytes:
        return hashlib.blake2b(f"{seed}/{sample.id}".encode(), digest_size=8).digest()

    drawn = {s.id for s in sorted(samples, key=order)[:limit]}
    return [s for s in samples if s.id in drawn]


def way_to_choose(wanted: str | None, family: Family, protocol: str) -> str:
    """How lettered questions are answered: as ``wanted``, else as the family's models are under the protocol."""
    if wanted is not None:
        return wanted
    return LOGLIKELIHOOD if protocol == OFFICIAL and isinstance(family, Ranks) and family.ranks_letters else GENERATE


def load_job(
    task: Task,
    split: str,
    data: Data,
    *,
    limit: int | None,
    seed: int,
    protocol: str = OFFICIAL,
    choice: str = GENERATE,
    how: Mapping[str, Any] | None = None,
) -> Job:
    """Read a split's samples.  Raises ``UserError`` for wrong files or repeated sample ids."""
    if not task.splits[split].answers:
        _submitter(task, split)  # that nothing could be written is said before anything is generated
    samples = list(task.load(data, split))
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise UserError(
                f"{task.name}/{split}: sample id {sample.id} occurs twice in {data.name}; the files are damaged."
            )
        seen.add(sample.id)
    chosen = choose(samples, limit, seed)
    return Job(
        task,
        split,
        chosen,
        limited=len(chosen) < len(samples),
        whole=samples,
        protocol=protocol,
        choice=choice,
        how=how or {},
    )


def prompt_digest(messages: Sequence[Message], continuations: Sequence[str] = ()) -> str:
    """A digest of what is asked: roles, texts and continuations in order, pictures as placeholders."""
    state = hashlib.sha256()
    for message in messages:
        state.update(f"\x1e{message.role}".encode())
        for part in message.content:
            state.update(b"\x1f" if isinstance(part, Picture) else f"\x1d{part.text}".encode(errors="surrogatepass"))
    for text in continuations:
        state.update(f"\x1c{text}".encode(errors="surrogatepass"))
    return state.hexdigest()[:16]


class Stopped(Exception):
    """A job that was asked to stop before its last sample; what it had answered has been handed on."""


class PictureDigests:
    """Digests of pictures, worked out once each, ahead of being asked for, in threads of their own."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._pool = ThreadPoolExecutor(DIGESTING)
        self._coming: dict[str, Future[str]] = {}
        for request in requests:
            for image in request.images:
                if image.name not in self._coming:
                    self._coming[image.name] = self._pool.submit(image.digest)

    def __enter__(self) -> PictureDigests:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, request: Request) -> tuple[str | None, ...]:
        """A digest per picture of ``request``; None for one that cannot be read."""
        return tuple(self._one(image) for image in request.images)

    def _one(self, image: ImageRef) -> str | None:
        try:
            return self._coming[image.name].result()
        except (OSError, ValueError):
            return None


def ask_all(
    job: Job, family: Family, shots: Callable[[Sample], Sequence[Shot]] = lambda sample: ()
) -> dict[str, Question]:
    """What is asked for each of ``job``'s samples, by sample id; ``shots`` gives the exemplars that stand before it.

    Raises:
        UserError: the family does not say how the task is asked, or there are not enough exemplars.
    """
    ask = job.ask
    decoding = job.decoding(family)
    ranked = ask.kind == "choice" and ask.choice == LOGLIKELIHOOD
    questions = {}
    for sample in job.samples:
        before = tuple(shots(sample))
        request = Request(
            sample.id,
            family.prompt(ask, sample, before),
            decoding,
            family.continuations(ask, sample) if ranked else (),
        )
        questions[sample.id] = Question(sample, request, tuple(shot.sample.id for shot in before))
    return questions


def as_a_run_fails(job: Job, backend: str, error: Exception) -> Exception:
    """What a run ends with, where ``error`` came out of a backend."""
    if isinstance(error, (UserError, RunFailed)):
        return error
    said = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return RunFailed(
        f"{job.name}: the backend {backend} failed: {type(error).__name__}: {said}; "
        "what was answered is kept, and the same command continues."
    )


def _answers(
    job: Job, backend: Backend, requests: Sequence[Request], stop: Event | None
) -> Generator[Response, None, None]:
    try:
        yield from backend.generate(requests, stop)
    except (UserError, RunFailed):
        raise
    except Exception as error:
        raise as_a_run_fails(job, backend.name, error) from error


class Answers:
    """A job's answers, as they come in.

    Args:
        kept: records of answers from before.
        on_record: sees the record of each new answer.

    Attributes:
        todo: the requests that were not answered before.
    """

    def __init__(
        self,
        job: Job,
        questions: Mapping[str, Question],
        family: Family,
        on_record: Callable[[Record], None],
        *,
        digests: PictureDigests,
        kept: Mapping[str, Record] | None = None,
    ) -> None:
        self.job = job
        self._questions = questions
        self._family = family
        self._on_record = on_record
        self._digests = digests
        self._records = dict(kept or {})
        self.todo = [question.request for key, question in questions.items() if key not in self._records]

    def take(self, response: Response) -> None:
        """One more.  Raises whatever ``on_record`` does."""
        question = self._questions[response.id]
        failed = response.finish == "error"
        reading = Reading(None) if failed else self._family.read(self.job.ask, response.text, response.frames)
        record = question.answered(response, reading, self._digests.of(question.request))
        self._records[response.id] = record
        self._on_record(record)

    @property
    def whole(self) -> bool:
        """Whether every sample has an answer."""
        return len(self._records) == len(self._questions)

    def result(self, backend: str, stop: Event | None = None) -> Result:
        """The score of them all.

        Raises:
            Stopped: ``stop`` was set before the last sample.
            RunFailed: the backend left requests out.
        """
        missing = [s.id for s in self.job.samples if s.id not in self._records]
        if missing and stop is not None and stop.is_set():
            raise Stopped
        if missing:
            raise RunFailed(f"{self.job.name}: the backend {backend} answered no request {', '.join(missing[:3])}.")
        return score_job(self.job, [self._records[s.id] for s in self.job.samples])


def run_job(
    job: Job,
    questions: Mapping[str, Question],
    family: Family,
    backend: Backend,
    on_record: Callable[[Record], None],
    *,
    digests: PictureDigests,
    kept: Mapping[str, Record] | None = None,
    stop: Event | None = None,
) -> Result:
    """Answer every sample of ``job`` that is not among ``kept``, and score them all.

    ``on_record`` sees each new answer as it arrives.  A sample whose picture cannot be read, or whose request fails, is
    recorded with its error and not scored.

    Raises:
        Stopped: ``stop`` was set before the last sample.
        RunFailed: the backend failed.
    """
    return answered(Answers(job, questions, family, on_record, digests=digests, kept=kept), backend, stop)


def answered(answers: Answers, backend: Backend, stop: Event | None = None) -> Result:
    """Have ``backend`` answer what is to be answered, and score all of it.

    Raises:
        Stopped: ``stop`` was set before the last sample.
        RunFailed: the backend failed.
    """
    if answers.todo:
        with closing(_answers(answers.job, backend, answers.todo, stop)) as responses:  # whatever happens, it ends here
            for response in responses:
                answers.take(response)
    return answers.result(backend.name, stop)


def score_job(job: Job, records: Sequence[Record]) -> Result:
    """Score a job's records with its task's metric; where the answers are not public, write the submission instead."""
    good = [r for r in records if r.response.finish != "error"]
    public = job.task.splits[job.split].answers
    metric = registry.metrics.get(job.task.metric)
    return Result(
        job=job,
        scores=metric.score([Answered(r.sample, r.reading) for r in good]) if public else None,
        n=len(good),
        unparsed=sum(not r.reading.parsed for r in good),
        truncated=sum(r.response.finish == "length" for r in good),
        errors=len(records) - len(good),
        seconds=sum(r.response.seconds for r in records),
        clusters={r.sample.id: r.sample.cluster for r in good},
        submission=None if public else submit(job, records),
    )


def submit(job: Job, records: Sequence[Record]) -> Submission:
    """The file for the official server of a split without public answers."""
    task = _submitter(job.task, job.split)
    return Submission(*task.submission([Answered(r.sample, r.reading) for r in records]))


def _submitter(task: Task, split: str) -> Submits:
    if not isinstance(task, Submits):
        raise UserError(
            f"{task.name}/{split}: its answers are not public, and the task writes no file for the official server."
        )
    return task
