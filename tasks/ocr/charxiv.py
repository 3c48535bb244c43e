"""CharXiv: questions about 1,000 charts of arXiv papers, 4,000 that describe and 1,000 that need reasoning.

Paper: Wang et al., "CharXiv: Charting Gaps in Realistic Chart Understanding in Multimodal LLMs" (arXiv 2406.18521).
Official data and scorer: princeton-nlp/CharXiv (commit 7ebe88f), ``data/*_val.json`` and ``src/``; on the hub
princeton-nlp/CharXiv.
Score: the share of answers that a judge finds right (``metrics/charxiv.py``); it needs ``--judge``; 4,096 new tokens.

Protocol: ``charxiv_descriptive``: four questions per chart from 19 templates, with the subplot before them;
``charxiv_reasoning``: one question per chart, with an instruction by the type of its answer.  The prompt is the
question with the official instructions (``charxiv_questions.json``), as in Qwen's reports.

Rule: ``official``.  VLMEvalKit (commit e8e78f05) asks gpt-4o-mini about one answer at a time, with prompts in its data.
lmms-eval (75571cf) is not comparable: it asks 1,000 of the 4,000 descriptive questions, each four times, and takes the
question's source for the type of the answer.

Deliberate choice: ids are ``FIGURE_N`` (N from 0) and ``FIGURE``, as in the official scorer's files.

Left out: the test split, whose answers are not public; VLMEvalKit's TSV files, which hold finished questions to the
judge, and whose other columns could not be looked up.
Not checked against the official download: that ``figure_path`` on the hub ends with the figure's number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from evalkit.data import HubData, OfficialData, image_in
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import integer_in, integer_of, list_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split
from evalkit.values import shown

HUB_REPO = "princeton-nlp/CharXiv"
HUB_COLUMNS = (
    "image", "category", "year", "figure_path", "num_subplots", "subplot_row", "subplot_col", "subplot_loc",
    *(f"descriptive_{what}{n}" for what in "qa" for n in (1, 2, 3, 4)),
    "reasoning_q", "reasoning_q_source", "reasoning_a", "reasoning_a_type",
)  # fmt: skip
FOLDERS = ("charxiv", "CharXiv")
DESCRIPTIVE, REASONING = "descriptive", "reasoning"
SUBJECTS = {
    "cs": "Computer Science", "econ": "Economics", "eess": "Electrical Engineering and Systems Science",
    "math": "Mathematics", "physics": "Physics", "q-bio": "Quantitative Biology", "q-fin": "Quantitative Finance",
    "stat": "Statistics",
}  # fmt: skip
QUESTION_TYPES: Mapping[str, tuple[int, ...]] = {
    "Information Extraction": (1, 2, 3, 4, 5, 6, 7), "Enumeration": (8, 9, 13, 14, 15),
    "Pattern Recognition": (11, 16, 18), "Counting": (10, 12, 19), "Compositionality": (17,),
}  # fmt: skip
TYPE_OF = {template: name for name, templates in QUESTION_TYPES.items() for template in templates}
ANSWER_TYPES = {1: "Text-in-Chart", 2: "Text-in-General", 3: "Number-in-Chart", 4: "Number-in-General"}
SOURCES = {1: "GPT-Sourced", 2: "GPT-Inspired", 3: "Completely Human"}
WITHOUT_PLACE = (18, 19)
"""The templates that ask about all subplots."""


class CharXiv(Task):
    """One kind of CharXiv's questions, from the official files or the hub."""

    version = 1
    kind = "vqa"
    default_splits = ("val",)
    decoding = Decoding(max_new_tokens=4096)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    default_rule = "official"
    hub = HUB_REPO

    def __init__(self, questions: str, count: int) -> None:
        self.name = self.metric = f"charxiv_{questions}"
        self.rules = {"official": ScoringRule(about="CharXiv's judge prompt, one answer at a time", verbatim=True)}
        self.splits = {"val": Split(count, "1,000 charts")}
        named = dict.fromkeys((questions, DESCRIPTIVE, "image_metadata"))
        self.layout = (*(f"charxiv/data/{name}_val.json" for name in named), "charxiv/images/*.jpg")
        self._questions = questions

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        parts = {part: self._json(data, part) for part in (DESCRIPTIVE, self._questions, "image_metadata")}
        folder = data.image_folder(*(f"{folder}/images" for folder in FOLDERS), task=self.name)
        with official_format(self.name, f"{self._questions}_val.json", "an object of charts by number"):
            entries = list(parts[self._questions].items())
        for key, entry in entries:
            where = f"{key} of {self._questions}_val.json"
            with official_format(self.name, where, "the questions about a chart"):
                figure = str(integer_of(key, "the chart"))
                image = image_in(folder, f"{figure}.jpg", task=self.name)
                meta = _chart(parts["image_metadata"][key], parts[DESCRIPTIVE][key]["num_subplots"])
                if self._questions == REASONING:
                    fields = [entry[name] for name in ("query", "answer", "inst_category", "qa_source")]
                    yield self._reasoning(figure, image, meta, *fields)
                    continue
                pairs = list(zip(list_in(entry, "qids"), list_in(entry, "answers"), strict=True))
                yield from self._descriptive(figure, image, meta, entry["subplot_loc"], pairs)

    def _json(self, data: OfficialData, name: str) -> Any:
        return data.json(*(f"{folder}/data/{name}_val.json" for folder in FOLDERS), task=self.name)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        mirrored = data.mirror is not None and (data.mirror / HUB_REPO / "val.parquet").exists()  # the name of its file
        name = "val" if mirrored else "validation"
        rows = data.rows(HUB_REPO, name, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            where = f"{HUB_REPO}/validation[{index}]"
            with official_format(self.name, where, f"a chart of {HUB_REPO}"):
                figure = PurePosixPath(text_in(row, "figure_path")).stem
                image = RowImage(where, rows, index)
                meta = _chart(row, row["num_subplots"])
                if self._questions == REASONING:
                    fields = [row[f"reasoning_{name}"] for name in ("q", "a", "a_type", "q_source")]
                    yield self._reasoning(figure, image, meta, *fields)
                    continue
                place = row["subplot_loc"] or [integer_in(row, "subplot_row"), integer_in(row, "subplot_col")]
                pairs = [(row[f"descriptive_q{n}"], row[f"descriptive_a{n}"]) for n in (1, 2, 3, 4)]
                yield from self._descriptive(figure, image, meta, place, pairs)

    def _descriptive(
        self, figure: str, image: ImageRef, meta: Mapping[str, Any], place: Any, pairs: list[tuple[Any, Any]]
    ) -> Iterator[Sample]:
        for number, (given, answer) in enumerate(pairs):
            template = integer_of(given, "the template")
            if template not in TYPE_OF:
                raise ValueError(f"the template is {template}, not one of 1 to 19")
            text = _questions()[DESCRIPTIVE][str(template)]
            text = text if template in WITHOUT_PLACE else text.format(_place(place))
            more = {"template": template, "question": f"Q{template}", "question_type": TYPE_OF[template]}
            yield _sample(f"{figure}_{number}", figure, image, text, answer, {**meta, **more})

    def _reasoning(
        self, figure: str, image: ImageRef, meta: Mapping[str, Any], question: Any, answer: Any, kind: Any, source: Any
    ) -> Sample:
        kind, source = integer_of(kind, "the answer's type"), integer_of(source, "the question's source")
        if kind not in ANSWER_TYPES or source not in SOURCES:
            raise ValueError(f"the answer's type is {kind} and the question's source {source}; expected 1-4 and 1-3")
        question = text_in({"question": question}, "question")
        more = [_number_instruction(text_in({"answer": answer}, "answer"))] if kind == 4 else []
        text = _questions()[REASONING][str(kind)].format(question, *more)
        types = {"type": kind, "answer_type": ANSWER_TYPES[kind], "source": SOURCES[source]}
        return _sample(figure, figure, image, text, answer, {**meta, **types, "raw_question": question})


def _sample(key: str, figure: str, image: ImageRef, text: str, answer: Any, meta: Mapping[str, Any]) -> Sample:
    return Sample(
        id=key,
        images=(image,),
        text=text,
        references=(text_in({"answer": answer}, "answer"),),
        cluster=figure,
        meta=meta,
    )


@cache
def _questions() -> Mapping[str, Mapping[str, str]]:
    """The official texts: of each template, and of each type of answer."""
    content = (files("evalkit.tasks.ocr") / "charxiv_questions.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = json.loads(content)
    return found


def _chart(entry: Mapping[str, Any], subplots: Any) -> dict[str, str]:
    """What breakdowns need of a chart."""
    subject, count = text_in(entry, "category"), integer_of(subplots, "num_subplots")
    if subject not in SUBJECTS:
        raise ValueError(f"category is {shown(subject)}, not one of {', '.join(SUBJECTS)}")
    number = "1 Subplot" if count <= 1 else "2-4 Subplots" if count <= 4 else "5+ Subplots"
    return {"subject": SUBJECTS[subject], "year": f"20{text_in(entry, 'year')[-2:]}", "subplots": number}


def _place(place: Any) -> str:
    """The words for a subplot: by row and column, which are 0 if there is one plot, or by a description."""
    if isinstance(place, str):
        return f"For {place}, "
    if not isinstance(place, list) or len(place) != 2:
        raise ValueError(f"subplot_loc is {shown(place)}, neither row and column nor a text")
    row, column = (integer_of(number, "subplot_loc") for number in place)
    return f"For the subplot at row {row} and column {column}, " if row else "For the current plot, "


def _number_instruction(answer: str) -> str:
    """How precise a number has to be: as precise as the annotated one."""
    _, dot, decimals = answer.partition(".")
    if not dot:
        return "* Your final answer must be an exact integer."
    return f"* Your final answer must be a number with {len(decimals.partition('.')[0])} decimal places."


TASKS = {
    "charxiv_descriptive": CharXiv(DESCRIPTIVE, 4_000),
    "charxiv_reasoning": CharXiv(REASONING, 1_000),
}
