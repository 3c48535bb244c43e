"""POPE: yes/no questions on whether an object is in the image.

Paper: Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023 (arXiv 2305.10355).
Official data and scorer: RUCAIBox/POPE (commit 3df3ba1b), ``output/coco/coco_pope_{random,popular,adversarial}.json``
and ``evaluate.py``; the images are COCO val2014.
Score: F1 of "yes", the mean of the three categories (``metrics/pope.py``); 10 new tokens.

Protocol: "Is there a snowboard in the image?", for objects that are there and as many that are not: drawn at random,
popular ones, or ones that often occur with those in the image.  Two versions:
- ``test``: 3 × 3,000 questions, as on the hub and in VLMEvalKit's file;
- ``test-2910``: the original random file has 2,910; LLaVA's tables are of these 8,910.

Rules:
- ``official``: of the answer up to its first period, without commas: "no" if one of its words is No, no or not, else
  "yes", whatever it says.  Headline: the mean of the categories' F1, as in LLaVA's tables.
- ``vlmevalkit-yes-no``: one of the words without the other; F1 of all questions together, VLMEvalKit's "Overall".
- ``lmms-eval-75571cf``: the complete answer is yes or no in any case, so that "Yes." is neither; accuracy.

Deliberate choices:
- VLMEvalKit's file asks each question once for all its categories (5,127 rows, 9,000 questions); it counts in each.
- The "Please answer yes or no." at the end of VLMEvalKit's questions is a part of its prompt.
- Line ends around an answer are dropped under the official rule.

Not checked against the official download: which version its random file is today.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.jsonl import objects, read_bytes
from evalkit.letters import Options, Reading
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.tasks._tsv import has_tsv, image_cluster, row_images
from evalkit.tsv import TsvRow
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split
from evalkit.yes_no import NO, VLMEVALKIT, YES

from ._yes_no import TAIL, yes_no_in

HUB_REPO = "lmms-lab/POPE"
HUB_COLUMNS = ("question_id", "image", "image_source", "question", "answer", "category")
COLUMNS = ("question", "answer", "category")
"""Of the TSV file."""
TSV = "POPE"
CATEGORIES = ("random", "popular", "adversarial")
FOLDERS = ("pope", "pope/output/coco", "POPE/output/coco", "pope/coco", "coco/pope")
VERSIONS = {3_000: "test", 2_910: "test-2910"}
"""The split by the number of questions in the random file."""
EXPECTED = "a line of coco_pope_random.json (RUCAIBox/POPE)"
LMMS_EVAL = "lmms-eval-75571cf"


def official(text: str, options: Options) -> Reading:
    """The label of ``evaluate.py``."""
    words = text.strip("\r\n").split(".")[0].replace(",", "").split(" ")
    return Reading(NO if {"No", "no", "not"} & set(words) else YES, "first sentence")


def lmms_eval(text: str, options: Options) -> Reading:
    """The label of lmms-eval's ``pope`` (commit 75571cf)."""
    found = text.lower().strip()
    return Reading(found if found in (YES, NO) else None, "complete answer")


class Pope(Task):
    """POPE on COCO, from the official files, VLMEvalKit's TSV file or the hub."""

    name = "pope"
    version = 1
    kind = "yes_no"
    splits = {
        "test": Split(9_000, "random, popular, adversarial: 3,000 each"),
        "test-2910": Split(8_910, "the original version: 2,910 random"),
    }
    default_splits = ("test",)
    metric = "pope"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer the question using a single word or phrase.", 128),
        "vlmevalkit": PromptTemplate("{q} Please answer yes or no."),
    }
    rules = {
        "official": ScoringRule("pope-default-yes", about="POPE's: yes unless the first sentence says no; F1, mean of "
                                "three", read=official),
        VLMEVALKIT: ScoringRule(VLMEVALKIT, "pope_pooled", "VLMEvalKit's: F1 of all questions together"),
        LMMS_EVAL: ScoringRule("pope-exact", "pope_accuracy", "lmms-eval's: the complete answer; accuracy", lmms_eval),
    }  # fmt: skip
    default_rule = "official"
    protocol_rules = {"lmms-eval": LMMS_EVAL, "vlmevalkit": VLMEVALKIT}
    layout = ("pope/POPE.tsv (VLMEvalKit's)", "pope/coco_pope_*.json (official)", "coco/val2014/*.jpg (official)")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file, if there is one of this version, else of the official files."""
        if split == "test" and has_tsv(data, self.name, TSV):
            for asked in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=COLUMNS).rows:
                with official_format(self.name, asked.where, "a question of POPE.tsv"):
                    yield self._from_tsv(asked, data)
            return
        if not any((data.root / f"{folder}/coco_pope_{CATEGORIES[0]}.json").exists() for folder in FOLDERS):
            raise UserError(
                f"{self.name}: no POPE.tsv and no coco_pope_random.json under {data.root}; expected "
                f"{tsv_places(self.name, TSV)[0]} or {FOLDERS[0]}/coco_pope_*.json ('evalkit tasks {self.name}' shows "
                "the layout)."
            )
        images = data.coco_images("val2014", self.name).folder
        for category in CATEGORIES:
            path = data.find(*(f"{folder}/coco_pope_{category}.json" for folder in FOLDERS), task=self.name)
            rows = list(objects(read_bytes(path, f"{self.name}:"), f"{self.name}: {path}"))
            version = VERSIONS.get(len(rows))
            if category == CATEGORIES[0] and version not in (None, split):
                raise UserError(
                    f"{self.name}/{split}: {path} has {len(rows):,} questions, which is the version {version}; choose "
                    f"--tasks {self.name}/{version}, or download the other one."
                )
            for number, row in rows:
                with official_format(self.name, f"{path}, line {number}", EXPECTED):
                    image = name_in(row, "image")
                    found = image_in(images, image, task=self.name)
                    key, answer = f"{category}/{id_in(row, 'question_id')}", yes_no_in(row, "label")
                    yield self._sample(key, text_in(row, "text"), answer, found, image, (category,))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split != "test":
            raise UserError(f"{self.name}/{split}: this version is not on the hub ({HUB_REPO}); give --data ROOT.")
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                category, answer = _category(row["category"]), yes_no_in(row, "answer")
                key, image = f"{category}/{id_in(row, 'question_id')}", name_in(row, "image_source")
                found = RowImage(name, rows, index)
                yield self._sample(key, text_in(row, "question"), answer, found, image, (category,))

    def _from_tsv(self, row: TsvRow, data: OfficialData) -> Sample:
        images = row_images(row, data, self.name, TSV)
        categories = tuple(_category(one.strip()) for one in text_in(row, "category").split(","))
        # The file does not name the images: rows with the same one are found by its content.
        cluster = image_cluster(row)
        question, answer = text_in(row, "question"), yes_no_in(row, "answer")
        return self._sample(row.index, question, answer, images[0] if images else None, cluster, categories)

    def _sample(
        self, key: str, question: str, answer: str, image: ImageRef | None, cluster: str, categories: tuple[str, ...]
    ) -> Sample:
        return Sample(
            id=key,
            images=() if image is None else (image,),
            text=question.strip().removesuffix(TAIL),
            references=(answer,),
            cluster=cluster,
            meta={"category": list(categories)},
        )


def _category(value: Any) -> str:
    """One of ``CATEGORIES``.  Raises ``ValueError`` for another."""
    if value not in CATEGORIES:
        raise ValueError(f"category is {value!r}, not one of {', '.join(CATEGORIES)}")
    return str(value)


TASK = Pope()
