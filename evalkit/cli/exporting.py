"""What ``evalkit export`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evalkit.errors import UserError
from evalkit.results.samples.dataframe import to_csv, to_parquet
from evalkit.results.samples.records import Record, chosen_splits, records_of
from evalkit.results.store.files import write_atomically
from evalkit.results.store.scored_run import ScoredRun
from evalkit.settings import split_list
from evalkit.types import ImageRef

from .options import made

Images = Mapping[str, Mapping[str, Sequence[ImageRef]]]
"""By split and sample id."""

PLACES = {
    "csv": "samples.csv",
    "parquet": "samples.parquet",
    "hub": "dataset",
    "results": "results",
    "model-card": "README.md",
    "tensorboard": "tensorboard",
    "wandb": "",
}
"""Every form, and where it goes below ``RUN/export``."""
ONE_RUN = ("results", "model-card")


@dataclass(frozen=True)
class Wanted:
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


@dataclass(frozen=True)
class Job:
    """Runs to be written, each with its splits."""

    runs: Sequence[ScoredRun]
    names: Sequence[Sequence[str]]
    out: Path
    wanted: Wanted
    say: Callable[[str], None]

    def records(
        self, *, prompts: bool = True
    ) -> tuple[dict[str, list[Record]], dict[str, dict[str, Sequence[ImageRef]]]]:
        """The records of all runs by split, and the samples' images."""
        found: dict[str, list[Record]] = {}
        images: dict[str, dict[str, Sequence[ImageRef]]] = {}
        for run, names in zip(self.runs, self.names, strict=True):
            for name, records, known, notes in records_of(run, names, data=self.wanted.data, prompts=prompts):
                found.setdefault(name, []).extend(records)
                images.setdefault(name, {}).update({key: s.all_images for key, s in known.samples.items()})
                for note in notes:
                    self.say(f"note: {name}: {note}")
        return found, images


def execute(paths: Sequence[Path], wanted: Wanted) -> None:
    """Write, and say where it is.  Raises ``UserError`` for whatever cannot be written."""
    console = Console(stderr=True, highlight=False)
    check(paths, wanted)
    runs = [ScoredRun.open(path) for path in paths]
    chosen = chosen_splits(runs, split_list(wanted.tasks))
    names = [[name for name in chosen if name in run.rows] for run in runs]
    out = wanted.out or paths[0] / "export" / PLACES[wanted.to]
    said: dict[str, None] = {}

    def say(sentence: str) -> None:
        if sentence not in said:
            console.print(sentence, soft_wrap=True, markup=False)
        said[sentence] = None

    for place in WRITERS[wanted.to](Job(runs, names, out, wanted, say)):
        print(place)


def check(paths: Sequence[Path], wanted: Wanted) -> None:
    """Raise ``UserError`` for options that do not go together."""
    if wanted.to not in PLACES:
        raise UserError(f"--to {wanted.to}: there are {', '.join(PLACES)}.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run is named twice; give each once.")
    if len(paths) > 1 and wanted.to in ONE_RUN:
        raise UserError(f"--to {wanted.to} is of one run; export the others by themselves.")
    if len(paths) > 1 and wanted.out is None:
        raise UserError(f"{len(paths)} runs: say with --out where their export goes.")
    if wanted.images and wanted.to not in ("hub", "wandb"):
        raise UserError(f"--images is for --to hub and --to wandb; --to {wanted.to} has their names.")
    for option, value, forms in (
        ("--step", wanted.step, ("tensorboard", "wandb")),
        ("--project", wanted.project, ("wandb",)),
    ):
        if value is not None and wanted.to not in forms:
            raise UserError(f"{option} means nothing to --to {wanted.to}; leave it out.")


def place_for(job: Job) -> Path:
    """A file's place: nothing that is there is lost unless it was asked for, or evalkit put it there."""
    out = job.out
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file's name, for example {out / PLACES[job.wanted.to]}.")
    if job.wanted.out is not None and out.exists() and not job.wanted.force:
        raise UserError(f"{out} exists already; give another --out, or --force to write over it.")
    made(out.parent)
    return out


# ------------------------------------------------------------------------------------------------------------ the forms


