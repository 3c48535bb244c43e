"""Write runs in the formats of ``evalkit export`` and of ``evalkit run --log-to``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError
from evalkit.results.samples.dataframe import to_csv, to_parquet
from evalkit.results.samples.records import Record, records_of
from evalkit.results.store.files import make_folder, write_atomically
from evalkit.results.store.scored_run import ScoredRun
from evalkit.types import ImageRef

Images = Mapping[str, Mapping[str, Sequence[ImageRef]]]
"""By split and sample id."""

DEFAULT_NAMES = {
    "csv": "samples.csv",
    "parquet": "samples.parquet",
    "hub": "dataset",
    "results": "results",
    "model-card": "README.md",
    "eval-results": ".eval_results",
    "tensorboard": "tensorboard",
    "wandb": "",
}
"""Every format, and its file or folder below ``RUN/export``."""


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``evalkit export``."""

    to: str
    out: Path | None = None
    tasks: Sequence[str] = ()
    images: bool = False
    samples: int = 200
    step: int | None = None
    project: str | None = None
    data: str | None = None
    force: bool = False
    formulas: bool = False


@dataclass(frozen=True)
class ExportJob:
    """Runs to write, with the names of each run's splits; ``tell`` prints a note."""

    runs: Sequence[ScoredRun]
    names: Sequence[Sequence[str]]
    out: Path
    options: ExportOptions
    tell: Callable[[str], None]

    def records(
        self, *, prompts: bool = True
    ) -> tuple[dict[str, list[Record]], dict[str, dict[str, Sequence[ImageRef]]]]:
        """The records of all runs by split, and the images by split and sample id."""
        found: dict[str, list[Record]] = {}
        images: dict[str, dict[str, Sequence[ImageRef]]] = {}
        for run, names in zip(self.runs, self.names, strict=True):
            for name, records, own, notes in records_of(run, names, data=self.options.data, prompts=prompts):
                found.setdefault(name, []).extend(records)
                images.setdefault(name, {}).update(own)
                for note in notes:
                    self.tell(f"note: {name}: {note}")
        return found, images


def output_file(job: ExportJob) -> Path:
    """The file to write.  Only ``--force`` overwrites a file that the user named."""
    out = job.out
    if out.is_dir():
        raise UserError(
            f"--out {out} is a folder; give a file's name, for example {out / DEFAULT_NAMES[job.options.to]}."
        )
    if job.options.out is not None and out.exists() and not job.options.force:
        raise UserError(f"{out} exists already; give another --out, or --force to overwrite it.")
    make_folder(out.parent)
    return out


# ---------------------------------------------------------------------------------------------------------- the formats


def write_csv(job: ExportJob) -> list[Path]:
    """Write one CSV file, a row per sample."""
    place = output_file(job)
    records, _ = job.records()
    write_atomically(
        place, to_csv([record for some in records.values() for record in some], formulas=job.options.formulas)
    )
    return [place]


def write_parquet(job: ExportJob) -> list[Path]:
    """Write one parquet file, a row per sample."""
    place = output_file(job)
    records, _ = job.records()
    write_atomically(place, to_parquet([record for some in records.values() for record in some]))
    return [place]


def write_hub(job: ExportJob) -> list[Path]:
    """Write a folder for ``datasets.load_dataset``."""
    from evalkit.results.export.hub_dataset import check_place, write_dataset

    check_place(job.out)
    make_folder(job.out.parent)
    records, images = job.records()
    lost = write_dataset(job.runs, records, images if job.options.images else None, job.out)
    if lost:
        job.tell(f"note: {lost:,} images could not be read and are missing.")
    return [job.out]


def write_results(job: ExportJob) -> list[Path]:
    """Write the files that the official scorers read, one per split."""
    from evalkit.results.export.official import official_of

    (run,), (names,) = job.runs, job.names
    found, without = [], []
    for name in names:
        one = official_of(run, name, job.options.data)
        if one is None:
            without.append(name)
        else:
            found.append(one)
    if without:
        reason = f"{', '.join(without)}: the official scorer reads no file of answers"
        if not found or job.options.tasks:
            raise UserError(f"{reason}; use --to csv or --to parquet.")
        job.tell(f"note: {reason}; skipped.")
    folder = make_folder(job.out)
    places = [folder / one.file for one in found]
    existing = [place for place in places if place.exists()]
    if existing and job.options.out is not None and not job.options.force:
        raise UserError(f"{existing[0]} exists already; give another --out, or --force to overwrite it.")
    for one, place in zip(found, places, strict=True):
        write_atomically(place, one.content)
        if one.note:
            job.tell(f"note: {one.split}: {one.note}")
    return places


