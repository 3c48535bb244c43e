"""InfographicVQA: questions about infographics, many of which take counting, sorting or arithmetic.

Paper: Mathew et al., "InfographicVQA", WACV 2022 (arXiv 2104.12756).
Official scorer: the script of the Robust Reading Competition (RRC, challenge 17, task 3), ANLS (``metrics/anls.py``).

Protocol: the question is asked as it stands; up to 100 new tokens; the nearest annotated answer gives the score.
val is scored here.  The answers of test are not public: what the model says there is written as a submission for
rrc.cvc.uab.es.  Published numbers are mostly of test.

Official files, in the names under which they are about:
- ``infographicsVQA_val_v1.0_withQT.json`` (now, with ``answer_type`` and ``operation/reasoning``) or without
  ``_withQT``; the first release wrote ``infographicVQA_…``; alone or in ``infographicsvqa_qas/``;
- the images in ``infographicsvqa_images/``, once ``infographicVQA_{split}_v1.0_images/``.
The folder below the root is ``infovqa/`` or ``infographicsvqa/``.

Deliberate choices:
- The image's name is ``image_local_name``; ``image_url`` is where it came from and is not followed.
- One infographic's questions are one cluster (on the hub, which has no file names: one ``image_url``'s).

Not checked against the official download, which needs an account: keys and names follow public code that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import Data, HubData, OfficialData
from evalkit.types import Answered, Decoding, Kind, Sample, Split

from ._docs import HUB_REPO, Questions

QUESTIONS = Questions(
    "infovqa", image="image_local_name", extras=("answer_type", "operation/reasoning"), config="InfographicVQA"
)


class InfographicVQA:
    """InfographicVQA val and test (and train, for exemplars), from the official files or the hub."""

    name = "infovqa"
    version = 1
    kind: Kind = "document"
    splits: Mapping[str, Split] = {
        "val": Split(2_801, "validation"),
        "test": Split(3_288, "answers not public: write a submission", answers=False),
        "train": Split(23_946, "training: for exemplars"),
    }
    default_splits = ("val",)
    metric = "anls"
    decoding = Decoding(max_new_tokens=100)
    layout = (
        "infovqa/infographicsVQA_val_v1.0*.json",
        "infovqa/infographicsVQA_test_v1.0.json",
        "infovqa/infographicsvqa_images/*.jpeg",
    )
    hub = HUB_REPO

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of its file."""
        if isinstance(data, HubData):
            yield from QUESTIONS.from_hub(data, split, _infographic)
        elif isinstance(data, OfficialData):
            names = [f"{stem}_{split}_v1.0" for stem in ("infographicsVQA", "infographicVQA")]
            homes = ("infovqa", "infographicsvqa")
            places = [f"{home}{below}" for home in homes for below in ("", "/infographicsvqa_qas", f"/{split}")]
            files = [f"{p}/{n}{kind}.json" for p in places for n in names for kind in ("_withQT", "")]
            images = ("infographicsvqa_images", *(f"{n}_images" for n in names), f"{split}/images", "images")
            folders = [f"{home}/{folder}" for home in homes for folder in images]
            yield from QUESTIONS.from_files(data, split, files, folders)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) of the file that rrc.cvc.uab.es takes for the test split."""
        return QUESTIONS.submission(answers)

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as the RRC's script and server read them."""
        return QUESTIONS.results(answers)


def _infographic(row: Mapping[str, Any]) -> str:
    return str(row.get("image_url") or row["questionId"])


TASK = InfographicVQA()
