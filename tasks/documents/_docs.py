"""Reading the challenges of docvqa.org: DocVQA and InfographicVQA come in one format.

The Robust Reading Competition (RRC) gives one JSON file a split, ``{"dataset_name": …, "data": [question, …]}``, and a
folder of images.  A question has ``questionId``, ``question``, its image's name and, but for the test split,
``answers``.  The hub has both in one data set (``lmms-lab/DocVQA``), as two configurations.

Each task's file has its protocol and the places of its files.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data import HubData, OfficialData, image_in
from evalkit.errors import UserError
from evalkit.images import PathImage, RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, integer_in, official_format, required, text_in
from evalkit.types import Answered, Sample

HUB_REPO = "lmms-lab/DocVQA"
HUB_SPLITS = {"val": "validation", "test": "test"}
HUB_COLUMNS = ("image", "question", "answers", "questionId")
UNANSWERED = ("test",)
"""The splits whose answers are not public."""


class RRCTask(Task):
    """One of the two data sets; a subclass names its files and fields.

    Attributes:
        image_key: the key of the image's name in the JSON.
        extra_keys: keys that only some releases have; they go into ``meta``.
        hub_config: the configuration on the hub.
    """

    hub = HUB_REPO

    image_key: str
    extra_keys: tuple[str, ...]
    hub_config: str

    @abstractmethod
    def files(self, split: str) -> Sequence[str]:
        """The paths below the data root where the questions of ``split`` can be."""

    @abstractmethod
    def folders(self, split: str) -> Sequence[str]:
        """The paths below the data root where the images of ``split`` can be."""

    @abstractmethod
    def hub_cluster(self, row: Mapping[str, Any]) -> str:
        """Which image a row of the hub's data set is about."""

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of its file."""
        files, folders = self.files(split), self.folders(split)
        path = data.find(*files, task=self.name)
        document = data.json(*files, task=self.name)
        rows = document.get("data") if isinstance(document, Mapping) else None
        if not isinstance(rows, list):
            raise UserError(
                f"{self.name}: {path} has no list of questions under 'data'; "
                f"expected the official {path.name} (rrc.cvc.uab.es, challenge 17)."
            )
        folder = data.image_folder(*folders, task=self.name)
        # A submission has integers for ids; other ids are refused before anything is generated.
        read_id = integer_in if split in UNANSWERED else id_in
        expected = f"the official {path.name} (rrc.cvc.uab.es, challenge 17)"
        for place, row in enumerate(rows):
            with official_format(self.name, f"question {place} of {path}", expected):
                named = image_in(folder, row[self.image_key], task=self.name)
                question_id, question = str(read_id(row, "questionId")), text_in(row, "question")
            # Only the name counts: "documents/x.png" lies in documents/ or in spdocvqa_images/.
            image = Path(named.path).name
            yield Sample(
                id=question_id,
                images=(PathImage(str(folder / image)),),
                text=question,
                references=self._answers(row, split, f"question {question_id} of {path}"),
                cluster=Path(image).stem,
                meta=self._meta(row),
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of the rows."""
        if split not in HUB_SPLITS:
            raise UserError(f"{self.name}: split {split} is not read from the hub ({HUB_REPO}); give --data ROOT.")
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], self.hub_config, task=self.name, columns=HUB_COLUMNS)
        read_id = integer_in if split in UNANSWERED else id_in
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{self.hub_config}/{split}[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                question_id, question = str(read_id(row, "questionId")), text_in(row, "question")
            yield Sample(
                id=question_id,
                images=(RowImage(name, rows, index),),
                text=question,
                references=self._answers(row, split, name),
                cluster=self.hub_cluster(row),
                meta=self._meta(row),
            )

    def _answers(self, row: Mapping[str, Any], split: str, where: str) -> tuple[str, ...]:
        if split in UNANSWERED:
            return ()
        answers = row.get("answers")
        if not isinstance(answers, list) or not answers:
            raise UserError(
                f"{self.name}: {where} has no answers, so split {split} cannot be scored; "
                "only the test file comes without: check which file this is, or download it again."
            )
        return required(answers, "answers", where, task=self.name)

    def _meta(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in self.extra_keys if row.get(key) is not None}

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) to upload for the test split: ``[{"questionId": int, "answer": str}, …]``.

        The server wants every question; an answer that could not be parsed is "".
        """
        return f"{self.name}_test_submission.json", self.results(answers)

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as the RRC's script and server read them."""
        entries = [{"questionId": self._number(a), "answer": self._text(a)} for a in answers]
        return json.dumps(entries, ensure_ascii=False)

    def _number(self, answered: Answered) -> int:
        try:
            return int(answered.sample.id)
        except ValueError:
            raise UserError(
                f"{self.name}: the official results file has integers for ids, and there is a question "
                f"{answered.sample.id!r}."
            ) from None

    def _text(self, answered: Answered) -> str:
        value = answered.prediction.value
        if value is not None and not isinstance(value, str):
            raise UserError(
                f"{self.name}: the answer to question {answered.sample.id} was parsed as a box, {value!r}; "
                "a submission holds texts."
            )
        return value or ""
