"""MathVista testmini: mathematical reasoning about figures, charts and photos, from 31 data sets.

Paper: Lu et al., "MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual Contexts", ICLR 2024
(arXiv 2310.02255).  Official data: ``data/testmini.json`` of lupantech/MathVista (commit 53d5258) with ``images/``, and
AI4Math/MathVista on the hub; official scorer: ``evaluation/`` there.  Score: share of right answers among 1,000
problems, 540 multiple-choice, 418 with an integer, 40 with a number, 2 with a list (``metrics/mathvista.py``),
with every breakdown of the official scorer.

Protocol: the prompt is the hub's ``query``, which is made here from the official file: a hint at the form of the
answer, the question with its unit, and the choices.  The official scorer has GPT-4 *extract* the answer from a
response, then normalises the extraction.

Rules:
- ``vlmevalkit-prefetch`` (the default without a judge): responses by the part of VLMEvalKit's rules that needs none.
  It is a lower bound, and low for models that reason: of one file of Qwen2.5-VL-7B's answers, 359 are right by it and
  679 with the judge's extractions (67.9; its report has 68.2).
- ``vlmevalkit-e8e78f0`` (the default with ``--judge``): VLMEvalKit's complete rules; a judge extracts the answers that
  the others leave open (``metrics/mathvista_judged.py``).
- ``official``: the official normalisation of *given extractions*: ``evalkit score --rule official --field extraction``
  reads the official scorer's own output files, and any other file of short answers.

Deliberate choices:
- The test split (5,141 problems) has no public answers and is left out.

Not checked against the official download: the columns of VLMEvalKit's ``MathVista_MINI.tsv``, whose question is taken
to be the query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._math import lettered, literal_list, option_texts, present

HUB_REPO = "AI4Math/MathVista"
HUB_COLUMNS = ("pid", "query", "decoded_image", "choices", "precision", "answer", "question_type", "answer_type")
EXPECTED = "a problem of lupantech/MathVista"
FOLDERS = ("mathvista", "MathVista")
TSV = "MathVista_MINI"
CHOICE = "choice"
VLMEVALKIT = "vlmevalkit-e8e78f0"
HINTS = {
    CHOICE: "and provide the correct option letter, e.g., A, B, C, D",
    "integer": "requiring an integer answer and provide the final value, e.g., 1, 2, 3",
    "float 1": (
        "requiring a floating-point number with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4"
    ),
    "float 2": (
        "requiring a floating-point number with two decimal places and provide the final value, e.g., 1.23, 1.34, 1.45"
    ),
    "list": "requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4]",
}
"""The official hints (``evaluation/build_query.py``)."""
CATEGORIES = ("language", "source", "category", "task", "context", "grade")


class MathVista(Task):
    """MathVista testmini, from the official files, VLMEvalKit's TSV file or the hub."""

    name = "mathvista"
    version = 1
    kind = "vqa"
    splits = {"testmini": Split(1_000, "the problems whose answers are public")}
    default_splits = ("testmini",)
    metric = "mathvista_vlmevalkit"
    decoding = Decoding(max_new_tokens=2048)
    prompts = {"official": PromptTemplate("{q}"), "vlmevalkit": PromptTemplate("{q}")}
    rules = {
        "vlmevalkit-prefetch": ScoringRule(
            metric="mathvista_vlmevalkit",
            about="VLMEvalKit's rules without its judge: a lower bound",
            verbatim=True,
        ),
        VLMEVALKIT: ScoringRule(
            metric="mathvista_judged",
            about="VLMEvalKit's rules; its judge extracts what they leave open",
            verbatim=True,
        ),
        "official": ScoringRule(
            metric="mathvista_accuracy",
            about="the official normalisation, of answers that are extractions (--field extraction)",
            verbatim=True,
        ),
    }
    default_rule = "vlmevalkit-prefetch"
    judged_rule = VLMEVALKIT
    layout = ("mathvista/data/testmini.json", "mathvista/images/*.jpg", f"or mathvista/{TSV}.tsv")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The problems in the order of the official file, or else of VLMEvalKit's."""
        places = [f"{folder}/{below}{split}.json" for folder in FOLDERS for below in ("data/", "")]
        if present(data, *places) is None and present(data, *tsv_places(self.name, TSV)):
            yield from self._from_tsv(data)
            return
        path = data.find(*places, task=self.name)
        problems = data.json(*places, task=self.name)
        folder = path.parent.parent if path.parent.name == "data" else path.parent
        if data.images_required:
            data.find(f"{folder.relative_to(data.root)}/images", task=self.name)
        if not isinstance(problems, Mapping) or not problems:
            raise UserError(f"{self.name}: {path} holds no problems by id; expected data/testmini.json.")
        for pid, problem in problems.items():
            where = f"problem {pid} of {path}"
            with official_format(self.name, where, EXPECTED):
                image = image_in(folder, name_in(problem, "image"), task=self.name)
                yield self._sample({"pid": pid, **problem}, image, query_of(problem))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows, without=("decoded_image",)):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, EXPECTED):
                image = RowImage(name, rows, index, column="decoded_image")
                yield self._sample(row, image, text_in(row, "query"))

    def _from_tsv(self, data: OfficialData) -> Iterator[Sample]:
        columns = ("question", "answer", "choices", "question_type", "answer_type", "precision")
        for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
            with official_format(self.name, row.where, EXPECTED):
                precision = row.get("precision")
                problem = {
                    **row,
                    "pid": row.get("pid") or row.index,
                    "precision": None if precision is None else float(precision),
                    "skills": literal_list(row.get("skills") or ""),
                }
                image = row.images[0] if row.images else None
                yield self._sample(problem, image, text_in(row, "question"))

    def _sample(self, problem: Mapping[str, Any], image: ImageRef | None, query: str) -> Sample:
        pid, options = id_in(problem, "pid"), option_texts(problem["choices"])
        question_type, answer = text_in(problem, "question_type"), text_in(problem, "answer")
        if question_type == "multi_choice" and answer not in options:
            raise ValueError(f"the answer is {answer!r}, which is none of the choices")
        metadata = problem.get("metadata") or problem
        return Sample(
            id=pid,
            images=() if image is None else (image,),
            text=query,
            references=(answer,),
            cluster=pid,
            options=options,
            meta={
                "question_type": question_type,
                "answer_type": text_in(problem, "answer_type"),
                "precision": problem["precision"],
                **{key: metadata.get(key) for key in CATEGORIES},
                "skills": metadata.get("skills"),
            },
        )


def query_of(problem: Mapping[str, Any]) -> str:
    """The official prompt of a problem: a hint at the answer's form, the question with its unit, and the choices."""
    options = option_texts(problem["choices"])
    form = CHOICE if text_in(problem, "question_type") == "multi_choice" else text_in(problem, "answer_type")
    precision = problem["precision"]
    key = f"{form} {int(precision)}" if form == "float" and type(precision) in (int, float) else form
    if key not in HINTS:
        raise ValueError(f"there are no answers of the type {form!r} with the precision {precision!r}")
    unit = f" (Unit: {text_in(problem, 'unit')})" if problem.get("unit") else ""
    listed = f"\nChoices:\n{lettered(options)}" if options else ""
    question = f"{text_in(problem, 'question')}{unit}{listed}"
    return f"Hint: Please answer the question {HINTS[key]}, at the end.\nQuestion: {question}".strip()


TASK = MathVista()
