"""LongVideoBench: referring questions on web videos of up to an hour.

Paper: Wu et al., "LongVideoBench: A Benchmark for Long-context Interleaved Video-Language Understanding", NeurIPS
2024 Datasets and Benchmarks (arXiv 2407.15754).  Official data: longvideobench/LongVideoBench on the hub (gated).
Score: share of the 1,337 questions of val answered right (``metrics/video_choice.py``), with each duration group (up
to 15, 60, 600 and 3,600 seconds), category of question and topic.

Files: a copy of the hub's data set in ``longvideobench/`` (or ``LongVideoBench/``): ``lvb_val.json`` and
``videos/*.mp4``, which are unpacked from the parts ``videos.tar.part.aa`` …

Rules:
- ``lmms-eval-75571cf``: the first capital from A to E, also of a word, after phrases like ``The answer is`` are
  removed. The paper's authors and lmms-eval draw an option where there is none; here that is wrong.

Deliberate choices:
- Videos are shown without subtitles, as the reports' scores are understood; lmms-eval's ``val_i`` interleaves them with
  16 frames, and is not offered.
- lmms-eval prints twice the number of questions, since it counts each in its duration group and in its category; the
  accuracy is the same.
- The test split has no public answers and no file for its server here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from evalkit.data import HubData, OfficialData
from evalkit.letters import lmms_eval
from evalkit.tasks._files import id_in, integer_of, list_of, name_in, official_format, text_in
from evalkit.tasks.multiple_choice._choice import letter
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import LETTER_LINE, VideoQuestions
from ._rules import ALL_PREFIXES, first_capital

HUB_REPO = "longvideobench/LongVideoBench"
NO_OPTION = "N/A"
OPTIONS = tuple(f"option{number}" for number in range(5))
PROMPT = f"{{q}}\n{{options}}\n{LETTER_LINE}"


class LongVideoBench(VideoQuestions):
    """LongVideoBench val, from the official file or the hub."""

    name = "longvideobench"
    splits = {"val": Split(1_337, "questions with public answers")}
    default_splits = ("val",)
    hub = HUB_REPO
    places = ("longvideobench", "LongVideoBench")
    folders = ("videos", "")
    layout = ("longvideobench/lvb_val.json", "longvideobench/videos/*.mp4")
    prompts = {
        "official": PromptTemplate(PROMPT),
        "lmms-eval": PromptTemplate(f"{PROMPT}\n", max_new_tokens=32),
        "vlmevalkit": PromptTemplate(PROMPT, max_new_tokens=2048),
    }
    rules = {
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-longvideobench",
            about="the first capital from A to E",
            read=partial(first_capital, letters="ABCDE", prefixes=ALL_PREFIXES),
        )
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT, "vlmevalkit": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The entries of the official file, in its order."""
        names = self.candidates("lvb_val.json")
        path = data.find(*names, task=self.name)
        with official_format(self.name, str(path), "a list as in lvb_val.json"):
            entries = list_of(data.json(*names, task=self.name), "the file")
        source = self.source(data)
        for place, entry in enumerate(entries, start=1):
            yield self._sample(entry, source, f"entry {place} of {path}")

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        columns = ("id", "video_id", "video_path", "question", "correct_choice", "duration_group", *OPTIONS)
        rows = data.rows(HUB_REPO, "validation", task=self.name, columns=columns)
        source = self.source(data)
        for index, row in data.iterate(rows, without=()):
            yield self._sample(row, source, f"{HUB_REPO}/validation[{index}]")

    def _sample(self, entry: Mapping[str, Any], source: VideoSource, where: str) -> Sample:
        with official_format(self.name, where, "an entry of lvb_val.json"):
            texts = _candidates(entry)
            meta = {"duration": str(integer_of(entry["duration_group"], "duration_group"))}
            given = {"task_type": "question_category", "domain": "topic_category"}
            meta |= {key: text_in(entry, column) for key, column in given.items() if entry.get(column) is not None}
            return self.question(
                id_in(entry, "id"),
                source.video(name_in(entry, "video_path")),
                text_in(entry, "question"),
                texts,
                letter(entry["correct_choice"], texts, task=self.name, where=where),
                cluster=name_in(entry, "video_id"),
                where=where,
                meta=meta,
            )


def _candidates(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The options, up to the first that is none."""
    if entry.get("candidates") is not None:
        return tuple(text_in({"candidate": one}, "candidate") for one in list_of(entry["candidates"], "candidates"))
    found: list[str] = []
    for key in OPTIONS:
        if entry.get(key) in (None, NO_OPTION):
            break
        found.append(text_in(entry, key))
    return tuple(found)


TASK = LongVideoBench()
