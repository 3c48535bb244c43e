"""OCRBench v2: thirty tasks of reading text, each with a rule of its own, as the mean of eight or five groups of tasks.

Paper: Fu et al., "OCRBench v2: An Improved Benchmark for Evaluating Large Multimodal Models on Visual Text Localization
and Reasoning" (arXiv 2501.00321).  Official scorer: ``OCRBench_v2/eval_scripts`` of Yuliang-Liu/MultimodalOCR (commit
794c36d6): ``eval.py`` scores answers, ``get_score.py`` takes means.

By task: a short answer is contained, a long one is similar (``ocr/answers.py``); letters of options are equal; counts
are equal or near; formulas and handwritten answers are contained; texts and translations by BLEU, METEOR, an F-measure
and an edit distance (``ocr/pages.py``); tables and charts by TEDS (``ocr/trees.py``); documents by the tree of their
headings (``ocr/documents.py``); key information by F1 (``ocr/dictionaries.py``); boxes by IoU, and spotted text by the
end-to-end rule of the Robust Reading Competition (``ocr/boxes.py``).

A group's score is the mean over its questions, whatever their task; the score of a language is the unweighted mean of
its groups.  VLMEvalKit (commit e8e78f05) and lmms-eval (75571cf) have copies of these scripts.

Deviations: a prediction that cannot be parsed is wrong.  So is a prediction at which the script would stop: a Markdown
table or a chart that gives no valid HTML, a text of full pages in Chinese without words.  So is one to a text whose
annotated translation is empty, which the script leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

from evalkit.aggregation import Aggregation, MeanOfGroups
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdowns, check_text_samples, computed, referenced

PACKAGES = ("apted", "jieba", "lxml", "nltk", "rapidfuzz")
"""What the scorer is made of; the extra ``ocr`` has it."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "text_recognition": (
        "text recognition en", "fine-grained text recognition en", "full-page OCR en", "full-page OCR cn",
    ),
    "text_detection": ("text grounding en", "VQA with position en"),
    "text_spotting": ("text spotting en",),
    "relationship_extraction": (
        "key information extraction en", "key information mapping en", "key information extraction cn",
        "handwritten answer extraction cn",
    ),
    "element_parsing": (
        "document parsing en", "chart parsing en", "table parsing en", "formula recognition en", "document parsing cn",
        "table parsing cn", "formula recognition cn",
    ),
    "mathematical_calculation": ("math QA en", "text counting en"),
    "visual_text_understanding": (
        "document classification en", "cognition VQA en", "diagram QA en", "cognition VQA cn",
    ),
    "knowledge_reasoning": (
        "reasoning VQA en", "science QA en", "APP agent en", "ASCII art classification en", "reasoning VQA cn",
        "text translation cn",
    ),
}  # fmt: skip
"""The tasks of each group; their last word is the language."""
GROUP_OF = {task: group for group, tasks in GROUPS.items() for task in tasks}
CHOICE, CASE, EXACT, REGRESSION = "multiple choice", "case sensitive", "exact match", "regression"
"""The rules that a question can name."""
SHORT_ANSWER = "简答"
"""What a question for a handwritten text has in it."""
POSITION, SPOTTING, GROUNDING, COUNTING, CHART = (
    "VQA with position en", "text spotting en", "text grounding en", "text counting en", "chart parsing en",
)  # fmt: skip
KEYS = ("key information extraction en", "key information mapping en", "key information extraction cn")

Rule = Callable[[str, Sample], float]
"""The score, at most 1, of a prediction that is not empty."""


def _question(predicted: str, sample: Sample) -> float:
    from .ocr.answers import chinese_answer, chosen, question_answer

    rule = sample.meta.get("eval")
    if rule == CHOICE:
        return chosen(predicted, sample.references[0])
    if rule == CASE or sample.meta["category"].endswith(" en"):
        return question_answer(predicted, sample.references, case=rule == CASE)
    return chinese_answer(predicted, sample.references)


def _counting(predicted: str, sample: Sample) -> float:
    from .ocr.answers import count

    return count(predicted, sample.references, exact=sample.meta["eval"] == EXACT)


def _formula(predicted: str, sample: Sample) -> float:
    from .ocr.answers import formula

    chinese = sample.meta["category"].endswith(" cn")
    return 0.0 if chinese and predicted.lower() == "nan" else formula(predicted, sample.references, chinese=chinese)


def _handwritten(predicted: str, sample: Sample) -> float:
    from .ocr.answers import handwritten

    return _page(predicted, sample) if SHORT_ANSWER in sample.text else handwritten(predicted, sample.references[0])


def _page(predicted: str, sample: Sample) -> float:
    from .ocr.pages import similarity

    return similarity(predicted, sample.references[0])


def _table(predicted: str, sample: Sample) -> float:
    from .ocr.documents import html_table, markdown_table

    is_html = sample.meta["category"].endswith(" cn") or "html" in sample.text.lower()
    return (html_table if is_html else markdown_table)(predicted, sample.references[0])


def _chart(predicted: str, sample: Sample) -> float:
    from .ocr.dictionaries import chart_of, table_of
    from .ocr.trees import teds

    found = chart_of(predicted)
    return teds(table_of(found), table_of(json.loads(sample.references[0]))) if found else 0.0


