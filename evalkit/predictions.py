"""Answers that were made elsewhere: read from a file, joined to a split's samples by id, and read as answers.

Formats (``FORMATS``), as a JSON list or one JSON object a line; further fields are ignored:

    {"id": "262148000", "text": "yes"}                       evalkit's own; also the lines of a run's journal
    {"image_id": 391895, "caption": "a man on a bike"}       COCO's and nocaps's results
    {"question_id": 262148000, "answer": "yes"}              VQA's and TextVQA's
    {"questionId": 49153, "answer": "1/8/93"}                DocVQA's and InfographicVQA's
    {"questionId": "201307251", "prediction": "no"}          GQA's
    {"image": "VizWiz_val_00000000.jpg", "answer": "soda"}   VizWiz's

Without a model family an answer is a *final text*: what the official scorer would be given.  With a family it is raw
text, read as the family reads its own models' answers.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.interfaces import Family, Task
from evalkit.jobs import Job, Record
from evalkit.jsonl import objects, parse, read_bytes
from evalkit.types import ImageSize, Prediction, PromptSpec, Response, Sample, Size

FORMATS = (
    ("id", "text"),
    ("image_id", "caption"),
    ("question_id", "answer"),
    ("questionId", "answer"),
    ("questionId", "prediction"),
    ("image", "answer"),
)
"""The fields that hold a sample's id and its answer."""
EXAMPLES = 3


@dataclass(frozen=True)
class PredictionLine:
    """One answer from a file; ``place`` is its line or entry."""

    id: str
    text: str
    place: str


# ------------------------------------------------------------------------------------------------------------- reading


def read_predictions(path: Path) -> list[PredictionLine]:
    """The answers in ``path``, in the file's order.

    Raises:
        UserError: the file is missing, no JSON, or in none of the formats; the sentence names the line or entry.
    """
    content = read_bytes(path, "--predictions").removeprefix(BOM_UTF8)
    if content.lstrip()[:1] == b"[":
        rows = [(f"entry {number}", row) for number, row in enumerate(_entries(content, path), start=1)]
    else:
        rows = [(f"line {number}", row) for number, row in objects(content, str(path))]
    if not rows:
        return []
    first = rows[0][1]
    found = [keys for keys in FORMATS if all(key in first for key in keys)]
    if not found:
        expected = " or ".join(f'{{"{key}": …, "{text}": …}}' for key, text in FORMATS)
        raise UserError(
            f"{path}, {rows[0][0]}: it has {', '.join(map(repr, first)) or 'no fields'}; expected {expected}."
        )
    return [_prediction(row, found[0], path, place) for place, row in rows]


def _entries(content: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        entries = parse(content)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); it may be cut off.") from error
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}, entry {number}: expected a JSON object, not {type(entry).__name__}.")
    return list(entries)


def _prediction(row: Mapping[str, Any], keys: tuple[str, str], path: Path, place: str) -> PredictionLine:
    for key in keys:
        if key not in row:
            raise UserError(
                f"{path}, {place}: there is no {key!r}; the entries before it have {keys[0]} and {keys[1]}."
            )
    name, text = (row[key] for key in keys)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"{path}, {place}: {keys[0]} is {name!r}; expected a text or a whole number.")
    if not isinstance(text, str):
        raise UserError(f'{path}, {place}: {keys[1]} is {text!r}; expected a text ("" for an empty answer).')
    return PredictionLine(str(name), text, place)


# -------------------------------------------------------------------------------------------------------------- joining


def match(
    job: Job, predictions: Sequence[PredictionLine], source: str, *, allow_missing: bool = False
) -> dict[str, str]:
    """Sample id → text.

    Raises:
        UserError: an id that is no sample's, or that two answers have; or, unless ``allow_missing``, a sample that no
            answer has.  The sentence has counts and examples.
    """
    samples = {sample.id for sample in job.samples}
    texts: dict[str, str] = {}
    twice: dict[str, str] = {}
    places: dict[str, str] = {}
    for prediction in predictions:
        if prediction.id in texts:
            twice[prediction.id] = f"{prediction.id} in {places[prediction.id]} and {prediction.place}"
        texts.setdefault(prediction.id, prediction.text)
        places.setdefault(prediction.id, prediction.place)
    unknown = [name for name in texts if name not in samples]
    missing = [sample.id for sample in job.samples if sample.id not in texts]
    faults = [
        f"{len(names):,} {what} ({', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''})"
        for names, what in (
            (missing if unknown or twice or not allow_missing else [], "samples without an answer"),
            (unknown, "answers to unknown samples"),
            (list(twice.values()), "ids given more than once"),
        )
        if names
    ]
    if not faults:
        return texts
    if unknown and len(unknown) == len(texts):
        advice = "none of the ids is in this split; is it the right one?"
    elif unknown or twice:
        advice = "give each sample one answer."
    else:
        advice = "--allow-missing scores the others, and counts these as errors."
    raise UserError(f"{source} does not fit {job.name} ({len(samples):,} samples): {'; '.join(faults)}; {advice}")


