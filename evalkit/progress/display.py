"""Progress display of ``evalkit run``.

On a terminal, a few live lines; elsewhere, one line per minute; with ``--json``, events (``events.py``).  A line for
each finished split is always printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evalkit.interfaces import Backend
from evalkit.jobs import Job, Record
from evalkit.types import Request, Size

from .counters import JobCounters, JobProgress, duration
from .events import Events

LINE_EVERY_SECONDS = 60.0
EVENT_EVERY_SECONDS = 5.0
UPDATE_EVERY_SECONDS = 1.0
"""Interval of updating memory use and running score."""
SHOWN = 6
"""Concurrent jobs that get their own lines."""
WIDE = 60
"""Terminal width from which on a bar is shown."""


class Reporter:
    """Reports the progress of a run's jobs.

    Args:
        run: the run's name, for events.

    Attributes:
        ended: the last state of each job that has ended, by name.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], run: str = "", events: Events | None = None) -> None:
        self.console = console
        self.jobs = list(jobs)
        self.run = run
        self.events = events
        self.ended: dict[str, JobProgress] = {}
        self._started: set[int] = set()
        self._active: list[tuple[str, JobCounters]] = []  # of the active jobs, with their names
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Reporter:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._active.clear()
            self._live.stop()

    @contextmanager
    def track(
        self, job: Job, kept: Collection[Record], sizes: Mapping[str, Size], *, run: str = "", model: str = ""
    ) -> Iterator[Watch]:
        """Report the progress of ``job`` until the context ends.

        Args:
            kept: answers from earlier.
            sizes: known image sizes, by name.
            run, model: given if several runs are active.
        """
        counters = JobCounters(job, kept, sizes)
        run, name = run or self.run, f"{model} {job.name}".strip()
        self._started.add(id(job))
        self._active.append((name, counters))
        began = time.monotonic()
        printed = emitted = updated = began

        def begin(requests: Sequence[Request], backend: Backend) -> None:
            nonlocal printed, emitted
            counters.begin(requests, backend)
            printed = emitted = time.monotonic()

        def add(record: Record) -> None:
            nonlocal printed, emitted, updated
            counters.add(record)
            now = time.monotonic()
            if now - updated < UPDATE_EVERY_SECONDS:
                return
            counters.update()
            updated = now
            if self._live is None and now - printed >= LINE_EVERY_SECONDS:
                printed = now
                self._print(f"{name}: {line(counters.progress())}")
            if self.events is not None and now - emitted >= EVENT_EVERY_SECONDS:
                emitted = now
                self.events.emit_progress("progress", run, job, counters.progress())

        try:
            yield Watch(begin, add)
        finally:
            self._active.remove((name, counters))
        counters.update(ended=True)
        self.report_end(job, counters.progress(), run=run, model=model)

    def report_end(self, job: Job, state: JobProgress, *, run: str = "", model: str = "") -> None:
        """Report that all samples of ``job`` have answers."""
        self.ended[job.name] = state
        self._print(f"{model} {job.name}: ".lstrip() + last_line(state))
        if self.events is not None:
            self.events.emit_progress("task", run or self.run, job, state)

    def _print(self, message: str) -> None:
        self.console.print(message, soft_wrap=self._live is None)

    # -------------------------------------------------------------------------------------------------- on a terminal

    def render(self) -> RenderableType:
        """What a terminal shows: the active splits, and the names of those to come."""
        lines = [
            line for name, counters in self._active[:SHOWN] for line in self._render_split(name, counters.progress())
        ]
        others = [name for name, _ in self._active[SHOWN:]]
        after = [*others, *(job.name for job in self.jobs if id(job) not in self._started)]
        if lines and after:
            then = f"  {'and' if others else 'then'} {', '.join(dict.fromkeys(after))}"
            lines.append(Text(then, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _render_split(self, name: str, state: JobProgress) -> list[RenderableType]:
        width = self.console.width
        top = Table.grid(expand=True, padding=(0, 1))
        top.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, width // 3))
        cells: list[RenderableType] = [Text(name, style="bold")]
        if width >= WIDE:
            top.add_column(ratio=1)
            cells.append(ProgressBar(total=max(1, state.total), completed=state.done))
        top.add_column(no_wrap=True, justify="right")
        top.add_column(no_wrap=True, justify="right")
        top.add_row(*cells, f"{state.done:,}/{state.total:,}", state.time_left)
        lines: list[RenderableType] = [top]
        if state.done:
            phrases = [*state.speed, *state.occupied, *([f"{state.score} so far"] if state.score else [])]
            trouble = [Text(phrase, style="yellow") for phrase in state.trouble]
            lines.append(joined([*map(Text, phrases), *trouble], width))
        return lines


class Watch:
    """Callbacks of a job: ``begin`` when the model is loaded, ``add`` with each new answer."""

    def __init__(self, begin: Callable[[Sequence[Request], Backend], None], add: Callable[[Record], None]) -> None:
        self.begin = begin
        self.add = add


def joined(phrases: Sequence[Text], width: int) -> Text:
    """Join phrases with commas, in indented lines of at most ``width`` columns, broken between phrases only."""
    lines = [Text("  ")]
    for place, phrase in enumerate(phrases):
        phrase = phrase if place == len(phrases) - 1 else phrase + ","
        if len(lines[-1]) > 2 and len(lines[-1]) + 1 + len(phrase) > width:
            lines.append(Text("  "))
        lines[-1] += phrase if len(lines[-1]) == 2 else Text(" ") + phrase
    return Text("\n").join(lines)


def line(state: JobProgress) -> str:
    """The progress of a job in one line."""
    score = [f"{state.score} so far"] if state.score is not None else []
    left = [state.time_left] if state.time_left else []
    phrases = [*left, *state.speed, *score, *state.trouble, *state.occupied]
    return f"{state.done:,} of {state.total:,}" + "".join(f", {phrase}" for phrase in phrases)


def last_line(state: JobProgress) -> str:
    """The result of a job in one line."""
    before = f", {state.kept:,} resumed" if state.kept else ""
    score = [str(state.score)] if state.score is not None else []
    details = ", ".join([*score, *state.speed, *state.trouble, *state.occupied])
    took = f"{state.seconds:.1f} s" if state.seconds < 90 else duration(state.seconds)
    return f"{state.new:,} answered in {took}{before}" + (f"; {details}" if details else "")