def _document(predicted: str, sample: Sample) -> float:
    from .ocr.documents import document

    return document(predicted, sample.references[0])


def _key_information(predicted: str, sample: Sample) -> float:
    from .ocr.dictionaries import annotated, f1, texts_of

    return f1(texts_of(predicted), annotated(sample.references[0]))


def _grounding(predicted: str, sample: Sample) -> float:
    from .ocr.boxes import iou, last_box

    box = last_box(predicted)
    return iou(box, sample.references) if box else 0.0


def _position(predicted: str, sample: Sample) -> float:
    import ast

    from .ocr.answers import question_answer
    from .ocr.boxes import UNPARSED, iou
    from .ocr.dictionaries import texts_of

    found = texts_of(predicted)
    content = question_answer(found["answer"], sample.references) if "answer" in found else 0.0
    try:
        box = ast.literal_eval(found.get("bbox", "()"))
    except UNPARSED:
        box = ()
    return 0.5 * content + 0.5 * iou(box, sample.meta["bbox"])


def _spotting(predicted: str, sample: Sample) -> float:
    from .ocr.boxes import Spotted, spotted, spotting

    right = [
        Spotted((min(box[::2]), min(box[1::2]), max(box[::2]), max(box[1::2])), text)
        for box, text in zip(sample.meta["bbox"], sample.meta["content"], strict=True)
    ]
    return spotting(spotted(predicted), right)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(GROUP_OF, _question),
    **dict.fromkeys(("fine-grained text recognition en", "full-page OCR en", "full-page OCR cn"), _page),
    "text translation cn": _page,
    "handwritten answer extraction cn": _handwritten,
    **dict.fromkeys(("formula recognition en", "formula recognition cn"), _formula),
    COUNTING: _counting,
    **dict.fromkeys(("table parsing en", "table parsing cn"), _table),
    CHART: _chart,
    **dict.fromkeys(("document parsing en", "document parsing cn"), _document),
    **dict.fromkeys(KEYS, _key_information),
    GROUNDING: _grounding,
    POSITION: _position,
    SPOTTING: _spotting,
}
"""Each task's rule."""


class OcrBenchV2(Metric):
    """The score of a language, the mean of its groups of tasks; scores of each group and of each task; all in percent.

    ``references`` are the annotated texts (a dictionary is JSON, a box its four numbers).  ``meta`` has the task
    (``category``), the group (``part``), the rule that the question names or "" (``eval``) and, for spotting and
    questions with a position, ``bbox`` and ``content``.  Column: ``score``; trees that share nothing can give less
    than 0.
    """

    name = "ocrbench_v2"
    running_score = False  # a large table takes seconds
    meta_keys = ("category", "part", "eval", "bbox", "content")
    aggregation: Mapping[str, Aggregation] = {"score": MeanOfGroups("score", key="part")}

    @property
    def signature(self) -> str:
        return f"{self.name}|mean:groups|wordnet:3.0|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that the packages are there, and every sample's references; see ``Metric``.  Raises ``UserError``."""
        missing = [package for package in PACKAGES if find_spec(package) is None]
        if missing:
            raise UserError(
                f"{self.name}: scoring needs {', '.join(missing)}; install the extra: pip install 'evalkit-vlm[ocr]'."
            )
        check_text_samples(self.name, samples, kind)
        for sample in samples:
            self._check_sample(sample)

    def _check_sample(self, sample: Sample) -> None:
        from .ocr.dictionaries import annotated

        task, rule = sample.meta.get("category"), sample.meta.get("eval")
        if task not in GROUP_OF or sample.meta.get("part") != GROUP_OF[task]:
            raise self._unexpected(sample, f"the task {task!r} in meta['category'], or not its group in meta['part']")
        try:
            if task == CHART and not isinstance(json.loads(sample.references[0]), dict):
                raise ValueError("the chart is no dictionary")
            if task in KEYS:
                annotated(sample.references[0])
            if task == GROUNDING and len([int(number) for number in sample.references]) != 4:
                raise ValueError("a box has four numbers")
            if task == COUNTING and rule != EXACT:
                _ = [int(number) for number in sample.references]
        except ValueError as error:
            raise self._unexpected(sample, f"the reference {sample.references[0]!r:.80} ({error})") from error

    def _unexpected(self, sample: Sample, what: str) -> UserError:
        return UserError(f"{self.name}: sample {sample.id!r} has {what}; check the annotation file.")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: {"score": 100.0 * self._one(answered)} for answered in answers}
        declared = dict(self.aggregation)
        values = computed(declared, per_sample, {answered.sample.id: answered.sample.meta for answered in answers})
        more, of_parts = breakdowns(("part", "category"), answers, per_sample, "score")
        return Scores("score", values | more, per_sample, self.signature, declared | of_parts)

    def _one(self, answered: Answered) -> float:
        """At most 1."""
        predicted = referenced(self.name, answered)
        return RULES[answered.sample.meta["category"]](predicted, answered.sample) if predicted else 0.0


METRIC = OcrBenchV2()
