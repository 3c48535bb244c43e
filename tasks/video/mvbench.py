"""MVBench: 20 temporal tasks on short videos, 200 questions each.

Paper: Li et al., "MVBench: A Comprehensive Multi-modal Video Understanding Benchmark", CVPR 2024 (arXiv 2311.17005).
Official data: OpenGVLab/MVBench on the hub; official scorer: ``video_chat2/mvbench.ipynb`` of OpenGVLab/Ask-Anything.
Score: the unweighted mean of the accuracies of the 20 tasks (``metrics/video_choice.py``: ``video_choice_macro``),
4,000 questions.

Files: a copy of the hub's data set in ``mvbench/`` (or ``MVBench/``): ``json/action_sequence.json`` … with ``video``,
``question``, ``candidates``, ``answer`` and, for some tasks, ``start`` and ``end``; videos in ``video/`` below the
folders that the script names (``video/star/Charades_v1_480/``, …), or in the zip archives ``video/*.zip``.  The
branch ``video`` has its videos cut already, in folders called ``…_segment``, and JSON files without times.

Protocol: the prompt is the script's, in the user's turn.  The script also begins the model's answer with
``Best option:(``, which is left out.  Segments are cut before frames are chosen.  The videos of Episodic Reasoning are
folders of frames at 3 per second.

Rules:
- ``official``: the script's: the first word, without points, is in ``(a)``, or ``(a)`` is in it.  Upstream, a word
  that is in every option, such as none at all, is right; here it is no answer.
- ``lmms-eval-75571cf``: ``A. text``, else the first A to E of either case that is a word ("a man" is A).  Upstream,
  empty answers leave the denominator; here they are wrong.

Deliberate choices:
- VLMEvalKit puts the instruction into a system turn, and averages over all questions; with tasks of 200 questions each,
  the two means are equal (``accuracy``).  Its prompt is not offered.
- A question is named by its task and its place in the task's file; a video's questions are one cluster.

Not checked against the official download: the names of the folders of videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, shown
from evalkit.letters import LETTERS, lmms_eval
from evalkit.tasks._files import list_of, name_in, official_format, text_in, texts_in
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource, video_source

from ._questions import VideoQuestions, letter_of
from ._rules import first_word, mvbench_lmms_eval

HUB_REPO = "OpenGVLab/MVBench"
FOLDERS_OF: Mapping[str, tuple[str, ...]] = {
    "action_sequence": ("star/Charades_v1_480", "star/Charades_segment"),
    "action_prediction": ("star/Charades_v1_480", "star/Charades_segment"),
    "action_antonym": ("ssv2_video", "ssv2_video_mp4"),
    "fine_grained_action": ("Moments_in_Time_Raw/videos",),
    "unexpected_action": ("FunQA_test/test",),
    "object_existence": ("clevrer/video_validation",),
    "object_interaction": ("star/Charades_v1_480", "star/Charades_segment"),
    "object_shuffle": ("perception/videos",),
    "moving_direction": ("clevrer/video_validation",),
    "action_localization": ("sta/sta_video", "sta/sta_video_segment"),
    "scene_transition": ("scene_qa/video",),
    "action_count": ("perception/videos",),
    "moving_count": ("clevrer/video_validation",),
    "moving_attribute": ("clevrer/video_validation",),
    "state_change": ("perception/videos",),
    "fine_grained_pose": ("nturgbd", "nturgbd_convert"),
    "character_order": ("perception/videos",),
    "egocentric_navigation": ("vlnqa",),
    "episodic_reasoning": ("tvqa/frames_fps3_hq", "tvqa/video_fps3_hq_segment"),
    "counterfactual_inference": ("clevrer/video_validation",),
}
"""The folders of each task's videos, uncut and cut, in the paper's order of tasks."""
FRAMES_PER_SECOND = 3.0
"""Of the folders of frames of Episodic Reasoning."""
INSTRUCTION = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question."
)


class MVBench(VideoQuestions):
    """MVBench, from the official files or the hub."""

    name = "mvbench"
    splits = {"test": Split(4_000, "20 tasks with 200 questions each")}
    default_splits = ("test",)
    metric = "video_choice_macro"
    hub = HUB_REPO
    places = ("mvbench", "MVBench")
    layout = ("mvbench/json/action_sequence.json", "mvbench/video/star/Charades_v1_480/*.mp4", "or mvbench/video/*.zip")
    prompts = {
        "official": PromptTemplate(
            f"{INSTRUCTION}\nQuestion: {{q}}\nOptions:\n{{bracketed_options}}\nOnly give the best option."
        ),
        "lmms-eval": PromptTemplate(
            "Question:{q}\nOption:\n{bracketed_options}\nOnly give the best option.\n", max_new_tokens=16
        ),
    }
    rules = {
        "official": ScoringRule("mvbench-first-word", about="MVBench's script: the first word", read=first_word),
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-mvbench", about="the first A to E that is a word", read=mvbench_lmms_eval
        ),
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of the 20 files, one after the other."""
        for task in FOLDERS_OF:
            names = self.candidates(f"json/{task}.json", f"{task}.json")
            path = data.find(*names, task=self.name)
            with official_format(self.name, str(path), f"a list as in {task}.json of {HUB_REPO}"):
                entries = list_of(data.json(*names, task=self.name), "the file")
            source = video_source(data, self.name, _folders(task), places=self.places)
            for place, entry in enumerate(entries):
                yield self._sample(task, place, entry, source, f"entry {place + 1} of {path}")

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        """The questions of the 20 configurations."""
        for task in FOLDERS_OF:
            columns = ("video", "question", "candidates", "answer")
            rows = data.rows(HUB_REPO, "train", task, task=self.name, columns=columns)
            source = video_source(data, self.name, _folders(task), hub=HUB_REPO)
            for index, row in data.iterate(rows, without=()):
                yield self._sample(task, index, row, source, f"{HUB_REPO}/{task}[{index}]")

    def _sample(self, task: str, place: int, entry: Mapping[str, Any], source: VideoSource, where: str) -> Sample:
        with official_format(self.name, where, f"a question of {HUB_REPO}"):
            options = texts_in(entry, "candidates")
            video = name_in(entry, "video")
            return self.question(
                f"{task}-{place}",
                source.video(video, *_segment(entry), fps=FRAMES_PER_SECOND if task == "episodic_reasoning" else None),
                text_in(entry, "question"),
                options,
                letter_of(entry["answer"], options[: len(LETTERS)]),
                cluster=f"{FOLDERS_OF[task][0]}/{video}",
                where=where,
                meta={"task": task},
            )


def _folders(task: str) -> tuple[str, ...]:
    """The folders of a task's videos; the archives of some have a folder ``data0613`` above them."""
    return tuple(f"{above}{folder}" for above in ("video/", "video/data0613/", "") for folder in FOLDERS_OF[task])


def _segment(entry: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The times between which the video counts, in seconds; None if the file gives none."""
    start, end = entry.get("start"), entry.get("end")
    if start is None or end is None:
        return None, None
    if not all(type(time) in (int, float) for time in (start, end)) or not 0 <= start < end < float("inf"):
        raise ValueError(f"start and end are {shown(start)} and {shown(end)}, not times in seconds")
    return float(start), float(end)


TASK = MVBench()