@dataclass(frozen=True)
class Reader:
    """Makes records of given answers.

    Attributes:
        family: whose models gave them as raw text; None for final texts.
        min_pixels, max_pixels: the limits that the family's processor resized images by; None for its defaults.
        protocol: by whose protocol they were asked: the family reads them by its convention.
    """

    family: Family | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    protocol: str = "official"

    def check(self, task: Task) -> None:
        """Raise ``UserError`` where answers to ``task`` cannot be read, or the limits or the protocol mean nothing."""
        limits = {"--min-pixels": self.min_pixels, "--max-pixels": self.max_pixels}
        given = [name for name, value in limits.items() if value is not None]
        if task.kind == "grounding" and self.family is None:
            raise UserError(
                f"{task.name} asks for boxes, and a text alone does not say in which coordinates they are: "
                "name the model family whose convention it follows with --family, for example --family qwen2.5-vl."
            )
        if given and self.family is None:
            raise UserError(
                f"{given[0]}: without --family nothing depends on the size that images were resized to; leave it out."
            )
        for name, value in limits.items():
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: give at least 1.")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise UserError(f"--min-pixels {self.min_pixels} is more than --max-pixels {self.max_pixels}.")
        if self.family is not None:
            self.family.decoding(self._spec(task), task.decoding)  # refuses what the protocol does not define

    def records(self, job: Job, texts: Mapping[str, str], source: str) -> list[Record]:
        """A record for every sample of ``job``; one without an answer is an error that names ``source``."""
        sizes: dict[str, Size] = {}
        return [self._record(job.task, sample, texts.get(sample.id), source, sizes) for sample in job.samples]

    def parse(self, task: Task, sample: Sample, text: str, image_sizes: Sequence[ImageSize]) -> Prediction:
        """What an answer says, by the family's rules or as a final text."""
        if self.family is not None:
            return self.family.parse(self._spec(task), text, image_sizes)
        return final(sample, text) if task.kind != "choice" else final_letter(sample, text)

    def _spec(self, task: Task) -> PromptSpec:
        return task.prompt_spec(self.protocol)

    def _record(self, task: Task, sample: Sample, text: str | None, source: str, sizes: dict[str, Size]) -> Record:
        if text is None:
            return _unanswered(sample, f"no answer in {source}")
        try:
            image_sizes = self._image_sizes(sample, sizes) if task.kind == "grounding" else ()
        except (OSError, ValueError) as error:
            names = ", ".join(image.name for image in sample.all_images)
            return _unanswered(sample, f"{type(error).__name__}: {error} ({names})")
        response = Response(sample.id, text, image_sizes=image_sizes)
        return Record(sample, "", response, self.parse(task, sample, text, image_sizes), sample.all_images)

    def _image_sizes(self, sample: Sample, sizes: dict[str, Size]) -> tuple[ImageSize, ...]:
        """The sample's images as the encoder saw them; ``sizes`` remembers those looked at already."""
        for image in sample.all_images:
            if image.name not in sizes:
                sizes[image.name] = image.size()
        seen = [sizes[image.name] for image in sample.images]
        family = self.family
        if family is None:
            return tuple(ImageSize(size, size) for size in seen)
        return tuple(family.image_size(size, self.min_pixels, self.max_pixels) for size in seen)


def final(sample: Sample, text: str) -> Prediction:
    """A final text, unchanged; one without a visible character is no answer."""
    return Prediction(text if text.strip() else None)


def final_letter(sample: Sample, text: str) -> Prediction:
    """The letter of one of the sample's options, spaces aside; it takes a family to find it in anything longer."""
    letter = text.strip()
    letters = [chr(ord("A") + place) for place in range(len(sample.options))]
    return Prediction(letter if letter in letters else None)


def _unanswered(sample: Sample, error: str) -> Record:
    return Record(sample, "", Response(sample.id, finish="error", error=error), Prediction(None), sample.all_images)
