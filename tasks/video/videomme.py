"""Video-MME: questions on videos from 11 seconds to an hour, without and with their subtitles.

Paper: Fu et al., "Video-MME: The First-Ever Comprehensive Evaluation Benchmark of Multi-modal LLMs in Video Analysis",
CVPR 2025 (arXiv 2405.21075).  Official data: lmms-lab/Video-MME on the hub.  Score: share of the 2,700 questions
answered right (``metrics/video_choice.py``), with each duration (short, medium, long), domain, sub-category and type of
task.

Tasks: ``videomme`` and ``videomme_subtitles``, whose prompts begin with the subtitles.

Files: a copy of the hub's data set in ``videomme/`` (or ``Video-MME/``): ``videomme/test-00000-of-00001.parquet`` with
the columns ``question_id``, ``videoID``, ``duration``, ``domain``, ``sub_category``, ``task_type``, ``question``,
``options`` (``A. …``) and ``answer``; videos as ``data/VIDEO.mp4`` (or in ``videos/``, ``video/``), subtitles as
``subtitle/VIDEO.srt``; the zip archives ``videos_chunked_01.zip`` … and ``subtitle.zip`` are read where they lie.

Protocol: the prompt is that of Qwen3-VL's script (QwenLM/Qwen3-VL, commit 9658872), which is the benchmark's with
``Question:`` before the question.  A line of the subtitles is there if a frame that the model sees falls into it.

Rules:
- ``official``: the benchmark's extraction as Qwen3-VL's script has it without its judge, ``qwen3-vl-evaluation``.
- ``lmms-eval-75571cf``: lmms-eval's ``extract_mcq_answer`` for A to D.
- ``lmms-eval-0696573``, ``vlmevalkit-e8e78f0``: the first capital from A to D, also of a word ("A man …" is A);
  VLMEvalKit removes ``Answer:`` before it, too.  It asks a judge about what is left, and reports scores with and
  without the answers that stay open; here these are wrong.  lmms-eval had the rule until April 2026.

Deliberate choices:
- lmms-eval's prompt speaks of subtitles without having any; both are reproduced, as are the subtitles that it selects
  (``_subtitles.py``).
- A video without a file of subtitles is asked without them, as in Qwen3-VL's script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from evalkit.data import Data, HubData, OfficialData
from evalkit.letters import lmms_eval as lmms_eval_letters
from evalkit.tasks._files import id_in, name_in, official_format, text_in, texts_in
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split, VideoGeometry, VideoInfo, VideoRef
from evalkit.video_source import VideoSource

from . import _subtitles
from ._questions import LETTER_LINE, VideoQuestions, parquet_rows, without_letters
from ._rules import LMMS_EVAL_PREFIXES, VLMEVALKIT_PREFIXES, first_capital

HUB_REPO = "lmms-lab/Video-MME"
COLUMNS = ("question_id", "videoID", "duration", "domain", "sub_category", "task_type", "question", "options", "answer")
SELECT = (
    "Select the best answer to the following multiple-choice question based on the video{and_subtitles}. Respond with "
    "only the letter (A, B, C, or D) of the correct option."
)
ONLY_VIDEO = SELECT.format(and_subtitles="")
LMMS_EVAL_SELECT = SELECT.format(and_subtitles=" and the subtitles")
LISTED = "This video's subtitles are listed below:"
SUBTITLES = "subtitles"
"""The entry of ``meta`` with the name of the file of subtitles."""
VLMEVALKIT_NAME = "vlmevalkit-e8e78f0"
EARLIER = "lmms-eval-0696573"


class VideoMME(VideoQuestions):
    """One of the two tasks, from the official files or the hub.

    Args:
        subtitles: whether prompts have the subtitles.
    """

    splits = {"test": Split(2_700, "three questions on each of 900 videos")}
    default_splits = ("test",)
    hub = HUB_REPO
    places = ("videomme", "Video-MME")
    folders = ("data", "videos", "video", "subtitle")
    layout = (
        "videomme/videomme/test-00000-of-00001.parquet", "videomme/data/*.mp4", "or videomme/videos_chunked_*.zip",
        "videomme/subtitle/*.srt", "or videomme/subtitle.zip",
    )  # fmt: skip
    rules = {
        "official": ScoringRule("qwen3-vl-evaluation", about="Qwen3-VL's script, without its judge"),
        lmms_eval_letters.COMMIT: ScoringRule(
            "lmms-eval-75571cf-videomme",
            about="lmms-eval's extract_mcq_answer, A to D",
            read=partial(lmms_eval_letters.read, letters="ABCD"),
        ),
        EARLIER: ScoringRule(
            "lmms-eval-0696573-videomme",
            about="lmms-eval's earlier rule: the first capital from A to D",
            read=partial(first_capital, letters="ABCD", prefixes=LMMS_EVAL_PREFIXES),
        ),
        VLMEVALKIT_NAME: ScoringRule(
            "vlmevalkit-e8e78f0-videomme",
            about="the first capital from A to D, after 'Answer:'; without a judge",
            read=partial(first_capital, letters="ABCD", prefixes=VLMEVALKIT_PREFIXES),
        ),
    }
    protocol_rules = {"lmms-eval": lmms_eval_letters.COMMIT, "vlmevalkit": VLMEVALKIT_NAME}

    def __init__(self, *, subtitles: bool) -> None:
        self.name = "videomme_subtitles" if subtitles else "videomme"
        self.subtitles = subtitles
        lmms_eval_end = "The best answer is:" if subtitles else f"\n{LETTER_LINE}"
        self.prompts = {
            "official": PromptTemplate(
                f"{{preamble}}{ONLY_VIDEO}\nQuestion: {{question}}\n{{options}}\nThe best answer is:"
            ),
            "lmms-eval": PromptTemplate(
                f"{{preamble}}{LMMS_EVAL_SELECT}\n{{question}}\n{{options}}\n{lmms_eval_end}", max_new_tokens=16
            ),
            "vlmevalkit": PromptTemplate(
                f"\nThese are the frames of a video. {{preamble}}{ONLY_VIDEO}\n"
                "Question: {question}\n{options}\nAnswer: ",
                max_new_tokens=2048,
            ),
        }

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of the data set's copy, in its order."""
        source = self.source(data)
        for where, row in parquet_rows(data, self.places, split, "videomme", task=self.name):
            yield self._sample(row, source, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, "videomme", task=self.name, columns=COLUMNS)
        source = self.source(data)
        for index, row in data.iterate(rows, without=()):
            yield self._sample(row, source, f"{HUB_REPO}/{split}[{index}]")

    def source(self, data: Data) -> VideoSource:
        found = super().source(data)
        _SOURCES[found.name] = found
        return found

    def _sample(self, row: Mapping[str, Any], source: VideoSource, where: str) -> Sample:
        with official_format(self.name, where, f"a row of {HUB_REPO}"):
            video = name_in(row, "videoID")
            meta = {key: text_in(row, key) for key in ("duration", "domain", "sub_category", "task_type")}
            if self.subtitles:
                meta |= {SUBTITLES: f"{video}.srt", "source": source.name}
            return self.question(
                id_in(row, "question_id"),
                source.video(f"{video}.mp4"),
                text_in(row, "question"),
                without_letters(texts_in(row, "options")),
                row["answer"],
                cluster=video,
                where=where,
                meta=meta,
            )

    def asked(self, sample: Sample, protocol: str, sampling: str) -> Sample:
        """``sample`` with its subtitles before the question, as the protocol has them."""
        if not self.subtitles:
            return sample
        content = _content(str(sample.meta.get("source")), str(sample.meta.get(SUBTITLES)))
        info = _info(sample.videos[0])
        preamble = _preamble(content, info, protocol, sampling)
        return replace(sample, meta={**sample.meta, "preamble": preamble})


