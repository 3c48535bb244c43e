"""Benchmarks with the rows of a TSV file of VLMEvalKit's, or of a data set on the hub with the same columns.

A row has an ``index``, a ``question``, perhaps a ``hint``, the options ``A``, ``B``, … and the letter of the right one
in ``answer`` (``evalkit/tsv.py`` says more).  A task names its files and the columns of its breakdowns; what differs,
it overrides.

*Missing options.*  Where an option is missing, those after it keep their letters.  A missing option can be the right
one: pandas reads the option ``None`` as a missing value, and wrote it so to some files.  Then no answer is right by
VLMEvalKit's rules and evalkit's; a warning counts such rows.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.data import HubData, OfficialData, shown, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.letters import VLMEVALKIT
from evalkit.letters.vlmevalkit import MISSING as PANDAS_MISSING
from evalkit.tasks._files import id_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample

from ._choice import LETTERS

log = logging.getLogger(__name__)

VLMEVALKIT_PROMPT = PromptTemplate(
    "{hints}Question: {question}\nOptions:\n{options}\nPlease select the correct answer from the options above. \n",
    max_new_tokens=2048,
    no_options=PANDAS_MISSING,
)
LETTER = "{q}\n{options}\nAnswer with the option's letter from the given choices directly."
"""LLaVA's and lmms-eval's prompt."""

MISSING = frozenset({"", "nan", "NaN"})
"""Texts that stand for a missing option or hint in the hub's copies, as in the TSV files."""


@dataclass(frozen=True)
class Row:
    """A question as its file has it.

    Attributes:
        options: up to the last one; "" where one before it is missing.
        answer: as in the file; None if it has none.
        images: none if images are not required and the file has none.
        where: its place, for messages.
        fields: the other columns.
    """

    index: str
    question: str
    options: tuple[str, ...]
    answer: str | None
    images: tuple[ImageRef, ...]
    where: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def text(self, column: str) -> str:
        """The text in ``column``; empty if it is missing."""
        value = self.fields.get(column)
        if value is None or (isinstance(value, str) and value in MISSING):
            return ""
        if not isinstance(value, str):
            raise ValueError(f"{column} is {shown(value)}, not a text")
        return value


