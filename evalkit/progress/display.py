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

from .counters import State, Tally, duration
from .events import Events

LINE_EVERY_SECONDS = 60.0
EVENT_EVERY_SECONDS = 5.0
LOOK_EVERY_SECONDS = 1.0
"""Interval of updating memory use and running score."""
SHOWN = 6
"""Concurrent jobs that get their own lines."""
WIDE = 60
"""Terminal width from which on a bar is shown."""


class Reporter:
    """Reports the progress of a run's jobs.

    Args:
        run: the run's name, for events.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], run: str = "", events: Events | None = None) -> None:
        self.console = console
        self.jobs = list(jobs)
        self.run = run
        self.events = events
        self._begun: set[int] = set()
        self._tallies: list[tuple[str, Tally]] = []  # of the active jobs, with their names
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Reporter:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._tallies.clear()
            self._live.stop()

    @contextmanager
    def of(
        self, job: Job, kept: Collection[Record], sizes: Mapping[str, Size], *, run: str = "", model: str = ""
    ) -> Iterator[Watch]:
        """Report the progress of ``job`` until the context ends.

        Args:
            kept: answers from earlier.
            sizes: known image sizes, by name.
            run, model: given if several runs are active.
        """
        tally = Tally(job, kept, sizes)
        run, name = run or self.run, f"{model} {job.name}".strip()
        self._begun.add(id(job))
        self._tallies.append((name, tally))
        began = time.monotonic()
        spoken = informed = looked = began

        def begin(requests: Sequence[Request], backend: Backend) -> None:
            nonlocal spoken, informed
            tally.begin(requests, backend)
            spoken = informed = time.monotonic()

        def seen(record: Record) -> None:
            nonlocal spoken, informed, looked
            tally.add(record)
            now = time.monotonic()
            if now - looked < LOOK_EVERY_SECONDS:
                return
            tally.update()
            looked = now
            if self._live is None and now - spoken >= LINE_EVERY_SECONDS:
                spoken = now
                self._say(f"{name}: {line(tally.state())}")
            if self.events is not None and now - informed >= EVENT_EVERY_SECONDS:
                informed = now
                self.events.state("progress", run, job, tally.state())

        try:
            yield Watch(begin, seen)
        finally:
            self._tallies.remove((name, tally))
        tally.update(ended=True)
        self._say(f"{name}: {last_line(tally.state())}")
        if self.events is not None:
            self.events.state("task", run, job, tally.state())

    def _say(self, sentence: str) -> None:
        self.console.print(sentence, soft_wrap=self._live is None, markup=False)

    # -------------------------------------------------------------------------------------------------- on a terminal

    def render(self) -> RenderableType:
        """What a terminal shows: the active splits, and the names of those to come."""
        lines = [line for name, tally in self._tallies[:SHOWN] for line in self._render_split(name, tally.state())]
        others = [name for name, _ in self._tallies[SHOWN:]]
        after = [*others, *(job.name for job in self.jobs if id(job) not in self._begun)]
        if lines and after:
            then = f"  {'and' if others else 'then'} {', '.join(dict.fromkeys(after))}"
            lines.append(Text(then, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _render_split(self, name: str, state: State) -> list[RenderableType]:
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
            said = [*state.speed, *state.occupied, *([f"{state.standing} so far"] if state.standing else [])]
            trouble = [Text(phrase, style="yellow") for phrase in state.trouble]
            lines.append(joined([*map(Text, said), *trouble], width))
        return lines


class Watch:
    """Callbacks of a job: ``begin`` when the model is loaded, ``seen`` with each new answer."""

    def __init__(self, begin: Callable[[Sequence[Request], Backend], None], seen: Callable[[Record], None]) -> None:
        self.begin = begin
        self.seen = seen


def joined(phrases: Sequence[Text], width: int) -> Text:
    """Join phrases with commas, indented, in lines of at most ``width`` columns that break between phrases."""
    lines = [Text("  ")]
    for place, phrase in enumerate(phrases):
        phrase = phrase if place == len(phrases) - 1 else phrase + ","
        if len(lines[-1]) > 2 and len(lines[-1]) + 1 + len(phrase) > width:
            lines.append(Text("  "))
        lines[-1] += phrase if len(lines[-1]) == 2 else Text(" ") + phrase
    return Text("\n").join(lines)


def line(state: State) -> str:
    """The progress of a job in one line."""
    score = [f"{state.standing} so far"] if state.standing is not None else []
    left = [state.time_left] if state.time_left else []
    said = [*left, *state.speed, *score, *state.trouble, *state.occupied]
    return f"{state.done:,} of {state.total:,}" + "".join(f", {phrase}" for phrase in said)


def last_line(state: State) -> str:
    """The result of a job in one line."""
    before = f", {state.kept:,} resumed" if state.kept else ""
    score = [str(state.standing)] if state.standing is not None else []
    said = ", ".join([*score, *state.speed, *state.trouble, *state.occupied])
    took = f"{state.seconds:.1f} s" if state.seconds < 90 else duration(state.seconds)
    return f"{state.new:,} answered in {took}{before}" + (f"; {said}" if said else "")
