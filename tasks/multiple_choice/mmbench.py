"""MMBench: multiple-choice questions on 20 abilities, each asked with its options in every order.

Paper: Liu et al., "MMBench: Is Your Multi-modal Model an All-around Player?", ECCV 2024 (arXiv 2307.06281).  Official
data and scorer: OpenCompass's VLMEvalKit (commit e8e78f05), whose TSV files are the official ones; version 1.0 is on
the hub, too (lmms-lab/MMBench).
Score: share of questions answered right in every order of their options
(``metrics/circular_accuracy.py``), with the same for each of 6 L2 categories and 20 categories.

Tasks: ``mmbench_en`` and ``mmbench_cn`` (version 1.0: 1,164 questions in 4,329 rows of dev, 1,784 questions of test)
and ``mmbench_en_v11`` and ``mmbench_cn_v11`` (version 1.1).  ``mmbench_en/dev_20230712`` is the first English dev set,
1,176 questions in 4,377 rows, which LLaVA-1.5's table has: another one.

Rules: the readings of letters (evalkit's, VLMEvalKit's by revision) with circular accuracy; ``plain`` is the accuracy
over the unrotated questions.  The official leaderboard also asks a judge (GPT-3.5) about answers without a letter; here
they are wrong, and counted as unparsed.  ``lmms-eval-75571cf`` is what lmms-eval's tasks ``…_static`` do, which ask no
judge: the only letter among the words, bare or with the same signs around it, then the only option whose text occurs,
then ``lmms-eval-2026-04``.

The test splits have no public answers.  ``submission`` writes the table that OpenCompass's server script reads
(``scripts/mmb_eval_gradio.py``: xlsx, tsv or csv with ``index``, ``question``, ``A`` to ``D`` and ``prediction``), as
TSV; the predictions are the letters that were read.

Deviations and deliberate choices:
- A hint stands before the question on a line of its own.
- lmms-eval's prompt is that of its English tasks with a blank between hint and question; under its Chinese one, a
  missing hint reads "nan", which is not reproduced.

Not checked against the official files: the numbers of rows of version 1.1 and of the test splits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.letters import Options, Reading, lmms_eval
from evalkit.types import Answered, PromptTemplate, ScoringRule, Split

from ._circular import CircularTable
from ._tables import VLMEVALKIT_PROMPT, Row

OLD = "dev_20230712"
OPTIONS = "{prompt} There are several options:\n{options}\n\n"
LMMS_EVAL = {
    "en": PromptTemplate(
        f"{OPTIONS}Answer with the option's letter from the given choices directly.", max_new_tokens=1024
    ),
    "cn": PromptTemplate(f"{OPTIONS}请直接使用所提供的选项字母作为答案回答。", max_new_tokens=256),
}
COLUMNS = ("index", "question", *"ABCD", "category", "l2-category", "prediction")


_SIGNS = (
    ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ")."),
    (":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."),
)  # fmt: skip


def read_lmms_eval(text: str, options: Options) -> Reading:
    """The letter in an answer by lmms-eval's ``MMBench_Evaluator`` without a judge (commit 75571cf)."""
    letter = _among_words(text)
    if letter is None:
        lower = text.lower()
        named = [one for one, option in options.by_letter.items() if option is not None and option.lower() in lower]
        if len(named) != 1:
            return lmms_eval.read(text, options)
        letter = named[0]
    return Reading(letter, "letter") if letter in options.letters else Reading(None, lmms_eval.BEYOND)


def _among_words(text: str) -> str | None:
    """The only letter from A to E among the words of an answer, with the same signs around it."""
    if "Failed to obtain answer via API" in text:
        return None
    words = text.split()
    bare = [letter for letter in "ABCDE" if letter in words]
    if len(bare) == 1 and not ("A" in words and len(words) > 3):
        return bare[0]
    for before, after in _SIGNS:
        found = [letter for letter in "ABCDE" if f"{before}{letter}{after}" in words]
        if len(found) == 1:
            return found[0]
    return None


LMMS_EVAL_RULE = ScoringRule(
    "lmms-eval-75571cf-mmbench", about="lmms-eval's for MMBench, without a judge", read=read_lmms_eval
)


class MMBench(CircularTable):
    """MMBench in one language and version, from VLMEvalKit's TSV files or the hub.

    Args:
        language: ``en`` or ``cn``.
        version_11: whether it is version 1.1.
    """

    default_splits = ("dev",)
    hub_columns = ("index", "question", "answer", "A", "B", "C", "D", "image")
    rules = {**CircularTable.rules, lmms_eval.COMMIT: LMMS_EVAL_RULE}
    protocol_rules = {**CircularTable.protocol_rules, "lmms-eval": lmms_eval.COMMIT}

    def __init__(self, language: str, *, version_11: bool = False) -> None:
        self.name = f"mmbench_{language}{'_v11' if version_11 else ''}"
        suffix = f"_{language.upper()}{'_V11' if version_11 else ''}"
        tsv = {split: (f"MMBench_{split.upper()}{suffix}",) for split in ("dev", "test")}
        splits = {
            "dev": Split(None if version_11 else 4_329, "rows of dev, with rotations"),
            "test": Split(None, "rows of test, with rotations; scored by OpenCompass's server", answers=False),
        }
        if not version_11:
            self.hub = "lmms-lab/MMBench"
            self.hub_splits = {split: (language, split) for split in ("dev", "test")}
            if language == "en":
                splits[OLD] = Split(4_377, "rows of the first dev set, as in LLaVA-1.5's table")
                tsv[OLD] = (f"mmbench_{OLD}",)
        self.splits, self.tsv = splits, tsv
        self.layout = tuple(f"{self.name}/{name}.tsv" for names in tsv.values() for name in names)
        self.prompts = {"lmms-eval": LMMS_EVAL[language], "vlmevalkit": VLMEVALKIT_PROMPT}

    def meta(self, row: Row) -> dict[str, Any]:
        l2 = row.text("l2-category") or row.text("L2-category")
        hint = row.text("hint")
        prompt = f"{hint} {row.question}" if hint else row.question
        return {**super().meta(row), **({"l2_category": l2} if l2 else {}), "prompt": prompt}

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """The table for OpenCompass's server, tab-separated."""
        file = io.StringIO()
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for answered in answers:
            sample, letter = answered.sample, answered.prediction.value
            if letter is not None and not isinstance(letter, str):
                raise UserError(f"{self.name}: the answer to sample {sample.id!r} was parsed as a box, not a letter.")
            meta: Mapping[str, Any] = sample.meta
            options = dict(sample.lettered_options)
            texts = [sample.id, meta.get("question") or sample.text, *(options.get(letter, "") for letter in "ABCD")]
            writer.writerow([*texts, meta.get("category", ""), meta.get("l2_category", ""), letter or ""])
        return f"{self.name}_test.tsv", file.getvalue()


_ALL = [MMBench(language, version_11=new) for new in (False, True) for language in ("en", "cn")]
TASKS = {task.name: task for task in _ALL}
