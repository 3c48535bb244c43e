"""The run loop: samples → requests → responses → readings → scores, one task split at a time.

What is done with each answer (journal, progress) is the caller's: it gives callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event

from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import Backend, Family
from evalkit.jobs import Job, Question, Record
from evalkit.scoring import Result, score_job
from evalkit.types import (
    ImageRef,
    Prediction,
    Request,
    Response,
)

DIGESTING = 2  # threads that read images for their digests


class Stopped(Exception):
    """A job that was asked to stop before its last sample; what it had answered has been handed on."""


class ImageDigests:
    """Digests of images, worked out once each, ahead of being asked for, in threads of their own."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._pool = ThreadPoolExecutor(DIGESTING)
        self._coming: dict[str, Future[str]] = {}
        for request in requests:
            for image in request.images:
                if image.name not in self._coming:
                    self._coming[image.name] = self._pool.submit(image.digest)

    def __enter__(self) -> ImageDigests:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, request: Request) -> tuple[str | None, ...]:
        """A digest per image of ``request``; None for one that cannot be read."""
        return tuple(self._one(image) for image in request.images)

    def _one(self, image: ImageRef) -> str | None:
        try:
            return self._coming[image.name].result()
        except (OSError, ValueError):
            return None


def wrap_backend_error(job: Job, backend: str, error: Exception) -> Exception:
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
        raise wrap_backend_error(job, backend.name, error) from error


class Answers:
    """A job's answers, as they come in.

    Args:
        kept: records of answers from before.
        on_record: sees the record of each new answer.

    Attributes:
        pending: the requests that were not answered before.
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
        """One more.  Raises whatever ``on_record`` does."""
        question = self._questions[response.id]
        failed = response.finish == "error"
        prediction = (
            Prediction(None)
            if failed
            else self._family.parse(self.job.prompt_spec, response.text, response.image_sizes)
        )
        record = question.answered(response, prediction, self._digests.of(question.request))
        self._records[response.id] = record
        self._on_record(record)

    @property
    def complete(self) -> bool:
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
    digests: ImageDigests,
    kept: Mapping[str, Record] | None = None,
    stop: Event | None = None,
) -> Result:
    """Answer every sample of ``job`` that is not among ``kept``, and score them all.

    ``on_record`` sees each new answer as it arrives.  A sample whose image cannot be read, or whose request fails, is
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
    if answers.pending:
        with closing(
            _answers(answers.job, backend, answers.pending, stop)
        ) as responses:  # whatever happens, it ends here
            for response in responses:
                answers.add(response)
    return answers.result(backend.name, stop)
