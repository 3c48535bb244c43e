"""The answers in a run's journal, parsed and scored again: for ``evalkit score`` and ``evalkit rescore``.

Whatever the journal and its manifest record is used: errors, truncation and image sizes of each answer; the model
family, protocol and pixel limits of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit.choosing.sample_filter import SampleFilter
from evalkit.collection import collection_paused
from evalkit.errors import UserError
from evalkit.jobs import Job, Record
from evalkit.reader import Reader, failed
from evalkit.records import known_finish
from evalkit.repeats import answer_key
from evalkit.results.store.journal import Line, read_journal
from evalkit.results.store.manifest import SCHEMA, Manifest, SplitRecord
from evalkit.results.store.run_folder import RunFolder
from evalkit.types import LabelledBox, LabelledBoxes, Prediction, Sample, Size

KEYS = ("id", "text", "prompt", "finish", "prompt_tokens", "frames")
"""The fields of every journal line, whatever version wrote it."""
EXAMPLES = 3


@dataclass(frozen=True)
class RecordedSplit:
    """A journal.

    Attributes:
        lines: the answers, by ``answer_key``; the last one where a sample was answered again.
        manifest: the run's, if the journal is in its run folder.
        split: the journal's split in the manifest.
    """

    path: Path
    lines: Mapping[str, Line]
    manifest: Manifest | None = None
    split: SplitRecord | None = None

    @property
    def family(self) -> str | None:
        """The name of the family that parsed the run's answers, if it is known."""
        found = None if self.manifest is None else self.manifest.family
        return None if found is None else str(found.get("name"))

    @property
    def repeats(self) -> int:
        """The number of answers to each sample: as many as the run scored; without its manifest, as there are."""
        if self.split is not None:
            return self.split.repeats
        return max((line.repeat for line in self.lines.values()), default=1)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run's settings; empty without a manifest."""
        return {} if self.manifest is None else self.manifest.settings


