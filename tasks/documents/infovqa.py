"""InfographicVQA: questions about infographics, many of which take counting, sorting or arithmetic.

Paper: Mathew et al., "InfographicVQA", WACV 2022 (arXiv 2104.12756).
Official scorer: the script of the Robust Reading Competition (RRC, challenge 17, task 3), ANLS (``metrics/anls.py``).

Protocol: the question is asked as written; up to 100 new tokens; the nearest annotated answer gives the score.
val is scored here.  The references of test are not public: answers to it are written as a submission for
rrc.cvc.uab.es.  Published numbers are mostly of test.

Official files, under the names in circulation:
- ``infographicsVQA_val_v1.0_withQT.json`` (now, with ``answer_type`` and ``operation/reasoning``) or without
  ``_withQT``; the first release wrote ``infographicVQA_…``; alone or in ``infographicsvqa_qas/``;
- the images in ``infographicsvqa_images/``, once ``infographicVQA_{split}_v1.0_images/``.
The folder below the root is ``infovqa/`` or ``infographicsvqa/``.

Deliberate choices:
- The image's name is ``image_local_name``; ``image_url`` is where it came from and is not followed.
- One infographic's questions are one cluster (on the hub, which has no file names: one ``image_url``'s).

Not checked against the official download, which needs an account: keys and names follow public code that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.types import Decoding, PromptTemplate, Split

from ._docs import RRCTask

HOMES = ("infovqa", "infographicsvqa")
STEMS = ("infographicsVQA", "infographicVQA")


class InfographicVQA(RRCTask):
    """InfographicVQA val and test (and train, for few-shot examples), from the official files or the hub."""

    name = "infovqa"
    version = 1
    kind = "document"
    splits = {
        "val": Split(2_801, "validation"),
        "test": Split(3_288, "answers not public: write a submission", answers=False),
        "train": Split(23_946, "training: for few-shot examples"),
    }
    default_splits = ("val",)
    metric = "anls"
    decoding = Decoding(max_new_tokens=100)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer the question using a single word or phrase.", max_new_tokens=32),
        "vlmevalkit": PromptTemplate("{q}\nAnswer the question using a single word or phrase."),
    }
    layout = (
        "infovqa/infographicsVQA_val_v1.0*.json",
        "infovqa/infographicsVQA_test_v1.0.json",
        "infovqa/infographicsvqa_images/*.jpeg",
    )

    image_key = "image_local_name"
    extra_keys = ("answer_type", "operation/reasoning")
    hub_config = "InfographicVQA"

    def files(self, split: str) -> list[str]:
        names = [f"{stem}_{split}_v1.0{kind}.json" for stem in STEMS for kind in ("_withQT", "")]
        places = [f"{home}{below}" for home in HOMES for below in ("", "/infographicsvqa_qas", f"/{split}")]
        return [f"{place}/{name}" for place in places for name in names]

    def folders(self, split: str) -> list[str]:
        images = (
            "infographicsvqa_images", *(f"{stem}_{split}_v1.0_images" for stem in STEMS), f"{split}/images", "images"
        )  # fmt: skip
        return [f"{home}/{folder}" for home in HOMES for folder in images]

    def hub_cluster(self, row: Mapping[str, Any]) -> str:
        """The infographic's address."""
        return str(row.get("image_url") or row["questionId"])


TASK = InfographicVQA()
