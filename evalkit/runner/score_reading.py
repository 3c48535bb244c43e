"""How ``evalkit score`` parses answers: as the options say, or as the run did that a journal belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from evalkit import registry
from evalkit.errors import UserError
from evalkit.jobs import GENERATE, OFFICIAL
from evalkit.reader import Reader
from evalkit.settings import Effective

from .recorded import RecordedSplit


class ParsingOptions(Protocol):
    """The options of ``evalkit score`` that matter here."""

    @property
    def family(self) -> str | None: ...
    @property
    def min_pixels(self) -> int | None: ...
    @property
    def max_pixels(self) -> int | None: ...
    @property
    def boxes(self) -> str | None: ...
    @property
    def rule(self) -> str: ...
    @property
    def judge(self) -> str | None: ...
    @property
    def judge_base_url(self) -> str | None: ...


@dataclass(frozen=True)
class AnswerParsing:
    """How answers are parsed.

    Attributes:
        reader: parses them.
        recorded_predictions: whether the predictions of the journals are scored as they are.
        seed: of the runs that wrote the journals, which draws the samples of ``--limit``.
        notes: messages for the user.
    """

    reader: Reader
    recorded_predictions: bool = False
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def prompting(self, journal: RecordedSplit | None) -> str:
        """What the signature says of prompts and parsing."""
        reader = self.reader
        boxes = [f"boxes:{reader.boxes}"] if reader.boxes is not None else []
        if journal is not None and journal.split is not None and journal.split.prompting:
            return "|".join([journal.split.prompting, *boxes])
        return "|".join([*([f"protocol:{reader.protocol}"] if reader.family is not None else []), *boxes])

    def to_settings(self) -> dict[str, Any]:
        """The part of the manifest's settings from which ``evalkit rescore`` makes the same reader."""
        reader = self.reader
        return {
            "family": None if reader.family is None else reader.family.name,
            "protocol": reader.protocol,
            "choice": reader.choice,
            "min_pixels": reader.min_pixels,
            "max_pixels": reader.max_pixels,
            "boxes": reader.boxes,
            "rule": reader.rule,
            "recorded_predictions": self.recorded_predictions,
            "seed": self.seed,
            **self.extra,
        }


def choose_reading(
    journals: Sequence[RecordedSplit | None], effective: Effective, options: ParsingOptions, *, letters: bool = False
) -> AnswerParsing:
    """The reading of all files.

    Args:
        journals: the journal of each file; None for a predictions file.
        letters: whether option letters are read in any of them: that needs no family.

    Raises:
        UserError: an option has no effect or contradicts a journal, or the files need different readings.
    """
    found = [
        _of_options(effective, options, letters) if journal is None else _of_journal(journal, effective, options)
        for journal in journals
    ]
    first = found[0]
    for other in found[1:]:
        if (other.reader, other.seed) != (first.reader, first.seed):
            raise UserError(
                f"--predictions: the files come from runs of different families, protocols or limits "
                f"({_brief(first)}; {_brief(other)}); score them with one command each."
            )
    judged = options.judge is not None or options.judge_base_url is not None
    return AnswerParsing(
        replace(first.reader, judge=judged),
        any(reading.recorded_predictions for reading in found),
        first.seed,
        first.extra,
        list(dict.fromkeys(note for reading in found for note in reading.notes)),
    )


def _brief(reading: AnswerParsing) -> str:
    reader = reading.reader
    limits = "".join(
        f", {name} {value}"
        for name, value in (("min_pixels", reader.min_pixels), ("max_pixels", reader.max_pixels))
        if value is not None
    )
    return f"{'no family' if reader.family is None else reader.family.name}, {reader.protocol}{limits}"


def _of_options(effective: Effective, options: ParsingOptions, letters: bool = False) -> AnswerParsing:
    family = None if options.family is None else registry.families.get(options.family)
    parsed = family is not None or letters
    protocol = effective.settings.protocol if parsed else OFFICIAL  # final texts need no parsing
    if not parsed and effective.sources["protocol"] == "command line":
        raise UserError(
            f"--protocol {effective.settings.protocol}: without --family, answers are final texts, which no protocol "
            "parses; drop it, or name the model family with --family."
        )
    reader = Reader(family, options.min_pixels, options.max_pixels, protocol, boxes=options.boxes, rule=options.rule)
    return AnswerParsing(reader)


def _of_journal(journal: RecordedSplit, effective: Effective, options: ParsingOptions) -> AnswerParsing:
    """The reading of a run, except for what the command overrides."""
    settings, path = journal.settings, journal.path
    _check_limits(journal, options)
    name = options.family or journal.family
    recorded_predictions = bool(settings.get("recorded_predictions")) or journal.manifest is None
    if recorded_predictions and options.family is None and options.boxes is None and not options.rule:
        notes = [] if journal.manifest else [f"{path}: a journal without a manifest; its own predictions are scored."]
        return AnswerParsing(Reader(), recorded_predictions=True, seed=_seed(settings), notes=notes)
    notes = []
    protocol = str(settings.get("protocol") or OFFICIAL)
    if effective.sources["protocol"] == "command line":
        if name is None:
            return _of_options(effective, options)  # refuses it
        if journal.manifest is not None and protocol != effective.settings.protocol:
            notes.append(f"{path}: parsed under the protocol {effective.settings.protocol}; the run's is {protocol}.")
        protocol = effective.settings.protocol
    if journal.family is not None and name != journal.family:
        notes.append(f"{path}: parsed as answers of the family {name}; the run's is {journal.family}.")
    reader = Reader(
        None if name is None else registry.families.get(name),
        options.min_pixels or settings.get("min_pixels"),
        options.max_pixels or settings.get("max_pixels"),
        protocol,
        str(settings.get("choice") or GENERATE),
        options.boxes or settings.get("boxes"),
        options.rule or str(settings.get("rule") or ""),
    )
    extra = {key: settings[key] for key in ("shots_from",) if key in settings}
    return AnswerParsing(reader, seed=_seed(settings), extra=extra, notes=notes)


def _check_limits(journal: RecordedSplit, options: ParsingOptions) -> None:
    """Refuse pixel limits for answers of which the journal records the image sizes."""
    if not any(line.response.image_sizes for line in journal.lines.values()):
        return
    for name in ("min_pixels", "max_pixels"):
        value = getattr(options, name)
        if value is not None and value != journal.settings.get(name):
            raise UserError(
                f"--{name.replace('_', '-')} {value}: {journal.path} records the sizes that the model's images were "
                "resized to, and they are used; leave this option out."
            )


def _seed(settings: Mapping[str, Any]) -> int:
    seed = settings.get("seed", 0)
    return seed if isinstance(seed, int) else 0
