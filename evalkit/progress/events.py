"""``--json``: events on stdout as JSON lines, and nothing else there.

Every object has an ``event``, and a ``time`` in UTC:

- ``start``, when a run begins: ``run`` (its folder), ``model``, ``tasks``, each with ``task``, ``split``, ``samples``.
- ``progress``, every few seconds, and ``task``, when a split has been answered: ``run``, ``task``, ``split``, ``done``
  of ``total`` samples, of which ``kept`` were answered before; ``unparsed``, ``errors``; ``seconds`` since the first
  request, ``samples_per_second``, ``tokens_per_second`` (prompts and answers); ``seconds_left``, estimated from
  ``left_by``: ``tokens`` or ``samples``; ``score`` so far, with ``metric``, ``value``, ``low``, ``high`` (95 %), or
  null if the metric needs all answers; ``memory_bytes``.  Unknown values are null.
- ``end``, always the last: the exit ``code``, the ``error`` message or null, and the ``runs``, each with its
  ``run``, ``model``, ``state`` (complete, incomplete, stopped) and ``results``, the rows that ``scores.json`` has.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from evalkit.errors import RunFailed, UserError
from evalkit.jobs import Job
from evalkit.results.store.files import to_json

from .counters import JobProgress

INTERRUPTED = 130


class Events:
    """Writes events.

    Attributes:
        code: the exit code so far.
        runs: entries of the ``end`` event.
    """

    def __init__(self, stream: TextIO) -> None:
        self.code = 0
        self.runs: list[dict[str, Any]] = []
        self._stream: TextIO | None = stream

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event.  A closed pipe is ignored, and the run continues."""
        if self._stream is None:
            return
        content = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        try:
            self._stream.write(json.dumps(json.loads(to_json(content))) + "\n")  # ASCII, for any encoding of stdout
            self._stream.flush()
        except BrokenPipeError:
            with suppress(OSError):  # or Python would complain when it flushes the stream at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream = None

    def judged(self, run: str, rows: list[dict[str, Any]], complete: bool) -> None:
        """Add the results of a judge to a run's entry."""
        for entry in self.runs:
            if entry["run"] == run:
                entry["results"] = [*entry["results"], *rows]
                entry["state"] = "complete" if complete else "incomplete"

    def emit_progress(self, event: str, run: str, job: Job, state: JobProgress) -> None:
        """Write the progress of a job."""
        score = state.score
        self.emit(
            event,
            run=run,
            task=job.task.name,
            split=job.split,
            done=state.done,
            total=state.total,
            kept=state.kept,
            unparsed=state.unparsed,
            errors=state.errors,
            seconds=round(state.seconds, 3),
            samples_per_second=_rounded(state.samples_per_second),
            tokens_per_second=_rounded(state.tokens_per_second),
            seconds_left=_rounded(state.left),
            left_by=None if state.left is None else "tokens" if state.by_tokens else "samples",
            score=None
            if score is None
            else {"metric": score.metric, "value": score.value, "low": score.low, "high": score.high},
            memory_bytes=state.memory,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@contextmanager
def json_events() -> Iterator[Events]:
    """Write events to stdout, redirect other output to stderr, and write the ``end`` event at the end."""
    events = Events(sys.stdout)
    error: str | None = None
    events.code = 1
    try:
        with redirect_stdout(sys.stderr):
            yield events
    except UserError as mistake:
        events.code, error = 2, str(mistake)
        raise
    except RunFailed as failure:
        error = str(failure)
        raise
    except KeyboardInterrupt:
        events.code, error = INTERRUPTED, "interrupted"
        raise
    except BaseException as fault:
        error = f"{type(fault).__name__}: {fault}"
        raise
    finally:
        events.emit("end", code=events.code, error=error, runs=events.runs)


def events_on_stdout(wanted: bool) -> Any:
    """Events for ``--json``; None if ``wanted`` is false."""
    return json_events() if wanted else nullcontext()
