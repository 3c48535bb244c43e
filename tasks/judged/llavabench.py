"""LLaVA-Bench (In-the-Wild): 60 questions about 24 images; a judge compares the answers with GPT-4's.

Paper: Liu et al., "Visual Instruction Tuning", NeurIPS 2023 (arXiv 2304.08485).  Official data:
liuhaotian/llava-bench-in-the-wild on the hub (``questions.jsonl``, ``context.jsonl``, ``answers_gpt4.jsonl``,
``images/``); official scorer: haotian-liu/LLaVA (commit c121f04).  Score: what a judge gives to the answers relative to
GPT-4's, which read a description of the image instead of seeing it (``metrics/llavabench.py``), in three categories:
conversation (17), detail (15), complex reasoning (28).

Protocol: the prompt is the question; 1,024 new tokens.

Rules: ``both-orders`` (the default) asks in both orders and reports how often they disagree, since judges prefer an
answer for its place; ``official`` asks once, GPT-4's answer first.

Deliberate choices:
- No score without a judge: lmms-eval gives −1 then.

Not checked against the official download: the columns of lmms-lab/llava-bench-in-the-wild and of VLMEvalKit's
``LLaVABench.tsv``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.jsonl import objects, read_bytes
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.tasks._tsv import has_tsv, image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

HUB_REPO = "lmms-lab/llava-bench-in-the-wild"
HUB_COLUMNS = ("question_id", "question", "image", "category", "caption", "gpt_answer")
TSV = "LLaVABench"
FOLDERS = ("llavabench", "llava-bench-in-the-wild")
QUESTIONS, CONTEXT, ANSWERS = "questions.jsonl", "context.jsonl", "answers_gpt4.jsonl"
CATEGORIES = ("conv", "detail", "complex")


class LlavaBench(Task):
    """LLaVA-Bench (In-the-Wild), from the official files, VLMEvalKit's TSV file or the hub."""

    name = "llavabench"
    version = 1
    kind = "vqa"
    splits = {"test": Split(60, "17 of conversation, 15 of detail, 28 of complex reasoning")}
    default_splits = ("test",)
    metric = "llavabench"
    decoding = Decoding(max_new_tokens=1024)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    rules = {
        "both-orders": ScoringRule(metric="llavabench", about="asked in both orders", verbatim=True),
        "official": ScoringRule(metric="llavabench_official", about="asked once, GPT-4's answer first", verbatim=True),
    }
    default_rule = "both-orders"
    layout = (
        "llavabench/LLaVABench.tsv (VLMEvalKit's)",
        f"llavabench/{{{QUESTIONS},{CONTEXT},{ANSWERS}}} (official)",
        "llavabench/images/*.jpg (official)",
    )
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file if there is one, else of the official files."""
        if has_tsv(data, self.name, TSV):
            columns = ("question", "category", "caption", "gpt4_ans")
            for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
                images = row_images(row, data, self.name, TSV)
                with official_format(self.name, row.where, f"a question of {TSV}.tsv"):
                    texts = (text_in(row, "question"), text_in(row, "gpt4_ans"), text_in(row, "caption"))
                    yield self._sample(row.index, *texts, row["category"], images, image_cluster(row))
            return
        place = next((folder for folder in FOLDERS if (data.root / folder / QUESTIONS).exists()), FOLDERS[0])
        folder = data.image_folder(*(f"{name}/images" for name in FOLDERS), task=self.name)
        with official_format(self.name, f"{place}/{CONTEXT}", "an image and its caption"):
            captions = {name_in(row, "image"): _caption(row["caption"]) for row in self._lines(data, place, CONTEXT)}
        with official_format(self.name, f"{place}/{ANSWERS}", "GPT-4's answers by question_id"):
            answers = {id_in(row, "question_id"): text_in(row, "text") for row in self._lines(data, place, ANSWERS)}
        for entry in self._lines(data, place, QUESTIONS):
            with official_format(self.name, f"{place}/{QUESTIONS}", "a question with its image and category"):
                key, name = id_in(entry, "question_id"), name_in(entry, "image")
                texts = (text_in(entry, "text"), answers[key], captions[name])
                image = image_in(folder, name, task=self.name)
                yield self._sample(key, *texts, entry["category"], (image,), name)

    def _lines(self, data: OfficialData, place: str, name: str) -> list[dict[str, Any]]:
        path = data.root / place / name
        rows = [row for _, row in objects(read_bytes(path, f"{self.name}:"), str(path))]
        if not rows:
            raise UserError(f"{self.name}: {path} is empty; download it again.")
        return rows

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "train", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/train[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                caption = _caption(row["caption"])
                texts = (text_in(row, "question"), text_in(row, "gpt_answer"), caption)
                # Questions about one image follow each other, with its caption.
                image = RowImage(name, rows, index)
                yield self._sample(id_in(row, "question_id"), *texts, row["category"], (image,), caption[:100])

    def _sample(
        self,
        key: str,
        question: str,
        answer: str,
        caption: str,
        category: Any,
        images: tuple[ImageRef, ...],
        cluster: str,
    ) -> Sample:
        if category not in CATEGORIES:
            raise ValueError(f"category is {category!r}, not one of {', '.join(CATEGORIES)}")
        return Sample(
            id=key,
            images=images,
            text=question,
            references=(answer,),
            cluster=cluster,
            meta={"category": category, "caption": caption},
        )


def _caption(value: Any) -> str:
    """A caption, which may be a list of texts.  Raises ``ValueError`` if it is something else."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("caption is neither a text nor a list of texts")
    return "\n".join(texts)


TASK = LlavaBench()