_SOURCES: dict[str, VideoSource] = {}
"""Where the videos of loaded samples are, by name: samples themselves hold only texts."""


@lru_cache(64)
def _content(source: str, file: str) -> str | None:
    """The content of a file of subtitles; None if there is none, or it cannot be read."""
    try:
        return _SOURCES[source].text(file) if source in _SOURCES else None
    except OSError:
        return None


@lru_cache(64)
def _info(video: VideoRef) -> VideoInfo | None:
    """What is known of a video; None if it cannot be read, so that its questions fail when it is needed."""
    try:
        return video.info()
    except (OSError, ValueError):
        return None


def _preamble(content: str | None, info: VideoInfo | None, protocol: str, sampling: str) -> str:
    """The subtitles as a protocol puts them before the question."""
    from evalkit.video import video_sampling

    if protocol == "lmms-eval":
        if content is None:
            return f"{LISTED} \nNo subtitles available\n"
        return f"{LISTED} \n" + "\n".join(_subtitles.lmms_eval(content, info) if info else []) + "\n"
    times = video_sampling(sampling).select(info, VideoGeometry()).timestamps if info and sampling else ()
    lines = _subtitles.parsed(content or "")
    if protocol == "vlmevalkit":
        return f"{LISTED}\n" + "\n".join(_subtitles.vlmevalkit(lines, times)) + "\n"
    found = " ".join(_subtitles.overlapping(lines, times))
    return f"{LISTED}\n{found}\n" if found else ""


TASKS = {task.name: task for task in (VideoMME(subtitles=False), VideoMME(subtitles=True))}
