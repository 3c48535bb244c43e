"""LVBench: questions on videos of more than an hour on average.

Paper: Wang et al., "LVBench: An Extreme Long Video Understanding Benchmark", ICCV 2025 (arXiv 2406.08035).  Official
data: ``video_info.meta.jsonl`` of zai-org/LVBench; on the hub lmms-lab/LVBench with the videos.  Score: share of the
1,549 questions answered right (``metrics/video_choice.py``), with each of the six abilities (a question can need
several) and type of video.

Files: ``lvbench/video_info.meta.jsonl`` (or in ``LVBench/``), a line for each of 103 videos with ``key``, ``type``
and ``qa``: ``uid``, ``question`` with its options in lines ``(A) …``, ``answer``, ``question_type``; videos as
``lvbench/videos/KEY.mp4`` (or in ``all_videos/``, ``data/``), or in zip archives.

Rules:
- ``lmms-eval-75571cf``: lmms-eval's ``extract_mcq_answer`` for A to D.

Deliberate choices:
- The benchmark's repository has no prompt of its own; each family asks in its own words.
- On the hub a row's name is its place, and its abilities are there if the row has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from evalkit.data import HubData, OfficialData, shown
from evalkit.jsonl import objects, read_bytes
from evalkit.letters import lmms_eval
from evalkit.tasks._files import id_in, list_in, name_in, official_format, text_in, texts_in
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import VideoQuestions, with_options, without_letters

HUB_REPO = "lmms-lab/LVBench"
FILE = "video_info.meta.jsonl"


class LVBench(VideoQuestions):
    """LVBench, from the official file or the hub."""

    name = "lvbench"
    splits = {"test": Split(1_549, "all questions")}
    default_splits = ("test",)
    hub = HUB_REPO
    places = ("lvbench", "LVBench")
    folders = ("videos", "all_videos", "data", "video", "")
    layout = (f"lvbench/{FILE}", "lvbench/videos/*.mp4", "or lvbench/*.zip")
    prompts = {
        "lmms-eval": PromptTemplate(
            "{q}\n{bracketed_options}\nAnswer the question with the option letter", max_new_tokens=16
        ),
    }
    rules = {
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-lvbench", about="lmms-eval's, A to D", read=partial(lmms_eval.read, letters="ABCD")
        )
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of each line, in the file's order."""
        path = data.find(*self.candidates(FILE), FILE, task=self.name)
        source = self.source(data)
        for number, entry in objects(read_bytes(path, f"{self.name}:"), str(path)):
            where = f"line {number} of {path}"
            with official_format(self.name, where, f"a video of {FILE}"):
                video, kind = name_in(entry, "key"), entry.get("type")
                meta = {} if kind is None else {"domain": text_in(entry, "type")}
                for question in list_in(entry, "qa"):
                    text, options = with_options(text_in(question, "question"))
                    yield self._sample(id_in(question, "uid"), video, source, text, options, question, meta, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "train", task=self.name, columns=("video_path", "question", "options", "answer"))
        source = self.source(data)
        for index, row in data.iterate(rows, without=()):
            where = f"{HUB_REPO}/train[{index}]"
            with official_format(self.name, where, f"a row of {HUB_REPO}"):
                options = without_letters(texts_in(row, "options"))
                video = name_in(row, "video_path")
                yield self._sample(str(index), video, source, text_in(row, "question"), options, row, {}, where)

    def _sample(
        self,
        sample_id: str,
        video: str,
        source: VideoSource,
        text: str,
        options: Sequence[str],
        entry: Mapping[str, Any],
        meta: Mapping[str, Any],
        where: str,
    ) -> Sample:
        abilities = entry.get("question_type")
        if abilities is not None and not isinstance(abilities, str):
            abilities = list(texts_in(entry, "question_type"))
        if not isinstance(entry["answer"], str):
            raise ValueError(f"the answer is {shown(entry['answer'])}, not a letter")
        return self.question(
            sample_id,
            source.video(video if "." in video[-5:] else f"{video}.mp4"),
            text,
            options,
            entry["answer"].strip("() "),
            cluster=video.removesuffix(".mp4"),
            where=where,
            meta={**meta, **({} if abilities is None else {"ability": abilities})},
        )


TASK = LVBench()
