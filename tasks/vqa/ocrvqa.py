"""OCR-VQA: questions about book covers: title, author, genre, edition.

Paper: Mishra et al., "OCR-VQA: Visual Question Answering by Reading Text in Images", ICDAR 2019 (ocr-vqa.github.io).
It came without a scorer; here exact match as Qwen-VL counts it (``metrics/exact_match.py``), one answer a question.

Protocol: the question is asked as written; up to 100 new tokens.  ``dataset.json`` has an entry a book, keyed by its
id, with parallel lists ``questions`` and ``answers`` and a code for its split: 1 train, 2 val, 3 test.

Deliberate choices:
- A question's id is the book's and its place in the book's list, ``761183272-0``.
- One book's questions are one cluster.
- The images are the publisher's, fetched one by one from ``imageURL`` with the official ``loadDataset.py`` into
  ``images/``, where each has the book's id and the ending of its URL.  Some copies call them all ``.jpg``: that is
  looked for next.  Books whose image is no JPEG or PNG are kept (mmpretrain leaves them out); one that could not be
  fetched fails as a sample, by name.
- The hub's copy is ``howard-hou/OCR-VQA`` (20,796 books in test), a third party's: the organisation that holds the
  others has none.

Not checked against the official download: the number of test questions (so no size is stated), and that the lists
are of one length in every entry (an entry where they are not is refused by name).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from evalkit.data import HubData, OfficialData, image_in
from evalkit.errors import UserError
from evalkit.images import PathImage, RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, id_of, integer_in, official_format, text_in, texts_in
from evalkit.types import Decoding, Sample, Split

HUB_REPO = "howard-hou/OCR-VQA"
HUB_COLUMNS = ("image", "image_id", "questions", "answers")
CODES = {"train": 1, "test": 3}


class OCRVQA(Task):
    """OCR-VQA test (and train, for few-shot examples), from the official file or the hub."""

    name = "ocrvqa"
    version = 1
    kind = "vqa"
    splits = {
        "test": Split(None, "test, split code 3"),
        "train": Split(None, "training, split code 1: for few-shot examples"),
    }
    default_splits = ("test",)
    metric = "exact_match"
    decoding = Decoding(max_new_tokens=100)
    layout = ("ocrvqa/dataset.json", "ocrvqa/images/*")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of the file, book by book."""
        path = data.find("ocrvqa/dataset.json", "ocrvqa/data/dataset.json", task=self.name)
        books = data.json("ocrvqa/dataset.json", "ocrvqa/data/dataset.json", task=self.name)
        if not isinstance(books, Mapping):
            raise UserError(f"ocrvqa: {path} is not keyed by book; expected the official dataset.json.")
        folder = data.image_folder("ocrvqa/images", task=self.name)
        with official_format(self.name, str(path), "the official dataset.json"):
            entries = [(id_of(book, "a book's id"), entry) for book, entry in books.items()]
        for book, entry in entries:
            where = f"book {book} of {path}"
            with official_format(self.name, where, "the official dataset.json"):
                if integer_in(entry, "split") != CODES[split]:
                    continue
                image = _image(folder, book, text_in(entry, "imageURL"))
            for place, question, answer in _pairs(entry, where):
                yield Sample(id=f"{book}-{place}", images=(image,), text=question, references=(answer,), cluster=book)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        # The recognised words of every cover are of no use here, and large.
        for index, row in data.iterate(rows, without=("image", "ocr_tokens", "ocr_info")):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"a book of {HUB_REPO}"):
                book = id_in(row, "image_id")
            for place, question, answer in _pairs(row, name):
                yield Sample(
                    id=f"{book}-{place}",
                    images=(RowImage(name, rows, index),),
                    text=question,
                    references=(answer,),
                    cluster=book,
                )


def _image(folder: Path, book: str, url: str) -> PathImage:
    # The URL is not followed: it only tells the ending.
    official = image_in(folder, f"{book}{PurePosixPath(url).suffix}", task=TASK.name)
    jpeg = image_in(folder, f"{book}.jpg", task=TASK.name)
    # An image that is under neither name keeps the official one: the sample then fails by that name.
    return jpeg if not Path(official.path).exists() and Path(jpeg.path).exists() else official


def _pairs(entry: Any, where: str) -> list[tuple[int, str, str]]:
    """(place, question, answer) for every question of a book."""
    with official_format(TASK.name, where, "a list of questions and one of their answers"):
        questions, answers = texts_in(entry, "questions"), texts_in(entry, "answers")
    if len(questions) != len(answers):
        raise UserError(
            f"ocrvqa: {where} has {len(questions)} questions but {len(answers)} answers, so they cannot be "
            "joined; download it again."
        )
    return [(place, *pair) for place, pair in enumerate(zip(questions, answers, strict=True))]


TASK = OCRVQA()
