"""DocVQA: questions about single pages of scanned documents, answered by a span of their text.

Paper: Mathew et al., "DocVQA: A Dataset for VQA on Document Images", WACV 2021 (arXiv 2007.00398).
Official scorer: the script of the Robust Reading Competition (RRC, challenge 17, task 1), ANLS (``metrics/anls.py``).

Protocol: the question is asked as written; up to 100 new tokens; the nearest annotated answer gives the score.
val is scored here.  The references of test are not public: answers to it are written as a submission for
rrc.cvc.uab.es.  Published numbers are mostly of test.

Official files, file names in use:
- ``{split}_v1.0.json`` (first release, without ``question_types``) or ``{split}_v1.0_withQT.json`` (now; the set is
  called SP-DocVQA since then), alone, in the folder of ``{split}.tar.gz``, or in ``spdocvqa_qas/``;
- the pages in ``documents/``, or now in ``spdocvqa_images/``.

Deliberate choices:
- If both releases are present, the one with question types is read; ids and questions are assumed identical.
- One page's questions are one cluster.

Not checked against the official download, which needs an account: keys and names follow public code that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.types import Decoding, PromptTemplate, Split

from ._docs import RRCTask


class DocVQA(RRCTask):
    """DocVQA val and test (and train, for few-shot examples), from the official files or the hub."""

    name = "docvqa"
    version = 1
    kind = "document"
    splits = {
        "val": Split(5_349, "validation"),
        "test": Split(5_188, "answers not public: write a submission", answers=False),
        "train": Split(39_463, "training: for few-shot examples"),
    }
    default_splits = ("val",)
    metric = "anls"
    decoding = Decoding(max_new_tokens=100)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer the question using a single word or phrase.", max_new_tokens=32),
        "vlmevalkit": PromptTemplate("{q}\nAnswer the question using a single word or phrase."),
    }
    layout = ("docvqa/val_v1.0*.json", "docvqa/test_v1.0.json", "docvqa/documents/*.png")

    image_key = "image"
    extra_keys = ("question_types",)
    hub_config = "DocVQA"

    def files(self, split: str) -> list[str]:
        names = (f"{split}_v1.0_withQT.json", f"{split}_v1.0.json")
        places = ("docvqa", f"docvqa/{split}", "docvqa/spdocvqa_qas")
        return [f"{place}/{name}" for place in places for name in names]

    def folders(self, split: str) -> tuple[str, ...]:
        return ("docvqa/documents", f"docvqa/{split}/documents", "docvqa/spdocvqa_images")

    def hub_cluster(self, row: Mapping[str, Any]) -> str:
        """The page, named as the official images are: the document, then the page's number."""
        if row.get("ucsf_document_id") is None:
            return str(row["questionId"])
        return f"{row['ucsf_document_id']}_{row.get('ucsf_document_page_no')}"


TASK = DocVQA()
