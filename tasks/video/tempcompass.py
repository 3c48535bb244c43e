"""TempCompass: action, speed, direction, order and change of attributes in short videos, asked in several ways.

Paper: Liu et al., "TempCompass: Do Video LLMs Really Understand Videos?", Findings of ACL 2024 (arXiv 2403.00476).
Official data and scripts: llyx97/TempCompass; on the hub lmms-lab/TempCompass.  Score: share of questions answered
right (``metrics/video_choice.py``), with each of the five dimensions.

Tasks: ``tempcompass_mc`` (multiple choice, 1,580 questions), ``tempcompass_yes_no`` (2,453), ``tempcompass_match``
(which of two captions fits, 1,503): the parts that rules can score.  Captioning, whose answers a judge reads, is left
out, and with it the overall score that reports give.

Files: ``tempcompass/questions/multi-choice.json``, ``yes_no.json``, ``caption_matching.json`` (objects by video and
dimension with lists of ``question`` and ``answer``), or the hub's parquet files in ``tempcompass/multi-choice/`` …;
videos as ``tempcompass/videos/*.mp4``, or in ``tempcompass_videos.zip``.

Rules:
- ``official`` (the default): the scripts' rules.  Multiple choice: the option's line, a letter, or ``A.`` or ``A)``
  at the beginning; yes/no: how the answer begins; matching: the option's line, its text, or its label (``Caption A``,
  ``A``). The scripts ask GPT-3.5 about every other answer; here it is unparsed, so that scores are lower bounds.
  lmms-eval and VLMEvalKit have the same rules.

Deliberate choices:
- A question is named by its video, its dimension and its place among these; a video's questions are one cluster.

Not checked against the official download: the numbers of questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.data import HubData, OfficialData
from evalkit.letters import Options, Reading
from evalkit.letters.lmms_eval import COMMIT, NOTHING
from evalkit.tasks._files import list_of, name_in, official_format, text_in
from evalkit.tasks.multiple_choice._choice import LETTERS
from evalkit.types import Decoding, Kind, PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import VideoQuestions, letter_of, parquet_rows, with_options
from ._rules import tempcompass_choice, tempcompass_yes_no

HUB_REPO = "lmms-lab/TempCompass"
YES_NO = ("yes", "no")
BEST = "\nPlease directly give the best option:"


def read_matching(text: str, options: Options) -> Reading:
    """The letter of the caption that an answer names, by its line (``Caption A: …``), text or label."""
    named = [letter for letter, line in options.by_letter.items() if line is not None and _names(text, line)]
    return Reading(named[0], "label") if len(named) == 1 else Reading(None, NOTHING)


def _names(text: str, line: str) -> bool:
    label, _, rest = line.partition(": ")
    caption = rest.split(": ")[0]
    texts = (line, caption)
    short = label.removeprefix("Sentence ").removeprefix("Option ").removeprefix("Caption ")
    after = text.split(") ")[1] if ") " in text else None
    return text in texts or after == caption or any(name in (text, text.replace(".", "")) for name in (label, short))


class TempCompass(VideoQuestions):
    """One of the rule-scored parts, from the official files or the hub.

    Args:
        config: its name on the hub and of its file.
    """

    default_splits = ("test",)
    hub = HUB_REPO
    places = ("tempcompass", "TempCompass")
    folders = ("videos", "")
    default_rule = "official"
    protocol_rules = {"lmms-eval": COMMIT, "vlmevalkit": COMMIT}

    def __init__(self, name: str, config: str, size: int, kind: Kind, end: str, rule: ScoringRule) -> None:
        self.name = name
        self.config = config
        self.kind = kind
        self.splits = {"test": Split(size, "all questions of this part")}
        self.decoding = Decoding(max_new_tokens=128)
        self.rules = {"official": rule, COMMIT: rule}
        text = f"{{prompt}}{end}"
        self.prompts = {
            "official": PromptTemplate(text),
            "lmms-eval": PromptTemplate(text, max_new_tokens=1024),
            "vlmevalkit": PromptTemplate(text, max_new_tokens=2048),
        }
        self.layout = (
            f"tempcompass/questions/{config}.json",
            f"or tempcompass/{config}/test-*.parquet",
            "tempcompass/videos/*.mp4",
            "or tempcompass/tempcompass_videos.zip",
        )

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of the official file, else of the data set's copy, in its order."""
        source = self.source(data)
        seen: Counter[str] = Counter()
        names = self.candidates(f"questions/{self.config}.json", f"{self.config}.json")
        folders = [path for place in self.places if (path := data.root / place / self.config).is_dir()]
        if folders and not any((data.root / name).exists() for name in names):
            for where, row in parquet_rows(data, self.places, split, self.config, task=self.name):
                with official_format(self.name, where, f"a row of {HUB_REPO}"):
                    yield self._sample(name_in(row, "video_id"), text_in(row, "dim"), row, source, seen, where)
            return
        path = data.find(*names, task=self.name)
        with official_format(self.name, str(path), f"an object by video as in {self.config}.json"):
            videos = list(data.json(*names, task=self.name).items())
        for video, by_dimension in videos:
            yield from self._of_video(video, by_dimension, source, seen, path)

    def _of_video(
        self, video: str, by_dimension: Any, source: VideoSource, seen: Counter[str], path: Path
    ) -> Iterator[Sample]:
        where = f"video {video} of {path}"
        with official_format(self.name, where, f"lists of questions by dimension as in {self.config}.json"):
            name = name_in({"video": video}, "video")
            for dimension, questions in by_dimension.items():
                for question in list_of(questions, dimension):
                    yield self._sample(name, dimension, question, source, seen, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        columns = ("video_id", "question", "answer", "dim")
        rows = data.rows(HUB_REPO, split, self.config, task=self.name, columns=columns)
        source, seen = self.source(data), Counter[str]()
        for index, row in data.iterate(rows, without=()):
            where = f"{HUB_REPO}/{self.config}[{index}]"
            with official_format(self.name, where, f"a row of {HUB_REPO}"):
                yield self._sample(name_in(row, "video_id"), text_in(row, "dim"), row, source, seen, where)

    def _sample(
        self, video: str, dimension: str, entry: Mapping[str, Any], source: VideoSource, seen: Counter[str], where: str
    ) -> Sample:
        prompt, answer = text_in(entry, "question"), text_in(entry, "answer")
        key = f"{video}-{dimension}"
        seen[key] += 1
        sample_id, ref = f"{key}-{seen[key]}", source.video(f"{video}.mp4")
        meta = {"dimension": dimension, "prompt": prompt}
        if self.kind == "yes_no":
            if answer not in YES_NO:
                raise ValueError(f"the answer is {answer!r}, neither yes nor no")
            return Sample(sample_id, (), prompt, (answer,), cluster=video, meta=meta, videos=(ref,))
        question, options, letter = _choice(prompt, answer, captions=self.config == "caption_matching")
        return self.question(sample_id, ref, question, options, letter, cluster=video, where=where, meta=meta)


def _choice(prompt: str, answer: str, *, captions: bool) -> tuple[str, tuple[str, ...], str]:
    """The question, its options and the letter of the right one; captions keep their labels."""
    if captions:
        question, *lines = prompt.strip().split("\n")
        options = tuple(line.strip() for line in lines if line.strip())
        return question, options, letter_of(answer.strip(), options)
    question, options = with_options(prompt)
    letter = answer[:1]
    if letter not in LETTERS[: len(options)] or not letter or answer[1:3] not in (". ", ""):
        raise ValueError(f"the answer is {answer!r}, which names none of the {len(options)} options")
    return question, options, letter


_CHOICE = ScoringRule("tempcompass", about="TempCompass's rules for letters, without a judge", read=tempcompass_choice)
_YES_NO = ScoringRule("tempcompass-yes-no", about="how the answer begins", read=tempcompass_yes_no)
_MATCHING = ScoringRule("tempcompass-matching", about="TempCompass's rules for captions", read=read_matching)

TASKS = {
    task.name: task
    for task in (
        TempCompass("tempcompass_mc", "multi-choice", 1_580, "choice", BEST, _CHOICE),
        TempCompass("tempcompass_yes_no", "yes_no", 2_453, "yes_no", "\nPlease answer yes or no:", _YES_NO),
        TempCompass("tempcompass_match", "caption_matching", 1_503, "choice", BEST, _MATCHING),
    )
}
