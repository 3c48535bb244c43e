"""NExT-QA, multiple choice: why, how, when and what in everyday videos.

Paper: Xiao et al., "NExT-QA: Next Phase of Question-Answering to Explaining Temporal Actions", CVPR 2021 (arXiv
2105.08276).  Official data: ``dataset/nextqa/test.csv`` of doc-doc/NExT-QA with ``map_vid_vidorID.json``; on the hub
lmms-lab/NExTQA, configuration ``MC``.  Score: share of the 8,564 questions of test answered right
(``metrics/video_choice.py``), with each type (CW, CH, TN, TC, TP, DC, DL, DO) and kind (causal, temporal, descriptive).

Files: ``nextqa/test.csv`` (``video``, ``question``, ``answer``, the index of the right option, ``qid``, ``type``,
``a0`` … ``a4``), ``nextqa/map_vid_vidorID.json``, videos as ``nextqa/NExTVideo/FOLDER/ID.mp4`` by the map, or as
``nextqa/NExTVideo/VIDEO.mp4`` (or ``videos/``) without it, or in zip archives.

Rules:
- ``lmms-eval-75571cf``: lmms-eval's copy of MMMU's rule (``evalkit/letters/mmmu.py``), without the option that it draws
  where there is none.

Deliberate choices:
- The benchmark has no prompt of its own; each family asks in its own words.  lmms-eval asks with the options alone.
- Questions are named by the video and ``qid``; a video's questions are one cluster.
- The open-ended questions are left out: WUPS depends on the lemmatiser.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, is_valid_id
from evalkit.errors import UserError
from evalkit.jsonl import read_bytes
from evalkit.letters import lmms_eval, mmmu
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.tasks.multiple_choice._choice import letter
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import VideoQuestions

HUB_REPO = "lmms-lab/NExTQA"
COLUMNS = ("video", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
MAP = "map_vid_vidorID.json"
KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


class NExTQA(VideoQuestions):
    """NExT-QA test, multiple choice, from the official files or the hub."""

    name = "nextqa"
    splits = {"test": Split(8_564, "multiple-choice questions of test")}
    default_splits = ("test",)
    hub = HUB_REPO
    places = ("nextqa", "NExT-QA", "NExTQA")
    folders = ("NExTVideo", "videos", "")
    layout = ("nextqa/test.csv", f"nextqa/{MAP}", "nextqa/NExTVideo/*/*.mp4", "or nextqa/*.zip")
    prompts = {"lmms-eval": PromptTemplate("{q}\n{options}", max_new_tokens=1024)}
    rules = {
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-nextqa", about="lmms-eval's copy of MMMU's rule", read=mmmu.read_loosely
        )
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of the official table, in its order."""
        path = data.find(*self.candidates("test.csv"), task=self.name)
        content = read_bytes(path, f"{self.name}:").decode("utf-8-sig", errors="replace")
        reader = csv.DictReader(io.StringIO(content, newline=""))
        with official_format(self.name, str(path), f"a table with the columns {', '.join(COLUMNS)}"):
            try:
                rows = list(reader)
            except csv.Error as error:
                raise ValueError(str(error)) from error
            if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
                raise KeyError(missing[0])
        folders = self._map(data)
        source = self.source(data)
        for number, row in enumerate(rows, start=2):
            yield self._sample(row, folders, source, f"row {number} of {path}")

    def _map(self, data: OfficialData) -> Mapping[str, Any]:
        """The place of each video's file, without its suffix; empty without the file."""
        names = self.candidates(MAP)
        if not any((data.root / name).exists() for name in names):
            return {}
        content = data.json(*names, task=self.name)
        if not isinstance(content, dict) or not all(is_valid_id(value) for value in content.values()):
            raise UserError(f"{self.name}: {data.find(*names, task=self.name)} is no object from video to file.")
        return content

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", "MC", task=self.name, columns=COLUMNS)
        source = self.source(data)
        for index, row in data.iterate(rows, without=()):
            yield self._sample(row, {}, source, f"{HUB_REPO}/MC[{index}]")

    def _sample(self, row: Mapping[str, Any], folders: Mapping[str, Any], source: VideoSource, where: str) -> Sample:
        with official_format(self.name, where, "a row of test.csv"):
            video, kind = id_in(row, "video"), text_in(row, "type")
            options = tuple(text_in(row, f"a{number}").strip() for number in range(5))
            file = name_in({"file": str(folders.get(video, video))}, "file")
            return self.question(
                f"{video}-{id_in(row, 'qid')}",
                source.video(f"{file}.mp4"),
                text_in(row, "question").strip(),
                options,
                letter(row["answer"], options, task=self.name, where=where),
                cluster=video,
                where=where,
                meta={"type": kind, "task_type": KINDS.get(kind[:1], kind)},
            )


TASK = NExTQA()