def write_csv(job: Job) -> list[Path]:
    place = place_for(job)
    records, _ = job.records()
    write_atomically(place, to_csv([record for some in records.values() for record in some]))
    return [place]


def write_parquet(job: Job) -> list[Path]:
    place = place_for(job)
    records, _ = job.records()
    write_atomically(place, to_parquet([record for some in records.values() for record in some]))
    return [place]


def write_hub(job: Job) -> list[Path]:
    from evalkit.results.export.hub_dataset import check_place, write_dataset

    check_place(job.out)
    made(job.out.parent)
    records, images = job.records()
    lost = write_dataset(job.runs, records, images if job.wanted.images else None, job.out)
    if lost:
        job.say(f"note: {lost:,} images could not be read and are left out.")
    return [job.out]


def write_results(job: Job) -> list[Path]:
    from evalkit.results.export.official import official_of

    (run,), (names,) = job.runs, job.names
    found, without = [], []
    for name in names:
        one = official_of(run, name, job.wanted.data)
        if one is None:
            without.append(name)
        else:
            found.append(one)
    if without:
        said = f"{', '.join(without)}: the official scorer reads no file of answers"
        if not found or job.wanted.tasks:
            raise UserError(f"{said}; --to csv or --to parquet has them.")
        job.say(f"note: {said}; left out.")
    folder = made(job.out)
    places = [folder / one.file for one in found]
    there = [place for place in places if place.exists()]
    if there and job.wanted.out is not None and not job.wanted.force:
        raise UserError(f"{there[0]} exists already; give another --out, or --force to write over it.")
    for one, place in zip(found, places, strict=True):
        write_atomically(place, one.content)
        if one.note:
            job.say(f"note: {one.split}: {one.note}")
    return places


def write_model_card(job: Job) -> list[Path]:
    from evalkit.results.export.model_card import eval_results, new_card, updated_card

    (run,), (names,) = job.runs, job.names
    results = eval_results(run, names)
    if not results:
        raise UserError(f"{run.path} has no score of {', '.join(names)} to put into a model card.")
    limited = [name for name in names if run.rows[name].get("limited")]
    if limited:
        job.say(f"note: {', '.join(limited)}: scores of a part of the samples (--limit); the card says so.")
    if job.wanted.out is not None and job.out.is_file() and not job.wanted.force:
        content = updated_card(job.out, run, results)
    else:
        content = new_card(run, results)
    if job.out.is_dir():
        raise UserError(f"--out {job.out} is a folder; give a file's name, for example {job.out / 'README.md'}.")
    made(job.out.parent)
    write_atomically(job.out, content)
    return [job.out]


def write_tensorboard(job: Job) -> list[Path]:
    from evalkit.results.export.trackers import steps_of, to_tensorboard

    steps = steps_of(job.runs, job.wanted.step)
    # One curve over the training where the steps tell the runs apart; else a curve, or a point, each.
    apart = len(job.runs) > 1 and len(set(steps)) < len(steps)
    return [
        to_tensorboard(run, names, job.out / run.name if apart else job.out, step)
        for run, names, step in zip(job.runs, job.names, steps, strict=True)
    ]


def write_wandb(job: Job) -> list[str]:
    from evalkit.results.export.trackers import steps_of, to_wandb
    from evalkit.results.samples.view import hashed

    places = []
    steps = steps_of(job.runs, job.wanted.step)
    for run, names, step in zip(job.runs, job.names, steps, strict=True):
        one = Job([run], [names], job.out, job.wanted, job.say)
        samples: dict[str, list[Record]] = {}
        images: Images = {}
        if job.wanted.samples:
            records, images = one.records()
            samples = {name: hashed(some, lambda r: str(r["id"]), job.wanted.samples) for name, some in records.items()}
        places.append(
            to_wandb(
                run, names, made(job.out), step,
                project=job.wanted.project, samples=samples, images=images if job.wanted.images else None,
            )
        )  # fmt: skip
    return places


WRITERS: Mapping[str, Callable[[Job], Sequence[Path | str]]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "hub": write_hub,
    "results": write_results,
    "model-card": write_model_card,
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
}