class ChoiceTable(Task):
    """A benchmark of such rows.

    Attributes:
        tsv: the names of each split's TSV file without suffix, the usual one first.
        tsv_columns: the columns that they must have beside ``index``, the image and, where answers are public,
            ``answer``.
        hub_splits: the (configuration, split) of each split on the hub.
        hub_columns: the columns of a row on the hub beside the options.
        breakdowns: the columns by which scores are broken down, by their key in ``meta``.
    """

    version = 1
    kind = "choice"
    metric = "choice_accuracy"
    decoding = Decoding(max_new_tokens=1024)  # models that explain first need them; a letter ends after two
    prompts: Mapping[str, PromptTemplate] = {"vlmevalkit": VLMEVALKIT_PROMPT}
    protocol_rules: Mapping[str, str] = {"vlmevalkit": VLMEVALKIT}
    tsv: Mapping[str, Sequence[str]] = {}
    tsv_columns: Sequence[str] = ("question", "A")
    hub_splits: Mapping[str, tuple[str | None, str]] = {}
    hub_columns: Sequence[str] = ("index", "question", "answer", "A", "B")
    breakdowns: Mapping[str, str] = {"category": "category"}

    # --------------------------------------------------------------------------------------------- to be overridden

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        """The row ``index`` of the hub's data set; ``name`` is its place.  Raises ``ValueError`` or ``KeyError``."""
        options = ["" if row.get(letter) in (None, *MISSING) else text_in(row, letter) for letter in LETTERS[:9]]
        while options and not options[-1]:
            options.pop()
        answer = row.get("answer")
        return Row(id_in(row, "index"), text_in(row, "question"), tuple(options), answer, images, name, row)

    def right(self, row: Row, split: str) -> str:
        """The letter of the right option.  Raises ``ValueError`` if the file has none."""
        answer = row.answer
        if not isinstance(answer, str) or len(answer) != 1 or answer not in LETTERS:
            raise ValueError(
                f"the right one of {len(row.options)} options is called {shown(answer)}; expected a letter"
            )
        return answer

    def cluster(self, row: Row) -> str:
        """What is resampled together: the image, if the rows that share it are known."""
        shared = getattr(row.images[0], "index", None) if row.images else None
        return shared if isinstance(shared, str) else row.index

    def meta(self, row: Row) -> dict[str, Any]:
        """What breakdowns and prompts need."""
        hint = row.text("hint")
        hinted = {"hint": hint, "question": row.question} if hint else {}
        return {key: row.text(column) for key, column in self.breakdowns.items()} | hinted

    # --------------------------------------------------------------------------------------------------- the interface

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file, in its order."""
        names = self._of(self.tsv, split, "official downloads")
        columns = (*self.tsv_columns, *(("answer",) if self.splits[split].answers else ()))
        table = data.tsv(*tsv_places(self.name, *names), task=self.name, columns=columns)
        folders = (f"{self.name}/images", *(f"images/{name}" for name in names))

        def listed() -> Iterator[Row]:
            folder = None
            for row in table.rows:
                images: tuple[ImageRef, ...] = row.images
                if not images and row.image_names:
                    folder = folder or data.image_folder(*folders, task=self.name)
                    images = row.images_or_files(folder, task=self.name)
                yield Row(row.index, row["question"] or "", row.options, row.get("answer"), images, row.where, row)

        return self.samples(listed(), split, str(table.path), images=data.images_required)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        config, of_hub = self._of(self.hub_splits, split, "the hub")
        rows = data.rows(self.hub, of_hub, config, task=self.name, columns=self.hub_columns)
        place = "/".join(part for part in (self.hub, config, of_hub) if part)

        def listed() -> Iterator[Row]:
            for index, row in data.iterate(rows):
                name = f"{place}[{index}]"
                with official_format(self.name, name, f"a row of {self.hub}"):
                    yield self.from_row(row, index, name, self.hub_images(rows, index, name))

        return self.samples(listed(), split, place)

    def hub_images(self, rows: Any, index: int, name: str) -> tuple[ImageRef, ...]:
        """The images of a row of the hub's data set."""
        return (RowImage(name, rows, index),)

    def samples(self, rows: Iterable[Row], split: str, source: str, *, images: bool = True) -> Iterator[Sample]:
        """The samples of ``rows``.

        Args:
            source: where they come from, for messages.
            images: whether every row must have an image.
        """
        trouble: Counter[str] = Counter()
        for row in rows:
            with official_format(self.name, row.where, "a question, its options and its image"):
                sample = self._sample(row, split)
            if images and not sample.images:
                raise UserError(f"{self.name}: {row.where} has no image; download the file again.")
            if sample.references and not dict(sample.lettered_options).get(sample.references[0]):
                trouble[row.where] += 1
            yield sample
        if trouble:
            log.warning(
                "%s/%s: in %s of %s the right option is missing (the first is %s): any answer is wrong by most rules.",
                self.name, split, f"{len(trouble):,} rows", source, next(iter(trouble)),
            )  # fmt: skip

    def _sample(self, row: Row, split: str) -> Sample:
        if not row.question or not any(row.options):
            raise ValueError(f"there {'are no options' if row.question else 'is no question'}")
        hint = row.text("hint")
        return Sample(
            id=row.index,
            images=row.images,
            text=f"{hint}\n{row.question}" if hint else row.question,
            references=(self.right(row, split),) if self.splits[split].answers else (),
            cluster=self.cluster(row),
            options=row.options,
            meta=self.meta(row),
        )

    def _of(self, places: Mapping[str, Any], split: str, what: str) -> Any:
        if split not in places:
            other = "--data ROOT" if what == "the hub" else "--data hub"
            raise UserError(f"{self.name}: split {split} is not read from {what}; give {other}.")
        return places[split]
