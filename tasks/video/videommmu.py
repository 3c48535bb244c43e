"""Video-MMMU: what is learnt from lectures, in three tracks: perception, comprehension, adaptation.

Paper: Hu et al., "Video-MMMU: Evaluating Knowledge Acquisition from Multi-Discipline Professional Videos", 2025
(arXiv 2501.13826).  Official data: lmms-lab/VideoMMMU on the hub (gated); official scorer: lmms-eval (commit
75571cf).  Score: share of the 900 questions answered right (``metrics/mmmu_accuracy.py``), 300 of each track, with
each track, discipline and subject.

Files: a copy of the hub's data set in ``videommmu/`` (or ``VideoMMMU/``): ``Perception/test-*.parquet``,
``Comprehension/``, ``Adaptation/`` with ``id``, ``question``, ``options``, ``answer``, ``question_type``; videos as
``Art/ID.mp4``, ``Business/``, ``Engineering/``, ``Humanities/``, ``Medicine/``, ``Science/``, or in zip archives.

Protocol: the prompts are lmms-eval's.  The image of a question of the adaptation track is at the end of its video.

Rules:
- ``official`` (the default): lmms-eval's: ``extract_mcq_answer`` for letters (``lmms-eval-2026-04``), and MMMU's
  comparison with more leading phrases for open questions.  Upstream, empty answers to open questions leave the
  denominator; here they are wrong.

Deliberate choices:
- A question is named by its track and the id of its video; a video's three questions are one cluster.
- VLMEvalKit sends the image of a question apart from the video, which is not offered.

Not checked against the official download: the values of ``question_type``; a question without options is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData
from evalkit.letters import LETTERS, lmms_eval
from evalkit.tasks._files import name_in, official_format, text_in, texts_in
from evalkit.tasks.multiple_choice._choice import check_letter
from evalkit.tasks.multiple_choice._mmmu import DOMAIN_OF, subject_of
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import VideoQuestions, parquet_rows, without_letters

HUB_REPO = "lmms-lab/VideoMMMU"
TRACKS = ("Perception", "Comprehension", "Adaptation")
COLUMNS = ("id", "question", "options", "answer", "question_type")
IGNORE = "\nPlease ignore the Quiz question in last frame of the video."
ADAPT = (
    "You should watch and learn the video content. Then apply what you learned to answer the following {} question. "
    "The image for this question is at the end of the video.\n"
)
METRIC = "mmmu_accuracy_video"


class VideoMMMU(VideoQuestions):
    """Video-MMMU, from the official files or the hub."""

    name = "videommmu"
    splits = {"test": Split(900, "three questions on each of 300 videos")}
    default_splits = ("test",)
    metric = METRIC
    hub = HUB_REPO
    places = ("videommmu", "VideoMMMU", "video_mmmu")
    folders = ("Art", "Business", "Engineering", "Humanities", "Medicine", "Science", "videos", "")
    layout = ("videommmu/Perception/test-*.parquet", "videommmu/Art/*.mp4", "or videommmu/*.zip")
    prompts = {
        "official": PromptTemplate("{preamble}{prompt}"),
        "lmms-eval": PromptTemplate("{preamble}{prompt}", max_new_tokens=1024),
    }
    rules = {
        "official": ScoringRule(lmms_eval.LATEST, METRIC, "lmms-eval's, which the benchmark uses"),
        lmms_eval.COMMIT: ScoringRule(lmms_eval.LATEST, METRIC, "the same"),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of the three tracks, one after the other."""
        source = self.source(data)
        for track in TRACKS:
            for where, row in parquet_rows(data, self.places, split, track, task=self.name):
                yield self._sample(track, row, source, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        source = self.source(data)
        for track in TRACKS:
            rows = data.rows(HUB_REPO, split, track, task=self.name, columns=COLUMNS)
            for index, row in data.iterate(rows):
                yield self._sample(track, row, source, f"{HUB_REPO}/{track}[{index}]")

    def _sample(self, track: str, row: Mapping[str, Any], source: VideoSource, where: str) -> Sample:
        with official_format(self.name, where, f"a row of {HUB_REPO}"):
            video, question = name_in(row, "id"), text_in(row, "question")
            lines = texts_in(row, "options") if row["options"] is not None else ()
            options, answer = without_letters(lines), text_in(row, "answer")
            if options:
                answer = check_letter(answer, options, task=self.name, where=where)
            return Sample(
                id=f"{track.lower()}-{video}",
                images=(),
                text=question,
                references=(answer,),
                cluster=video,
                options=options,
                meta={"track": track.lower(), **_subject(video), **_wording(track, question, options)},
                kind=None if options else "vqa",
                videos=(source.video(f"{video}.mp4"),),
            )


def _subject(video: str) -> dict[str, str]:
    """The subject and the discipline, if the id has a known one."""
    try:
        subject = subject_of(video)
    except ValueError:
        return {}
    return {"category": subject, "domain": DOMAIN_OF[subject]}


def _wording(track: str, question: str, options: Sequence[str]) -> dict[str, str]:
    """What the prompt says before the question, and the question as lmms-eval has it."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    prompt = "\n".join([question, *lines])
    if track != "Adaptation":
        return {"prompt": f"{prompt}{IGNORE}"}
    return {"preamble": ADAPT.format("multi-choice" if options else "open-ended"), "prompt": prompt}


TASK = VideoMMMU()
