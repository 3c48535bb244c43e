"""What ``evalkit run`` shows while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from evalkit.run import Job, Record

LINE_EVERY_SECONDS = 60.0


class Reporter:
    """Progress that tells the truth: bars in a terminal, else a line a minute and one per finished split."""

    def __init__(self, console: Console, jobs: Sequence[Job]) -> None:
        self.console = console
        self.progress: Progress | None = None
        self.bars: dict[str, TaskID] = {}
        if console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.description:16s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[trouble]}"), console=console,
            )  # fmt: skip
            for job in jobs:
                self.bars[job.name] = self.progress.add_task(job.name, total=len(job.samples), start=False, trouble="")

    def __enter__(self) -> Reporter:
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    @contextmanager
    def of(self, job: Job, kept: int) -> Iterator[Callable[[Record], None]]:
        """What is to be called with each new answer of ``job``; ``kept`` are there from before."""
        began = last = time.monotonic()
        done, unparsed, errors = kept, 0, 0
        if self.progress is not None:
            self.progress.start_task(self.bars[job.name])
            self.progress.update(self.bars[job.name], completed=done)

        def seen(record: Record) -> None:
            nonlocal done, unparsed, errors, last
            done += 1
            errors += record.response.finish == "error"
            unparsed += record.response.finish != "error" and not record.reading.parsed
            trouble = ", ".join(f"{n} {what}" for n, what in ((unparsed, "unparsed"), (errors, "errors")) if n)
            now = time.monotonic()
            if self.progress is not None:
                self.progress.update(self.bars[job.name], completed=done, trouble=trouble)
            elif now - last > LINE_EVERY_SECONDS:
                last = now
                left = (now - began) / (done - kept) * (len(job.samples) - done)
                self.console.print(
                    f"{job.name}: {done:,}/{len(job.samples):,}, about {left / 60:.0f} min left {trouble}"
                )

        yield seen
        if self.progress is None:
            before = f", {kept:,} before" if kept else ""
            self.console.print(f"{job.name}: {done - kept:,} answered in {time.monotonic() - began:.1f} s{before}")
