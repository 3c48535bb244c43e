"""DocVQA: questions about single pages of scanned documents, answered by a span of their text.

Paper: Mathew et al., "DocVQA: A Dataset for VQA on Document Images", WACV 2021 (arXiv 2007.00398).
Official scorer: the script of the Robust Reading Competition (RRC, challenge 17, task 1), ANLS (``metrics/anls.py``).

Protocol: the question is asked as it stands; up to 100 new tokens; the nearest annotated answer gives the score.
val is scored here.  The answers of test are not public: what the model says there is written as a submission for
rrc.cvc.uab.es.  Published numbers are mostly of test.

Official files, in the names under which they are about:
- ``{split}_v1.0.json`` (first release, without ``question_types``) or ``{split}_v1.0_withQT.json`` (now; the set is
  called SP-DocVQA since then), alone, in the folder of ``{split}.tar.gz``, or in ``spdocvqa_qas/``;
- the pages in ``documents/``, or now in ``spdocvqa_images/``.

Deliberate choices:
- Where both releases lie side by side the one with question types is read; ids and questions are taken to be the same.
- One page's questions are one cluster.

Not checked against the official download, which needs an account: keys and names follow public code that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import Data, HubData, OfficialData
from evalkit.types import Answered, Decoding, Kind, Sample, Split

from ._docs import HUB_REPO, Questions

QUESTIONS = Questions("docvqa", image="image", extras=("question_types",), config="DocVQA")


class DocVQA:
    """DocVQA val and test (and train, for exemplars), from the official files or the hub."""

    name = "docvqa"
    version = 1
    kind: Kind = "document"
    splits: Mapping[str, Split] = {
        "val": Split(5_349, "validation"),
        "test": Split(5_188, "answers not public: write a submission", answers=False),
        "train": Split(39_463, "training: for exemplars"),
    }
    default_splits = ("val",)
    metric = "anls"
    decoding = Decoding(max_new_tokens=100)
    layout = ("docvqa/val_v1.0*.json", "docvqa/test_v1.0.json", "docvqa/documents/*.png")
    hub = HUB_REPO

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of its file."""
        if isinstance(data, HubData):
            yield from QUESTIONS.from_hub(data, split, _page)
        elif isinstance(data, OfficialData):
            names = (f"{split}_v1.0_withQT.json", f"{split}_v1.0.json")
            places = ("docvqa", f"docvqa/{split}", "docvqa/spdocvqa_qas")
            files = [f"{place}/{name}" for place in places for name in names]
            folders = ("docvqa/documents", f"docvqa/{split}/documents", "docvqa/spdocvqa_images")
            yield from QUESTIONS.from_files(data, split, files, folders)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) of the file that rrc.cvc.uab.es takes for the test split."""
        return QUESTIONS.submission(answers)

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as the RRC's script and server read them."""
        return QUESTIONS.results(answers)


def _page(row: Mapping[str, Any]) -> str:
    # As the official images are called: the document, then the page.
    if row.get("ucsf_document_id") is None:
        return str(row["questionId"])
    return f"{row['ucsf_document_id']}_{row.get('ucsf_document_page_no')}"


TASK = DocVQA()
