"""Parses answers from elsewhere: as a model family's raw output, as final texts, or in stated coordinates.

Without a family, an answer is a *final text*: what the official scorer would be given.  With one it is raw text, parsed
as the family parses its own models' answers.  Answers to multiple-choice questions are always raw text: without a
family, the family ``generic`` parses them.  Boxes and points need a family or stated coordinates: a text alone does not
say which it uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from evalkit import registry
from evalkit.end_of_turn import ended, first_turn
from evalkit.errors import UserError
from evalkit.interfaces import Family, Task
from evalkit.interfaces.task import READINGS
from evalkit.jobs import GENERATE, OFFICIAL, Job, Record, parse_answer
from evalkit.reasoning import REASONING, Markers, cut_off_inside
from evalkit.repeats import answer_key
from evalkit.types import LOCATED, FinishReason, ImageSize, LabelledBox, Prediction, PromptSpec, Response, Sample, Size

PIXELS = "pixels"
COORDINATES = (PIXELS, "0-1000", "0-1", "resized")
"""Coordinates of boxes and points: in pixels of the original image, thousandths or fractions of it, or pixels of the
resized image."""
RESIZED = "resized"
_TYPES = {"min_pixels": int, "max_pixels": int, "protocol": str, "choice": str, "boxes": str, "rule": str}


@dataclass(frozen=True)
class Reader:
    """Makes records of given answers.

    Attributes:
        family: whose models gave them as raw text; None for final texts.
        min_pixels, max_pixels: the limits that the family's processor resized images by; None for its defaults.
        protocol: the protocol of the prompts, which decides the family's parsing.
        choice: how multiple-choice questions were answered.
        boxes: one of ``COORDINATES`` for boxes and points; None for the family's.
        rule: the scoring rule (``Task.scoring_rules``), for the tasks that have it; empty for that of the protocol.
        judge: whether there is a judge, whose rule then applies if the task has one.
    """

    family: Family | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    protocol: str = OFFICIAL
    choice: str = GENERATE
    boxes: str | None = None
    rule: str = ""
    judge: bool = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], family: Family | None) -> Reader:
        """The reader of a run with these settings (its manifest's).

        Raises:
            UserError: a setting is not of its type.
        """
        for key, expected in _TYPES.items():
            value = settings.get(key)
            if value is not None and not isinstance(value, expected):
                raise UserError(f"the run's manifest is corrupt: its setting {key} is {value!r}.")
        return cls(
            family,
            settings.get("min_pixels"),
            settings.get("max_pixels"),
            settings.get("protocol") or OFFICIAL,
            settings.get("choice") or GENERATE,
            settings.get("boxes"),
            settings.get("rule") or "",
            bool(settings.get("judge") or settings.get("judge_base_url")),
        )

    def check_options(self) -> None:
        """Raise ``UserError`` if the coordinates are unknown, or the limits are impossible or have no effect."""
        limits = {"--min-pixels": self.min_pixels, "--max-pixels": self.max_pixels}
        given = [name for name, value in limits.items() if value is not None]
        if self.boxes is not None and self.boxes not in COORDINATES:
            raise UserError(f"--boxes {self.boxes}: unknown; use {', '.join(COORDINATES[:-1])} or {COORDINATES[-1]}.")
        if self.boxes == RESIZED and self.family is None:
            raise UserError(
                "--boxes resized: how images are resized depends on the model; name its family with --family, for "
                "example --family qwen2.5-vl."
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

    def rule_of(self, task: Task) -> str:
        """The scoring rule of ``task``; empty for that of the protocol, also where the task has none of this name."""
        return self.rule if self.rule and task.has_rule(self.rule) else ""

    def check(self, task: Task) -> None:
        """Raise ``UserError`` if answers to ``task`` cannot be parsed."""
        frame = self._spec(task).point_rule.frame if task.kind == "pointing" else ""
        if frame and self.boxes is not None:
            raise UserError(
                f"--boxes {self.boxes}: the scoring rule {self.rule_of(task) or task.rule_of(self.protocol)} of "
                f"{task.name} has "
                f"coordinates of its own ({frame}); leave it out."
            )
        if task.kind in LOCATED and self.family is None and self.boxes is None and not frame:
            what = "points" if task.kind == "pointing" else "boxes"
            raise UserError(
                f"{task.name} asks for {what}, and a text alone does not say in which coordinates they are: state them "
                f"with --boxes ({', '.join(COORDINATES)}), or name the model family whose convention they follow with "
                "--family, for example --family qwen2.5-vl."
            )
        parser = self._parser(task)
        if parser is not None:
            parser.decoding(self._spec(task), task.decoding)  # refuses what the protocol does not define

    def records(self, job: Job, texts: Mapping[str, str]) -> list[Record]:
        """A record for every answer to the samples of ``job``; a sample without an answer has an empty one.

        Args:
            texts: by ``answer_key``.
        """
        sizes: dict[str, Size] = {}
        return [
            replace(self._record(job.task, sample, texts.get(answer_key(sample.id, repeat)), sizes), repeat=repeat)
            for sample in job.samples
            for repeat in range(1, job.repeats + 1)
        ]

    def parse(
        self,
        task: Task,
        sample: Sample,
        text: str,
        image_sizes: Sequence[ImageSize],
        finish: FinishReason | None = None,
    ) -> Prediction:
        """The prediction in an answer up to the end of the turn, by the family's rules, or of a final text.

        Args:
            finish: how the answer ended; None if that is unknown.
        """
        if task.kind in LOCATED and self.boxes is not None:
            return self._parse_located(task, text, image_sizes, finish)
        parser = self._parser(task, sample)
        if parser is None:
            return final(sample, first_turn(text))
        return parse_answer(parser, self._spec(task), sample, text, image_sizes, finish=finish)

    def needs_sizes(self, task: Task) -> bool:
        """Whether parsing answers to ``task`` needs the sizes of its images."""
        return task.kind in LOCATED and self.boxes != PIXELS

    def image_sizes(self, sample: Sample, sizes: dict[str, Size]) -> tuple[ImageSize, ...]:
        """The sizes of the sample's images, as in the file and as the family's processor resizes them.

        Args:
            sizes: (width, height) of the images read so far, by name; it is added to.

        Raises:
            OSError, ValueError: an image cannot be read, or cannot be resized.
        """
        for image in sample.all_images:
            if image.name not in sizes:
                sizes[image.name] = image.size()
        originals = [sizes[image.name] for image in sample.images]
        family = self.family
        if family is None:
            return tuple(ImageSize(size, size) for size in originals)
        return tuple(family.image_size(size, self.min_pixels, self.max_pixels) for size in originals)

    def _parse_located(
        self, task: Task, text: str, image_sizes: Sequence[ImageSize], finish: FinishReason | None
    ) -> Prediction:
        """The box or point in an answer, converted from the stated coordinates."""
        # The generic family answers in fractions of the image: those of an image of 1 × 1 pixels are the raw numbers.
        spec = PromptSpec(task.name, task.kind, reading=self._spec(task).reading)
        turn = first_turn(text)
        if cut_off_inside(turn, REASONING, ended(text, finish)):
            return Prediction(None)
        found = _generic().parse(spec, turn, [ImageSize((1, 1), (1, 1))])
        if found.value is None or self.boxes == PIXELS:
            return found
        if not image_sizes:
            return Prediction(None)
        (width, height), (wide, high) = image_sizes[-1].original, image_sizes[-1].resized
        x, y = {
            "0-1000": (width / 1000, height / 1000),
            "0-1": (float(width), float(height)),
            RESIZED: (width / wide, height / high),
        }[str(self.boxes)]
        return Prediction(_scaled(found.value, x, y))

    def _parser(self, task: Task, sample: Sample | None = None) -> Family | None:
        """The family that parses the answers, or that to ``sample``; None if they are final texts."""
        kind = task.kind if sample is None or sample.kind is None else sample.kind
        if self.family is None and kind in READINGS:
            return _generic()
        return self.family

    def _spec(self, task: Task) -> PromptSpec:
        rule = self.rule_of(task) or task.rule_of(self.protocol, self.judge)
        return task.prompt_spec(self.protocol, self.choice, rule)

    def _record(self, task: Task, sample: Sample, text: str | None, sizes: dict[str, Size]) -> Record:
        if text is None:
            return Record(sample, "", Response(sample.id), Prediction(None), sample.all_images)
        try:
            image_sizes = self.image_sizes(sample, sizes) if self.needs_sizes(task) else ()
        except (OSError, ValueError) as error:
            names = ", ".join(image.name for image in sample.all_images)
            return failed(sample, f"{type(error).__name__}: {error} ({names})")
        response = Response(sample.id, text, image_sizes=image_sizes)
        prediction = self.parse(task, sample, text, image_sizes)
        return Record(sample, "", response, prediction, sample.all_images, markers=self.markers(task, sample))

    def markers(self, task: Task, sample: Sample) -> Sequence[Markers]:
        """The markers of reasoning in answers to ``sample``; none if they are final texts."""
        parser = self._parser(task, sample)
        located = task.kind in LOCATED and self.boxes is not None  # parsed by the generic family
        return parser.reasoning if parser is not None else REASONING if located else ()


def _scaled(value: Any, x: float, y: float) -> Any:
    """A point, a box or labelled boxes with coordinates multiplied by ``x`` and ``y``."""
    if not value or isinstance(value[0], dict):
        boxes: list[LabelledBox] = [{"label": one["label"], "box": _scaled(one["box"], x, y)} for one in value]
        return tuple(boxes)
    return tuple(number * factor for number, factor in zip(value, (x, y) * 2, strict=False))


@cache
def _generic() -> Family:
    """The family ``generic``; finding a plugin looks at every installed distribution."""
    return registry.families.get("generic")


def final(sample: Sample, text: str) -> Prediction:
    """A final text, unchanged; one without a visible character is no answer."""
    return Prediction(text if text.strip() else None)


def failed(sample: Sample, error: str) -> Record:
    """The record of a sample that could not be answered or parsed."""
    return Record(sample, "", Response(sample.id, finish="error", error=error), Prediction(None), sample.all_images)
