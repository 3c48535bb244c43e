"""What ``evalkit run`` shows while it works.

On a terminal a few lines that are drawn anew; elsewhere a line a minute; for machines events (``events.py``).  A line
for each split that has been answered stays in any case.
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
"""How often an answer has what takes a moment worked out: memory, and the score as far as that is due."""
SHOWN = 6
"""Jobs in work at one time that have lines of their own."""
WIDE = 60
"""Columns from which on there is room for a bar."""


class Reporter:
    """Tells of a run's jobs.

    Args:
        run: the run's name, for events.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], run: str = "", events: Events | None = None) -> None:
        self.console = console
        self.jobs = list(jobs)
        self.run = run
        self.events = events
        self._begun: set[int] = set()
        self._tallies: list[tuple[str, Tally]] = []  # those of the jobs in work, by what the job is called
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=4, transient=True)

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
        """What is to be told of ``job``; ``kept`` are answers from before, ``sizes`` those of images.

        ``run`` and ``model`` are given where there are several.
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

    def _drawn(self) -> RenderableType:
        lines = [line for name, tally in self._tallies[:SHOWN] for line in self._drawn_one(name, tally.state())]
        others = [name for name, _ in self._tallies[SHOWN:]]
        after = [*others, *(job.name for job in self.jobs if id(job) not in self._begun)]
        if lines and after:
            then = f"  {'and' if others else 'then'} {', '.join(dict.fromkeys(after))}"
            lines.append(Text(then, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _drawn_one(self, name: str, state: State) -> list[RenderableType]:
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
    """What a job's answers are told to: ``begin`` once the model is there, ``seen`` with each new answer."""

    def __init__(self, begin: Callable[[Sequence[Request], Backend], None], seen: Callable[[Record], None]) -> None:
        self.begin = begin
        self.seen = seen


def joined(phrases: Sequence[Text], width: int) -> Text:
    """Phrases with commas between them, indented, on lines of ``width`` columns that break between phrases only."""
    lines = [Text("  ")]
    for place, phrase in enumerate(phrases):
        phrase = phrase if place == len(phrases) - 1 else phrase + ","
        if len(lines[-1]) > 2 and len(lines[-1]) + 1 + len(phrase) > width:
            lines.append(Text("  "))
        lines[-1] += phrase if len(lines[-1]) == 2 else Text(" ") + phrase
    return Text("\n").join(lines)


def line(state: State) -> str:
    """How a job stands, in a line."""
    score = [f"{state.standing} so far"] if state.standing is not None else []
    left = [state.time_left] if state.time_left else []
    said = [*left, *state.speed, *score, *state.trouble, *state.occupied]
    return f"{state.done:,} of {state.total:,}" + "".join(f", {phrase}" for phrase in said)


def last_line(state: State) -> str:
    """How a job went, in a line."""
    before = f", {state.kept:,} before" if state.kept else ""
    score = [str(state.standing)] if state.standing is not None else []
    said = ", ".join([*score, *state.speed, *state.trouble, *state.occupied])
    took = f"{state.seconds:.1f} s" if state.seconds < 90 else duration(state.seconds)
    return f"{state.new:,} answered in {took}{before}" + (f"; {said}" if said else "")
