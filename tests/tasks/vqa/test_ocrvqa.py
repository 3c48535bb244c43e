from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.vqa.ocrvqa import TASK
from evalkit.types import Answered, Prediction

BOOK = {
    "imageURL": "http://ecx.images-amazon.com/images/I/61Y5cOdHJbL.png", "title": "A Calendar", "authorName": "S. B.",
    "genre": "Calendars", "questions": ["Who wrote this book?", "Is this a games related book?"],
    "answers": ["S. B.", "No"], "split": 3,
}  # fmt: skip
BOOKS = {"761183272": BOOK, "0001": {**BOOK, "split": 1}, "0002": {**BOOK, "split": 2}, "0003": BOOK}


def _write(root: Path, books: Any = BOOKS, *, file: str = "dataset.json", suffix: str = ".png") -> Path:
    images = root / "ocrvqa" / "images"
    images.mkdir(parents=True)
    for book in ("761183272", "0001", "0002", "0003"):
        Image.new("RGB", (40, 30)).save(images / f"{book}{suffix}")
    path = root / "ocrvqa" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(books))
    return path


def test_protocol() -> None:
    assert (TASK.kind, TASK.metric, TASK.decoding.max_new_tokens) == ("vqa", "exact_match", 100)
    assert TASK.default_splits == ("test",)


@pytest.mark.parametrize("file", ["dataset.json", "data/dataset.json"])
def test_one_sample_per_question_of_split(tmp_path: Path, file: str) -> None:
    _write(tmp_path, file=file)
    data = open_data(str(tmp_path))
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.text, s.references, s.cluster) for s in samples] == [
        ("761183272-0", "Who wrote this book?", ("S. B.",), "761183272"),
        ("761183272-1", "Is this a games related book?", ("No",), "761183272"),
        ("0003-0", "Who wrote this book?", ("S. B.",), "0003"),
        ("0003-1", "Is this a games related book?", ("No",), "0003"),
    ]
    assert Path(samples[0].images[0].name) == tmp_path / "ocrvqa" / "images" / "761183272.png"
    assert samples[0].images[0].size() == (40, 30)
    assert {s.cluster for s in TASK.load(data, "train")} == {"0001"}
    answers = [Answered(s, Prediction(" no ")) for s in samples]
    assert registry.metrics.get(TASK.metric).score(answers).values["accuracy"] == 50.0


@pytest.mark.parametrize("split", ["3", 3])
def test_split_code_as_text_is_that_code(tmp_path: Path, split: object) -> None:
    _write(tmp_path, {"0003": {**BOOK, "split": split}})
    assert len(list(TASK.load(open_data(str(tmp_path)), "test"))) == 2


def test_images_with_suffix_jpg(tmp_path: Path) -> None:
    _write(tmp_path, suffix=".jpg")
    first = next(iter(TASK.load(open_data(str(tmp_path)), "test")))
    assert Path(first.images[0].name).name == "761183272.jpg"
    assert first.images[0].size() == (40, 30)


def test_image_that_was_not_fetched_fails_by_its_name(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "ocrvqa" / "images" / "761183272.png").unlink()
    first, *_, last = TASK.load(open_data(str(tmp_path)), "test")
    with pytest.raises(OSError, match="761183272.png"):
        first.images[0].load()
    assert last.images[0].load().size == (40, 30)


@pytest.mark.parametrize(
    ("books", "message"),
    [
        ([], "dataset.json is not keyed by book"),
        ({"7": 3}, "book 7 of .*: not the official format"),
        ({"7": {**BOOK, "split": "last"}}, "book 7 of .*split is 'last', not an integer"),
        ({"7": {**BOOK, "answers": ["No"]}}, "book 7 of .* has 2 questions but 1 answers"),
        ({"7": {**BOOK, "answers": None}}, "book 7 of .*answers is None, not a list"),
        *(
            ({"7": {k: v for k, v in BOOK.items() if k != key}}, f"no '{key}' in book 7 of .*; expected ")
            for key in ("split", "imageURL", "questions", "answers")
        ),
    ],
)
def test_corrupt_entries_are_reported(tmp_path: Path, books: Any, message: str) -> None:
    _write(tmp_path, books)
    with pytest.raises(UserError, match=f"^ocrvqa: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def test_wrong_layout_is_reported(tmp_path: Path) -> None:
    path = _write(tmp_path)
    path.write_text('{"7": ')
    with pytest.raises(UserError, match="ocrvqa: .*dataset.json is not valid JSON"):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    path.unlink()
    with pytest.raises(UserError, match="ocrvqa: no dataset.json under .*expected ocrvqa/dataset.json"):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    path.write_text(json.dumps(BOOKS))
    (tmp_path / "ocrvqa" / "images").rename(tmp_path / "ocrvqa" / "covers")
    with pytest.raises(UserError, match="ocrvqa: no images under .*expected ocrvqa/images"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def _mirror(root: Path, answers: list[str] | None) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (255, 0, 0)).save(buffer, "PNG")
    rows = {
        "image": [{"bytes": buffer.getvalue(), "path": None}], "image_id": ["1563"], "questions": [["Who?", "What?"]],
        "answers": [answers], "ocr_tokens": [["a", "b"]],
    }  # fmt: skip
    texts = [datasets.Value("string")]
    features = datasets.Features(
        {
            "image": datasets.Image(), "image_id": datasets.Value("string"), "questions": texts, "answers": texts,
            "ocr_tokens": texts,
        }
    )  # fmt: skip
    folder = root / "howard-hou" / "OCR-VQA" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")


def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    _mirror(tmp_path, ["S. B.", "Comics"])
    data = open_data(f"hub:{tmp_path}")
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.text, s.references, s.cluster) for s in samples] == [
        ("1563-0", "Who?", ("S. B.",), "1563"), ("1563-1", "What?", ("Comics",), "1563"),
    ]  # fmt: skip
    assert samples[1].images[0].load().getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(UserError, match=r"no parquet files of split train under .*howard-hou/OCR-VQA"):
        list(TASK.load(data, "train"))


@pytest.mark.parametrize(
    ("answers", "message"), [(["S. B."], " has 2 questions but 1 answers"), (None, ": .*answers is None, not a list")]
)
def test_hub_rows_without_answer_are_reported(tmp_path: Path, answers: list[str] | None, message: str) -> None:
    _mirror(tmp_path, answers)
    with pytest.raises(UserError, match=rf"ocrvqa: howard-hou/OCR-VQA/test\[0\]{message}"):
        list(TASK.load(open_data(f"hub:{tmp_path}"), "test"))