def is_journal(path: Path) -> bool:
    """Whether a file is a run's journal, by its first line.  A file that cannot be read is none."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and all(key in first for key in KEYS)


def open_journal(path: Path, console: Console) -> RecordedSplit:
    """Read a journal, and the manifest if it is in its run folder.

    Raises:
        UserError: the journal or the manifest is corrupt.
    """
    folder = RunFolder(path.absolute().parent)
    if (folder.path / "manifest.json").is_file():
        manifest = folder.read_manifest()
        for name, split in manifest.splits.items():
            task, _, part = name.rpartition("/")
            if folder.journal_path(task, part).name == path.name:
                return RecordedSplit(path, read_lines(path, manifest.schema, console), manifest, split)
    with path.open("rb") as file:
        schema = SCHEMA if b'"sum"' in file.readline() else 1
    return RecordedSplit(path, read_lines(path, schema, console))


def read_lines(path: Path, schema: int, console: Console) -> Mapping[str, Line]:
    """The answers in a journal, by ``answer_key``; prints a message if its last line is truncated.

    Raises:
        UserError: another line is corrupt.
    """
    answers = read_journal(path, schema)
    if answers.corrupt:
        number, reason = answers.corrupt[0]
        more = f", and {len(answers.corrupt) - 1:,} more" if len(answers.corrupt) > 1 else ""
        raise UserError(
            f"{path}: line {number} is corrupt ({reason}){more}; restore the file, or resume the run, which re-runs "
            "the sample."
        )
    if answers.truncated:
        console.print(f"{path}: the last line is truncated and was ignored", soft_wrap=True)
    return answers.lines


@collection_paused()
def records_of(
    job: Job, lines: Mapping[str, Line], reader: Reader, *, path: Path, recorded_predictions: bool = False
) -> list[Record]:
    """A record for each answer to the job's samples; one that is not in the journal is an error.

    Args:
        path: the journal, for messages.
        recorded_predictions: take the predictions of the journal instead of parsing the answers.

    Raises:
        UserError: the journal has answers to samples that the data lacks, or a prediction is corrupt.
    """
    existing = {sample.id for sample in job.all_samples}  # an earlier, larger --limit may have answered more
    unknown = list(dict.fromkeys(line.response.id for line in lines.values() if line.response.id not in existing))
    if unknown:
        answers = "1 answer to a sample" if len(unknown) == 1 else f"{len(unknown):,} answers to samples"
        raise UserError(
            f"{path} has {answers} that {job.name} lacks ({', '.join(unknown[:EXAMPLES])}): "
            "this is not the data of the run; give its location with --data."
        )
    sizes: dict[str, Size] = {}
    records = []
    for sample, repeat in product(job.samples, range(1, job.repeats + 1)):
        line = lines.get(answer_key(sample.id, repeat))
        if line is None:
            which = "answer" if job.repeats == 1 else f"answer number {repeat}"
            record = failed(sample, f"no {which} in {path.name}")
        elif line.response.finish == "error":
            record = Record(sample, line.prompt, line.response, Prediction(None))
        elif recorded_predictions:
            record = Record(sample, line.prompt, line.response, recorded_prediction(line, path))
        else:
            record = _parsed(job, sample, line, reader, sizes)
        records.append(replace(record, repeat=repeat))
    return records


def without(job: Job, missing: Sequence[str]) -> Job:
    """``job`` without the samples in ``missing``."""
    gone = set(missing)
    samples = [sample for sample in job.samples if sample.id not in gone]
    return replace(job, samples=samples, limited=job.limited or bool(gone))


def narrowed(job: Job, chosen: SampleFilter, seed: int) -> Job:
    """``job`` with those of its samples that ``chosen`` chooses.  Raises ``UserError`` if these are none."""
    few = chosen.choose(job.samples, job.task.name, job.split, seed=seed, together=job.task.complete_clusters)
    before = "" if not job.limited else job.chosen.described or f"--limit {job.chosen.limit}"
    return replace(job, samples=few, limited=True, chosen=replace(chosen.recorded(few), within=before))


def recorded_prediction(line: Line, path: Path) -> Prediction:
    """The prediction that a journal records with an answer.  Raises ``UserError`` if it is not one."""
    value = line.answer
    if value is None or isinstance(value, str):
        return Prediction(value)
    if isinstance(value, list) and value and all(type(number) in (int, float) for number in value):
        if len(value) == 4:
            x1, y1, x2, y2 = map(float, value)
            return Prediction((x1, y1, x2, y2))
        if len(value) == 2:
            return Prediction((float(value[0]), float(value[1])))
    if isinstance(value, list) and (boxes := _labelled_boxes(value)) is not None:
        return Prediction(boxes)
    raise UserError(
        f"{path}: the prediction for sample {line.response.id} is neither a text, a box nor a point; parse the answers "
        "again with --family."
    )


def _labelled_boxes(value: Sequence[Any]) -> LabelledBoxes | None:
    """The labelled boxes of a list in a journal; None if it has anything else."""
    found: list[LabelledBox] = []
    for one in value:
        if not isinstance(one, dict) or one.keys() != {"label", "box"} or not isinstance(one["label"], str):
            return None
        box = one["box"]
        if not isinstance(box, list) or len(box) != 4 or not all(type(number) in (int, float) for number in box):
            return None
        x1, y1, x2, y2 = map(float, box)
        found.append({"label": one["label"], "box": (x1, y1, x2, y2)})
    return tuple(found)


def _parsed(job: Job, sample: Sample, line: Line, reader: Reader, sizes: dict[str, Size]) -> Record:
    """The record of an answer that is parsed again, with the image sizes that the model saw if they are recorded."""
    response = line.response
    if reader.needs_sizes(job.task) and not response.image_sizes and response.text:
        try:
            response = replace(response, image_sizes=reader.image_sizes(sample, sizes))
        except (OSError, ValueError) as error:
            return failed(sample, f"{type(error).__name__}: {error}")
    finish = known_finish(response, line.prompt)
    prediction = reader.parse(job.task, sample, response.text, response.image_sizes, finish)
    return Record(sample, line.prompt, response, prediction, markers=reader.markers(job.task, sample))
