"""Runs of the samples in a subset file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.errors import UserError
from evalkit.jobs import Job
from evalkit.results.store.files import write_atomically
from evalkit.results.store.scores import Estimator
from evalkit.results.subsets.estimates import FILE, subset_in, with_estimate
from evalkit.results.subsets.subset_file import Subset, read_subset


def tasks_of(subset: str | None, tasks: Sequence[str]) -> Sequence[str]:
    """The tasks to run: ``tasks``, or all of a subset file if none are named."""
    return tasks if subset is None or tasks else list(read_subset(Path(subset)).splits)


def subset_job(job: Job, subset: Subset, path: Path) -> Job:
    """The job with the samples of a subset only.

    Raises:
        UserError: the subset lacks the split, or was chosen from other data.
    """
    held = subset.splits.get(job.name)
    if held is None:
        raise UserError(
            f"--subset {path} has no samples of {job.name}; it has {', '.join(subset.splits)}. Choose again with "
            "'evalkit subset', from runs that have it."
        )
    if held.annotations is not None and held.annotations != job.annotations[:16]:
        raise UserError(
            f"--subset {path}: {job.name} was chosen from other data (annotations {held.annotations}, and here "
            f"{job.annotations[:16]}); give the same data with --data, or choose again with 'evalkit subset'."
        )
    wanted = set(held.ids)
    samples = [sample for sample in job.all_samples if sample.id in wanted]
    if len(samples) < len(wanted):
        lacking = sorted(wanted - {sample.id for sample in samples})
        raise UserError(
            f"--subset {path}: there is no sample {lacking[0]} of {job.name}; give the data that it was chosen from."
        )
    return replace(job, samples=samples, limited=len(samples) < len(job.all_samples))


def keep_subset(folder: Path, subset: Subset | None) -> None:
    """Copy the subset file into a run folder, for later scoring; without one, remove that of replaced scores.

    Raises:
        RunFailed: it cannot be written.
    """
    if subset is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        write_atomically(folder / FILE, subset.text())


def estimator_of(folder: Path) -> Estimator | None:
    """What estimates complete scores in the run in ``folder``; None if it is no subset's."""
    subset = subset_in(folder)
    return None if subset is None else lambda row, scores: with_estimate(row, subset, scores)


def recorded_subset_job(job: Job, folder: Path) -> Job:
    """The job with the samples of the run in ``folder``, if that was a subset's."""
    subset = subset_in(folder)
    return job if subset is None or job.name not in subset.splits else subset_job(job, subset, folder / FILE)
