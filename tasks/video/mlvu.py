"""MLVU: questions on long videos, from minutes to hours: seven multiple-choice tasks.

Paper: Zhou et al., "MLVU: Benchmarking Multi-task Long Video Understanding", CVPR 2025 (arXiv 2406.04264).  Official
data and scripts: MLVU/MVLU (sic) on the hub, JUNJIE99/MLVU.  Score: M-Avg, the unweighted mean of the accuracies of
the tasks (``metrics/video_choice.py``: ``video_choice_macro``).  The two generation tasks, whose answers a judge
scores (G-Avg), are left out.

Splits: ``dev``, 2,174 questions of seven tasks with four options; ``test``, 502 of nine tasks with six, from the hub
only.

Files: a copy of the hub's data set in ``mlvu/`` (or ``MLVU/``, ``MVLU/``): ``MLVU/json/1_plotQA.json`` … with
``video``, ``question``, ``candidates`` and ``answer``, and ``MLVU/video/1_plotQA/*.mp4`` …  ``json/`` and ``video/``
may be at its root.

Protocol: the prompt is the official script's, in the user's turn.  It also begins the model's answer with
``Best Option: (``, which is left out.

Rules:
- ``official``: the script's, the first word (see ``mvbench.py``).
- ``lmms-eval-75571cf``: lmms-eval's ``extract_mcq_answer``, which reads A to D only, so that E and F of the test split
  are never right; its score is the mean over tasks, too.

Deliberate choices:
- lmms-eval's prompt shows the question as its data sets have it, with the options inside; from the official files, it
  is made of the question and the candidates in the same form, ``(A) …``.
- VLMEvalKit calls the share of all questions "M-Avg"; here it is ``accuracy``.  Its prompt has a system turn, and is
  not offered.

Not checked against the official download: the columns of sy1998/MLVU_dev and sy1998/MLVU_Test beyond ``video_name``,
``question``, ``answer`` and ``task_type``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from evalkit.data import HubData, OfficialData
from evalkit.letters import LETTERS, lmms_eval
from evalkit.tasks._files import list_of, name_in, official_format, text_in, texts_in
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource, video_source

from ._questions import VideoQuestions, letter_of, with_options
from ._rules import first_word

FILES = {
    "plotQA": "1_plotQA", "needle": "2_needle", "ego": "3_ego", "count": "4_count", "order": "5_order",
    "anomaly_reco": "6_anomaly_reco", "topic_reasoning": "7_topic_reasoning",
}  # fmt: skip
"""The file and the folder of each task."""
HUB_OF = {"dev": "sy1998/MLVU_dev", "test": "sy1998/MLVU_Test"}
INSTRUCTION = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)


class MLVU(VideoQuestions):
    """MLVU's multiple-choice tasks, from the official files or the hub."""

    name = "mlvu"
    splits = {
        "dev": Split(2_174, "seven tasks, four options"),
        "test": Split(502, "nine tasks, six options; from the hub"),
    }
    default_splits = ("dev",)
    metric = "video_choice_macro"
    hub = HUB_OF["dev"]
    places = ("mlvu", "MLVU", "MVLU")
    layout = ("mlvu/MLVU/json/1_plotQA.json", "mlvu/MLVU/video/1_plotQA/*.mp4")
    prompts = {
        "official": PromptTemplate(
            f"{INSTRUCTION}\nQuestion: {{q}}\nOptions:\n{{bracketed_options}}\nOnly give the best option."
        ),
        "lmms-eval": PromptTemplate("{prompt}\nOnly give the best option.\nBest option: (", max_new_tokens=16),
    }
    rules = {
        "official": ScoringRule("mlvu-first-word", about="MLVU's script: the first word", read=first_word),
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-mlvu", about="lmms-eval's, A to D only", read=partial(lmms_eval.read, letters="ABCD")
        ),
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of the seven files, one after the other."""
        if split != "dev":
            yield from super().from_files(data, split)
        for task, file in FILES.items():
            names = self.candidates(f"MLVU/json/{file}.json", f"json/{file}.json")
            path = data.find(*names, task=self.name)
            with official_format(self.name, str(path), f"a list as in {file}.json of MLVU/MVLU"):
                entries = list_of(data.json(*names, task=self.name), "the file")
            folders = (f"MLVU/video/{file}", f"video/{file}")
            source = video_source(data, self.name, folders, places=self.places)
            for place, entry in enumerate(entries):
                where = f"entry {place + 1} of {path}"
                with official_format(self.name, where, "a question of MLVU/MVLU"):
                    options, question = texts_in(entry, "candidates"), text_in(entry, "question")
                    letter = letter_of(entry["answer"], options[: len(LETTERS)])
                    lines = [f"({one}) {option}" for one, option in zip(LETTERS, options, strict=False)]
                    prompt = "\n".join([question, *lines])
                    yield self._sample(f"{task}-{place}", task, entry, source, question, options, letter, prompt, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        repo = HUB_OF[split]
        columns = ("video_name", "question", "answer", "task_type")
        rows = data.rows(repo, "test", task=self.name, columns=columns)
        source = video_source(data, self.name, ("", "videos", "video"), hub=repo)
        for index, row in data.iterate(rows, without=()):
            where = f"{repo}/test[{index}]"
            with official_format(self.name, where, f"a question of {repo}"):
                prompt = text_in(row, "question")
                question, options = with_options(prompt)
                answer = text_in(row, "answer").strip("()")
                letter = answer if len(answer) == 1 else letter_of(answer, options)
                task = text_in(row, "task_type")
                entry = {"video": row["video_name"]}
                yield self._sample(f"{task}-{index}", task, entry, source, question, options, letter, prompt, where)

    def _sample(
        self,
        sample_id: str,
        task: str,
        entry: Mapping[str, Any],
        source: VideoSource,
        question: str,
        options: tuple[str, ...],
        letter: str,
        prompt: str,
        where: str,
    ) -> Sample:
        video = name_in(entry, "video")
        return self.question(
            sample_id,
            source.video(video),
            question,
            options,
            letter,
            cluster=video,
            where=where,
            meta={"task": task, "prompt": prompt},
        )


TASK = MLVU()
