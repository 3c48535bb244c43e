"""MTVQA: questions on text in images in nine languages.

Paper: Tang et al., "MTVQA: Benchmarking Multilingual Text-Centric Visual Question Answering" (arXiv 2405.11985).
Official data: ByteDance/MTVQA on the hub; scorer: ``scripts/acc.py`` of bytedance/MTVQA (commit efc6a78).
Score: the mean over languages of the share of questions whose answer is contained in the prediction
(``metrics/mtvqa.py``); 64 new tokens.

Protocol: 6,778 questions: Arabic 703, German 1,048, French 886, Italian 884, Japanese 828, Korean 558 (KR), Russian
756, Thai 231, Vietnamese 884.  The prompt asks for a word or phrase in the language of the question.

Rules: ``official`` keeps the dots of the annotated answer and removes those of the prediction; the mean over languages.
``vlmevalkit-e8e78f05`` and ``lmms-eval-75571cf`` remove both; the mean over questions.  Qwen's README moved from that
mean (32.6 for Qwen2-VL-72B) to the one over languages (30.9) in September 2024.

Deliberate choice: ids are ``ID_N`` on the hub (its image's id, the question's number from 0), in a TSV file its
``index``.

Not checked against the official download: how the hub writes languages; they are converted to upper case.
"""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, list_of, official_format, text_in
from evalkit.tasks._tsv import image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._literal import literal_in

HUB_REPO = "ByteDance/MTVQA"
HUB_COLUMNS = ("image", "qa_pairs", "lang", "id")
TSV = "MTVQA_TEST"
LANGUAGES = ("AR", "DE", "FR", "IT", "JA", "KR", "RU", "TH", "VI")
PROMPT = PromptTemplate("{q}\nAnswer the question using a word or phrase in the language of the question.")
VLMEVALKIT, LMMS_EVAL = "vlmevalkit-e8e78f05", "lmms-eval-75571cf"


class Mtvqa(Task):
    """MTVQA test, from VLMEvalKit's TSV file or the hub."""

    name = "mtvqa"
    version = 1
    kind = "vqa"
    splits = {"test": Split(6_778, "nine languages")}
    default_splits = ("test",)
    metric = "mtvqa"
    decoding = Decoding(max_new_tokens=64)
    prompts = {"official": PROMPT, "lmms-eval": PROMPT, "vlmevalkit": PROMPT}
    rules = {
        "official": ScoringRule(metric="mtvqa", about="MTVQA's: the answer's dots are kept; mean over languages"),
        VLMEVALKIT: ScoringRule(metric="mtvqa_rows", about="VLMEvalKit's: dots are removed; mean over questions"),
        LMMS_EVAL: ScoringRule(metric="mtvqa_rows", about="lmms-eval's: as VLMEvalKit's"),
    }
    default_rule = "official"
    protocol_rules = {"vlmevalkit": VLMEVALKIT, "lmms-eval": LMMS_EVAL}
    layout = ("mtvqa/MTVQA_TEST.tsv (VLMEvalKit's)",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file."""
        columns = ("question", "answer", "category")
        for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
            images = row_images(row, data, self.name, TSV)
            with official_format(self.name, row.where, "a question of MTVQA_TEST.tsv"):
                language, question, answer = (text_in(row, key) for key in ("category", "question", "answer"))
                yield self._sample(row.index, question, answer, images, image_cluster(row), language)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"an image of {HUB_REPO} with its questions"):
                image_id, language = id_in(row, "id"), text_in(row, "lang")
                pairs = list_of(literal_in(row, "qa_pairs"), "qa_pairs")
                for number, pair in enumerate(pairs):
                    question, answer = text_in(pair, "question"), text_in(pair, "answer")
                    image = RowImage(name, rows, index)
                    yield self._sample(f"{image_id}_{number}", question, answer, (image,), image_id, language)

    def _sample(
        self, key: str, question: str, answer: str, images: tuple[ImageRef, ...], cluster: str, language: str
    ) -> Sample:
        if language.upper() not in LANGUAGES:
            raise ValueError(f"the language is {language!r}, not one of {', '.join(LANGUAGES)}")
        return Sample(
            id=key,
            images=images,
            text=question.strip(),
            references=(answer,),
            cluster=cluster,
            meta={"category": language.upper()},
        )


TASK = Mtvqa()
