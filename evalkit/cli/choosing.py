"""``evalkit tasks NAME --columns``, ``--where`` and ``--ids``: what can be chosen by, and how many samples are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from evalkit.choosing.columns import Columns, written
from evalkit.choosing.sample_filter import SampleFilter, check_ids
from evalkit.data import BUNDLED, open_data
from evalkit.errors import UserError
from evalkit.jobs import Job, load_job
from evalkit.results.tables import Table
from evalkit.results.terminal import OnTerminal
from evalkit.settings import default_data
from evalkit.task_names import parse_tasks


def show_chosen(console: Console, names: Sequence[str], data: str | None, where: str | None, ids: str | None) -> None:
    """Print how many samples of each split are chosen; without a choice, the columns of each split.

    Raises:
        UserError: no task is named, its data is missing, or the choice does not fit it.
    """
    if not names:
        raise UserError("--columns, --where and --ids are about one task or several: name them.")
    chosen = SampleFilter.of(where, ids, None)
    if data is None:
        named, source = default_data(bundled_model=False)
        data = BUNDLED if source == "default" else named
    opened = open_data(data, images_required=False)
    jobs = [load_job(task, split, opened, limit=None, seed=0, chosen=chosen) for task, split in parse_tasks(names)]
    check_ids(chosen, {job.name: job.all_samples for job in jobs})
    for job in jobs:
        if chosen:
            counted = chosen.counted(len(job.samples), len(job.all_samples))
            console.print(Text.assemble((job.name, "bold"), f": {counted}"), soft_wrap=True)
        else:
            show_columns(console, job)


def show_columns(console: Console, job: Job) -> None:
    """Print the columns of a split: the types of their values and the most frequent ones."""
    columns = Columns(job.all_samples, {"task": job.task.name, "split": job.split})
    rows = [
        [written(name), " and ".join(sorted(columns.types(name))) or "nothing", columns.examples(name, short=True)]
        for name in columns.names
    ]
    title = f"{job.name}: {len(job.all_samples):,} samples"
    console.print(OnTerminal(Table(["column", "has", "values (most frequent first)"], rows, 3, title)))
