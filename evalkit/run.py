"""The run loop: samples → requests → responses → predictions → scores, one task split at a time.

The caller handles each answer (journal, progress) through callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Event

from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import Backend, Family
from evalkit.jobs import Job, Question, Record, parse_answer
from evalkit.reasoning_tokens import with_opening
from evalkit.scoring import Result, score_job
from evalkit.types import (
    Media,
    Prediction,
    Request,
    Response,
)

DIGEST_THREADS = 2  # they read images for their digests


class Stopped(Exception):
    """A job was stopped before its last sample; its answers so far have been passed on."""


class ImageDigests:
    """Digests of images and videos, each computed once, ahead of time, in background threads."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._pool = ThreadPoolExecutor(DIGEST_THREADS)
        self._futures: dict[str, Future[str]] = {}
        for request in requests:
            for media in request.media:
                if media.name not in self._futures:
                    self._futures[media.name] = self._pool.submit(media.digest)

    def __enter__(self) -> ImageDigests:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, request: Request) -> tuple[str | None, ...]:
        """A digest per image of ``request``, then per video; None for an unreadable one."""
        return tuple(self._one(media) for media in request.media)

    def _one(self, media: Media) -> str | None:
        try:
            return self._futures[media.name].result()
        except (OSError, ValueError):
            return None


def wrap_backend_error(job: Job, backend: str, error: Exception) -> Exception:
    """The exception that ends a run after the backend raised ``error``."""
    if isinstance(error, (UserError, RunFailed)):
        return error
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return RunFailed(
        f"{job.name}: the backend {backend} failed: {type(error).__name__}: {reason}. "
        "Answers so far are saved; run the same command to resume."
    )


def _answers(
    job: Job, backend: Backend, requests: Sequence[Request], stop: Event | None
) -> Generator[Response, None, None]:
    try:
        yield from backend.generate(requests, stop)
    except (UserError, RunFailed):
        raise
    except Exception as error:
        raise wrap_backend_error(job, backend.name, error) from error


def raw_answer(response: Response, family: Family) -> Response:
    """The response with its text as it is recorded: reasoning that the prompt opened begins with its marker.

    The record then shows that the text is reasoning, even if the token limit cut it off.
    """
    return replace(response, text=with_opening(response.text, response.prompt_end, family.reasoning), prompt_end="")


class Answers:
    """Collects the answers of a job.

    Args:
        kept: records of earlier answers.
        on_record: called with the record of each new answer.

    Attributes:
        pending: the requests without an earlier answer.
    """

    def __init__(
        self,
        job: Job,
        questions: Mapping[str, Question],
        family: Family,
        on_record: Callable[[Record], None],
        *,
        digests: ImageDigests,
        kept: Mapping[str, Record] | None = None,
    ) -> None:
        self.job = job
        self._questions = questions
        self._family = family
        self._on_record = on_record
        self._digests = digests
        self._records = dict(kept or {})
        self.pending = [question.request for key, question in questions.items() if key not in self._records]

    def add(self, response: Response) -> None:
        """Add an answer.  Raises whatever ``on_record`` raises."""
        question = self._questions[response.id]
        response = raw_answer(response, self._family)
        failed = response.finish == "error"
        prediction = (
            Prediction(None)
            if failed
            else parse_answer(
                self._family,
                self.job.prompt_spec,
                question.sample,
                response.text,
                response.image_sizes,
                finish=response.finish,
            )
        )
        record = question.answered(response, prediction, self._digests.of(question.request))
        self._records[response.id] = record
        self._on_record(record)

    @property
    def complete(self) -> bool:
        """Whether all samples have answers."""
        return len(self._records) == len(self._questions)

    def result(self, backend: str, stop: Event | None = None) -> Result:
        """The score over all answers.

        Raises:
            Stopped: ``stop`` was set before the last sample.
            RunFailed: the backend did not answer all requests.
        """
        missing = [key for key in self._questions if key not in self._records]
        if missing and stop is not None and stop.is_set():
            raise Stopped
        if missing:
            raise RunFailed(f"{self.job.name}: the backend {backend} answered no request {', '.join(missing[:3])}.")
        return score_job(self.job, [self._records[key] for key in self._questions])


def run_job(
    job: Job,
    questions: Mapping[str, Question],
    family: Family,
    backend: Backend,
    on_record: Callable[[Record], None],
    *,
    digests: ImageDigests,
    kept: Mapping[str, Record] | None = None,
    stop: Event | None = None,
) -> Result:
    """Answer every sample of ``job`` that is not in ``kept``, and score all of them.

    ``on_record`` is called with each new answer as it arrives.  A sample whose image or request fails is recorded
    with its error and not scored.

    Raises:
        Stopped: ``stop`` was set before the last sample.
        RunFailed: the backend failed.
    """
    return answered(Answers(job, questions, family, on_record, digests=digests, kept=kept), backend, stop)


def answered(answers: Answers, backend: Backend, stop: Event | None = None) -> Result:
    """Let ``backend`` answer the pending requests, and score all answers.

    Raises:
        Stopped: ``stop`` was set before the last sample.
        RunFailed: the backend failed.
    """
    if answers.pending:
        with closing(
            _answers(answers.job, backend, answers.pending, stop)
        ) as responses:  # whatever happens, it ends here
            for response in responses:
                answers.add(response)
    return answers.result(backend.name, stop)
