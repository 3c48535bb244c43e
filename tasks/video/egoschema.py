"""EgoSchema: five options on three minutes of first-person video.

Paper: Mangalam et al., "EgoSchema: A Diagnostic Benchmark for Very Long-form Video Language Understanding", NeurIPS
2023 Datasets and Benchmarks (arXiv 2308.09126).  Official data: ``questions.json`` and ``subset_answers.json`` of
egoschema/EgoSchema; on the hub lmms-lab/egoschema.  Score: share of the 500 questions with public answers
(``metrics/video_choice.py``); the others are scored by the official server.

Splits: ``subset``, the 500 questions with public answers; ``test``, all 5,031, for which ``submission`` writes the
server's file: a JSON object from the question's id to the option's index, -1 for an answer without a letter (``curl
-X POST -H "Content-Type: application/json" -d @FILE https://validation-server.onrender.com/api/upload/``).

Files: ``egoschema/questions.json`` (``q_uid``, ``question``, ``option 0`` … ``option 4``),
``egoschema/subset_answers.json``, videos as ``egoschema/videos/ID.mp4`` (or in ``good_clips_git/``), or in zip
archives.

Rules:
- ``lmms-eval-75571cf``: lmms-eval's: of all ``(A)``, ``A`` before a blank and ``A.``, the one whose last occurrence
  comes first, then the options' texts.  It draws an option where there is none; here that is wrong.

Deliberate choices:
- The benchmark has no prompt of its own; each family asks in its own words.
- On the hub the options begin with their letters, which are removed and written again.

Not checked against the official download: the fields of the official JSON files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData
from evalkit.letters import LETTERS, lmms_eval
from evalkit.tasks._files import id_in, integer_of, list_of, name_in, official_format, text_in, texts_in
from evalkit.tasks.multiple_choice._choice import letter
from evalkit.types import Answered, PromptTemplate, Sample, ScoringRule, Split
from evalkit.video_source import VideoSource

from ._questions import LETTER_LINE, VideoQuestions, without_letters
from ._rules import earliest_form

HUB_REPO = "lmms-lab/egoschema"
CONFIGS = {"subset": "Subset", "test": "MC"}
OPTIONS = tuple(f"option {number}" for number in range(5))
UNANSWERED = -1


class EgoSchema(VideoQuestions):
    """EgoSchema, from the official files or the hub."""

    name = "egoschema"
    splits = {
        "subset": Split(500, "the questions whose answers are public"),
        "test": Split(5_031, "all questions; scored by the official server", answers=False),
    }
    default_splits = ("subset",)
    hub = HUB_REPO
    places = ("egoschema", "EgoSchema")
    folders = ("videos", "good_clips_git", "")
    layout = (
        "egoschema/questions.json", "egoschema/subset_answers.json",
        "egoschema/videos/*.mp4", "or egoschema/*.zip",
    )  # fmt: skip
    prompts = {"lmms-eval": PromptTemplate(f"{{q}}\n{{options}}\n{LETTER_LINE}", max_new_tokens=16)}
    rules = {
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-egoschema",
            about="lmms-eval's: the first of the letters' last places",
            read=earliest_form,
        )
    }
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions in the order of ``questions.json``."""
        names = self.candidates("questions.json")
        path = data.find(*names, task=self.name)
        answers = self._answers(data) if split == "subset" else {}
        with official_format(self.name, str(path), "a list as in questions.json"):
            entries = list_of(data.json(*names, task=self.name), "the file")
        source = self.source(data)
        found: set[str] = set()
        for place, entry in enumerate(entries, start=1):
            where = f"entry {place} of {path}"
            with official_format(self.name, where, "a question of questions.json"):
                uid = name_in(entry, "q_uid")
                if split == "subset" and uid not in answers:
                    continue
                found.add(uid)
                options = tuple(text_in(entry, key) for key in OPTIONS)
                yield self._sample(
                    uid, uid, text_in(entry, "question"), options, answers.get(uid), source, split, where
                )
        with official_format(self.name, str(path), "all questions of subset_answers.json"):
            if missing := sorted(answers.keys() - found):
                raise ValueError(f"there is no question {missing[0]}, which subset_answers.json answers")

    def _answers(self, data: OfficialData) -> Mapping[str, int]:
        """The public answers by question."""
        names = self.candidates("subset_answers.json")
        path = data.find(*names, task=self.name)
        with official_format(self.name, str(path), "an object as in subset_answers.json"):
            content = data.json(*names, task=self.name)
            return {str(uid): integer_of(answer, f"the answer of {uid}") for uid, answer in content.items()}

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        columns = ("question_idx", "question", "video_idx", "option")
        rows = data.rows(HUB_REPO, "test", CONFIGS[split], task=self.name, columns=columns)
        source = self.source(data)
        for index, row in data.iterate(rows, without=()):
            where = f"{HUB_REPO}/{CONFIGS[split]}[{index}]"
            with official_format(self.name, where, f"a row of {HUB_REPO}"):
                options, question = without_letters(texts_in(row, "option")), text_in(row, "question")
                video = name_in(row, "video_idx")
                answer = row.get("answer")
                yield self._sample(id_in(row, "question_idx"), video, question, options, answer, source, split, where)

    def _sample(
        self,
        sample_id: str,
        video: str,
        question: str,
        options: Sequence[str],
        answer: Any,
        source: VideoSource,
        split: str,
        where: str,
    ) -> Sample:
        references = (letter(answer, options, task=self.name, where=where),) if split == "subset" else ()
        ref = source.video(f"{video}.mp4")
        meta = {"video": video}
        return Sample(sample_id, (), question, references, video, tuple(options), meta, videos=(ref,))

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """The server's file: the option's index by the question's video, which is its official id."""
        found = {}
        for answered in answers:
            value = answered.prediction.value
            known = isinstance(value, str) and value in LETTERS[: len(answered.sample.options)] and value != ""
            found[str(answered.sample.meta["video"])] = LETTERS.index(str(value)) if known else UNANSWERED
        return "egoschema_test.json", json.dumps(found, indent=1)


TASK = EgoSchema()
