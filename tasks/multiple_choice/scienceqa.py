"""ScienceQA, all questions: multiple-choice questions from school lessons, about half of them without an image.

Paper: Lu et al., "Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering", NeurIPS
2022 (arXiv 2209.09513).  Official data: lupantech/ScienceQA, ``problems.json`` and ``pid_splits.json``; the hub has a
copy in lmms-lab/ScienceQA, ScienceQA-FULL.  Score: share of the 4,241 test questions whose option was named
(``metrics/choice_accuracy.py``); ``accuracy[IMG]`` is that of the questions with an image, ScienceQA-IMG.

Protocol: as ``scienceqa_img``, which has the hint, the prompts and the rules.  LLaVA prints the total and IMG by its
rule, ``llava-c121f04``.

Deliberate choices:
- The breakdown is the paper's: subject (natural, social, language science); context ``TXT`` (a hint), ``IMG`` (an
  image; some questions have both) or ``NO`` (neither); grades ``G1-6`` and ``G7-12``.
- VLMEvalKit's ScienceQA_TEST.tsv has only the questions with an image, so it is not read here.
- The paper's own scorer picks an option at random where it finds none in an answer; here that is wrong, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.tasks._files import text_in
from evalkit.types import ImageRef, Split

from .scienceqa_img import ScienceQAImages

LAST_OF_LOWER_GRADES = 6


class ScienceQA(ScienceQAImages):
    """ScienceQA test (and train, for few-shot examples), from the official files or the hub."""

    name = "scienceqa"
    splits = {
        "test": Split(4_241, "all test problems; 2,017 have an image"),
        "train": Split(12_726, "all training problems: for few-shot examples"),
    }
    hub_config = "ScienceQA-FULL"
    with_text_only = True

    def categories(self, problem: Mapping[str, Any], images: Sequence[ImageRef], hint: str) -> Any:
        """Subject, contexts and grades, as far as they are known."""
        contexts = [name for name, there in (("TXT", hint), ("IMG", images)) if there] or ["NO"]
        found = [text_in(problem, "subject")] if problem.get("subject") else []
        grade = text_in(problem, "grade").removeprefix("grade") if problem.get("grade") else ""
        if grade.isdecimal():
            contexts.append("G1-6" if int(grade) <= LAST_OF_LOWER_GRADES else "G7-12")
        return [*found, *contexts]


TASK = ScienceQA()
