"""What multiple-choice benchmarks on videos share: their videos, their rows, and options with letters in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data import Data, OfficialData
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.shards import split_files
from evalkit.tasks.multiple_choice._choice import LETTERS, check_letter
from evalkit.types import Decoding, Kind, Sample, VideoRef
from evalkit.video_source import VideoSource, video_source

LETTER_LINE = "Answer with the option's letter from the given choices directly."
"""LLaVA's and lmms-eval's instruction."""
_LETTERED = re.compile(r"\s*\(?(?P<letter>[A-Z])(?:\)|\.|:)\s*(?P<text>.*)", re.S)


class VideoQuestions(Task):
    """A benchmark of multiple-choice questions on videos.

    Attributes:
        places: names of its folder in the root of the official downloads.
        folders: where unpacked videos may be below it, or below the data set on the hub.
    """

    version = 1
    kind: Kind = "choice"
    metric = "video_choice"
    decoding = Decoding(max_new_tokens=1024)  # models that explain first need them; a letter ends after two
    places: Sequence[str] = ()
    folders: Sequence[str] = ()

    def source(self, data: Data) -> VideoSource:
        """Where the videos are.  Raises ``UserError`` if they are required and nowhere."""
        return video_source(data, self.name, self.folders, places=self.places, hub=self.hub)

    def candidates(self, *names: str) -> list[str]:
        """The places of an official file below the root."""
        return [f"{place}/{name}" for name in names for place in self.places]

    def question(
        self,
        sample_id: str,
        video: VideoRef,
        text: str,
        options: Sequence[str],
        answer: Any,
        *,
        cluster: str,
        where: str,
        meta: Mapping[str, Any] | None = None,
    ) -> Sample:
        """A sample.

        Args:
            answer: the letter of the right option.
            cluster: the video.

        Raises:
            UserError: there is no such option.
            ValueError: there is no question.
        """
        if not text.strip():
            raise ValueError("there is no question")
        return Sample(
            id=sample_id,
            images=(),
            text=text,
            references=(check_letter(answer, options, task=self.name, where=where),),
            cluster=cluster,
            options=tuple(options),
            meta=meta or {},
            videos=(video,),
        )


def parquet_rows(data: OfficialData, places: Sequence[str], split: str, config: str, *, task: str) -> Iterator[Any]:
    """(place, row) of the parquet files of a data set of the hub that was downloaded to one of ``places``.

    Raises:
        UserError: they are missing or corrupt.
    """
    folder = data.find(*places, task=task)
    for path in split_files(folder, split, config, task=task):
        yield from rows_of(path, task=task)


def rows_of(path: Path, *, task: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of a parquet file, without images.  Raises ``UserError`` if it is corrupt."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = [name for name in pq.read_schema(path).names if name != "image"]
        rows = pq.read_table(path, columns=columns).to_pylist()
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        raise UserError(f"{task}: {path} is not a complete parquet file; download it again.") from error
    for place, row in enumerate(rows, start=1):
        yield f"row {place} of {path}", row


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The options without the letters that they begin with, if each begins with its own (``A. red``, ``(B) blue``)."""
    matches = [_LETTERED.fullmatch(option) for option in options]
    if any(match is None or match["letter"] != letter for match, letter in zip(matches, LETTERS, strict=False)):
        return tuple(options)
    return tuple(match["text"].strip() for match in matches if match is not None)


def with_options(text: str) -> tuple[str, tuple[str, ...]]:
    """A question with its options in lines below it (``(A) red`` or ``A. red``): the question, and the options.

    Raises:
        ValueError: there are no such lines, or their letters are not in order.
    """
    lines = text.split("\n")
    found = [(place, match) for place, line in enumerate(lines) if (match := _LETTERED.fullmatch(line)) is not None]
    start = next((place for place, match in found if match["letter"] == "A"), None)
    options = [match["text"].strip() for place, match in found if start is not None and place >= start]
    letters = "".join(match["letter"] for place, match in found if start is not None and place >= start)
    if not options or letters != LETTERS[: len(options)]:
        raise ValueError("the question has no options in lines (A), (B) …")
    return "\n".join(lines[:start]).strip(), tuple(options)


def letter_of(answer: Any, options: Sequence[str]) -> str:
    """The letter of the option with this text.

    Raises:
        ValueError: none, or several that differ from the first, have it.
    """
    places = [place for place, option in enumerate(options) if option == answer]
    if not places or places[0] >= len(LETTERS):
        raise ValueError(f"the answer is {answer!r}, which is none of the {len(options)} options")
    return LETTERS[places[0]]
