"""Perception Test: memory, abstraction, physics and semantics in short filmed scenes, three options each.

Paper: Pătrăucean et al., "Perception Test: A Diagnostic Benchmark for Multimodal Video Models", NeurIPS 2023 Datasets
and Benchmarks (arXiv 2305.13786).  Official data: the multiple-choice annotations of google-deepmind/perception_test;
on the hub lmms-lab/PerceptionTest_Val.  Score: share of the 19,140 questions of val answered right
(``metrics/video_choice.py``), with each area, type of reasoning and tag.  The reports' scores are of the test split,
which the challenge's server scores.

Files: ``perceptiontest/mc_question_valid.json`` (or ``all_valid.json``; in ``perceptiontest/`` or
``perception_test/``), an object by video with ``mc_question``: ``id``, ``question``, ``options``, ``answer_id``,
``area``, ``reasoning``, ``tag``; videos as ``perceptiontest/videos/*.mp4``, or in zip archives.

Rules:
- ``lmms-eval-75571cf``: the first capital from A to D that is a word.

Deliberate choices:
- The benchmark has no prompt of its own; each family asks in its own words.
- Questions are named by the video and their id; a video's questions are one cluster.

Not checked against the official download: the fields of the official JSON file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData
from evalkit.letters import lmms_eval
from evalkit.tasks._files import id_in, list_of, name_in, official_format, text_in, texts_in
from evalkit.tasks.multiple_choice._choice import letter
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import LETTER_LINE, VideoQuestions
from ._rules import word_letter

HUB_REPO = "lmms-lab/PerceptionTest_Val"
CONFIG = "mc_question_val"
FILES = ("mc_question_valid.json", "mc_question_valid_annotations.json", "all_valid.json")


class PerceptionTest(VideoQuestions):
    """Perception Test val, from the official file or the hub."""

    name = "perceptiontest"
    splits = {"val": Split(19_140, "multiple-choice questions of val")}
    default_splits = ("val",)
    hub = HUB_REPO
    places = ("perceptiontest", "perception_test", "PerceptionTest")
    folders = ("videos", "")
    layout = (f"perceptiontest/{FILES[0]}", "perceptiontest/videos/*.mp4", "or perceptiontest/*.zip")
    prompts = {"lmms-eval": PromptTemplate(f"{{q}}\n{{options}}\n{LETTER_LINE}", max_new_tokens=1024)}
    rules = {
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-perceptiontest", about="the first capital from A to D that is a word", read=word_letter
        )
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of each video, in the file's order."""
        names = self.candidates(*FILES)
        path = data.find(*names, task=self.name)
        with official_format(self.name, str(path), f"an object by video as in {FILES[0]}"):
            videos = list(data.json(*names, task=self.name).items())
        source = self.source(data)
        for video, entry in videos:
            where = f"video {video} of {path}"
            with official_format(self.name, where, f"a video of {FILES[0]}"):
                name = name_in({"video": video}, "video")
                for question in list_of(entry.get("mc_question", []), "mc_question"):
                    yield self._sample(id_in(question, "id"), name, question, source, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        columns = ("video_name", "question", "question_id", "options", "answer_id", "area", "reasoning", "tag")
        rows = data.rows(HUB_REPO, "validation", CONFIG, task=self.name, columns=columns)
        source = self.source(data)
        for index, row in data.iterate(rows, without=()):
            where = f"{HUB_REPO}/{CONFIG}[{index}]"
            with official_format(self.name, where, f"a row of {HUB_REPO}"):
                yield self._sample(id_in(row, "question_id"), name_in(row, "video_name"), row, source, where)

    def _sample(
        self, question_id: str, video: str, entry: Mapping[str, Any], source: VideoSource, where: str
    ) -> Sample:
        options, tag = texts_in(entry, "options"), entry.get("tag")
        tags = [] if tag is None else [tag] if isinstance(tag, str) else list(texts_in(entry, "tag"))
        return self.question(
            f"{video}-{question_id}",
            source.video(f"{video}.mp4"),
            text_in(entry, "question"),
            options,
            letter(entry["answer_id"], options, task=self.name, where=where),
            cluster=video,
            where=where,
            meta={"area": text_in(entry, "area"), "reasoning": text_in(entry, "reasoning"), "tag": tags},
        )


TASK = PerceptionTest()