def write_model_card(job: ExportJob) -> list[Path]:
    """Write a model card, or update the model-index of an existing one."""
    from evalkit.results.export.model_card import eval_results, new_card, updated_card
    from evalkit.results.leaderboard.rows import part_of

    (run,), (names,) = job.runs, job.names
    results = eval_results(run, names)
    if estimated := [name for name in names if run.rows[name].estimate is not None]:
        job.tell(f"note: {', '.join(estimated)}: left out, since estimates from a subset are no scores.")
    if not results:
        raise UserError(f"{run.path} has no score of {', '.join(names)} for a model card.")
    limited = [name for name in names if run.rows[name].limited and run.rows[name].estimate is None]
    if limited:
        parts = dict.fromkeys(part_of(run.rows[name]) for name in limited)
        job.tell(f"note: {', '.join(limited)}: scored on a subset ({'; '.join(parts)}); the card says so.")
    if job.options.out is not None and job.out.is_file() and not job.options.force:
        content = updated_card(job.out, run, results)
    else:
        content = new_card(run, results)
    if job.out.is_dir():
        raise UserError(f"--out {job.out} is a folder; give a file's name, for example {job.out / 'README.md'}.")
    make_folder(job.out.parent)
    write_atomically(job.out, content)
    return [job.out]


def write_eval_results(job: ExportJob) -> list[Path]:
    """Write the files of a model repository's ``.eval_results``, one per split."""
    from evalkit.results.export.eval_results import TASK_ID, eval_result_files

    (run,), (names,) = job.runs, job.names
    found, left_out = eval_result_files(run, names)
    if not found:
        raise UserError(f"{run.path} has no result for the hub's leaderboards: {'; '.join(left_out)}.")
    for reason in left_out:
        job.tell(f"note: {reason}; left out.")
    folder = make_folder(job.out)
    places = [folder / one.file for one in found]
    existing = [place for place in places if place.exists()]
    if existing and job.options.out is not None and not job.options.force:
        raise UserError(f"{existing[0]} exists already; give another --out, or --force to overwrite it.")
    for one, place in zip(found, places, strict=True):
        write_atomically(place, one.content)
    job.tell(f"note: task_id is {TASK_ID!r}; if the data set's eval.yaml names its task otherwise, write that name.")
    return places


def write_tensorboard(job: ExportJob) -> list[Path]:
    """Write TensorBoard event files; returns their folders."""
    from evalkit.results.export.trackers import steps_of, to_tensorboard

    steps = steps_of(job.runs, job.options.step)
    # Runs with distinct steps make one curve; others get a folder each.
    separate = len(job.runs) > 1 and len(set(steps)) < len(steps)
    return [
        to_tensorboard(run, names, job.out / run.name if separate else job.out, step)
        for run, names, step in zip(job.runs, job.names, steps, strict=True)
    ]


def write_wandb(job: ExportJob) -> list[str]:
    """Log to Weights & Biases; returns the runs' addresses."""
    from evalkit.results.export.trackers import steps_of, to_wandb
    from evalkit.results.samples.selection import pick_by_hash

    places = []
    steps = steps_of(job.runs, job.options.step)
    for run, names, step in zip(job.runs, job.names, steps, strict=True):
        single = ExportJob([run], [names], job.out, job.options, job.tell)
        samples: dict[str, list[Record]] = {}
        images: Images = {}
        if job.options.samples:
            records, images = single.records()
            samples = {
                name: pick_by_hash(some, lambda r: str(r["id"]), job.options.samples) for name, some in records.items()
            }
        places.append(
            to_wandb(
                run, names, make_folder(job.out), step,
                project=job.options.project, samples=samples, images=images if job.options.images else None,
            )
        )  # fmt: skip
    return places


WRITERS: Mapping[str, Callable[[ExportJob], Sequence[Path | str]]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "hub": write_hub,
    "results": write_results,
    "model-card": write_model_card,
    "eval-results": write_eval_results,
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
}
