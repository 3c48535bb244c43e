from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.multiple_choice.ai2d import TASK, LetteredImage
from evalkit.types import Answered, Prediction

OPTIONS = ["ears", "nose", "mouth", "face"]


def _question(image: str, number: int, *, abc: bool, right: Any = 1) -> dict[str, Any]:
    return {
        "abcLabel": abc, "answerTexts": OPTIONS, "correctAnswer": right, "questionId": f"{image}-{number}",
    }  # fmt: skip


def _write(root: Path, folder: str = "ai2d", ids: str = "ai2d/ai2d_test_ids.csv", listed: str = "10\n2\n") -> Path:
    """Images 0, 2 and 10, grey; the test set is 10 and 2, in that order."""
    base = root / folder
    for name in ("questions", "annotations", "images"):
        (base / name).mkdir(parents=True)
    for image in ("0.png", "2.png", "10.png"):
        Image.new("RGB", (100, 80), (90, 90, 90)).save(base / "images" / image)
        questions = {
            f"What is A in {image}?": _question(image, 0, abc=True),
            f"What lives in {image}?": _question(image, 1, abc=False, right=3),
        }
        (base / "questions" / f"{image}.json").write_text(json.dumps({"imageName": image, "questions": questions}))
        text = {
            "T0": {"id": "T0", "rectangle": [[10, 10], [40, 30]], "replacementText": "A", "value": "nose"},
            "T1": {"id": "T1", "rectangle": [[90, 70], [60, 50]], "replacementText": "B", "value": "ears"},
        }
        (base / "annotations" / f"{image}.json").write_text(json.dumps({"text": text, "arrows": {}}))
    path = root / ids
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(listed)
    return base


def test_protocol() -> None:
    assert {s: p.size for s, p in TASK.splits.items()} == {"test": 3_088, "train": 12_413}
    assert (TASK.kind, TASK.metric, TASK.decoding.max_new_tokens) == ("choice", "choice_accuracy", 10)
    assert TASK.default_splits == ("test",)


@pytest.mark.parametrize(
    ("folder", "ids"),
    [
        ("ai2d", "ai2d/ai2d_test_ids.csv"),
        ("ai2d", "ai2d_test_ids.csv"),
        ("ai2d/ai2d", "ai2d/ai2d_test_ids.csv"),
        ("ai2d/ai2d", "ai2d/ai2d/ai2d_test_ids.csv"),
    ],
)
def test_known_layouts(tmp_path: Path, folder: str, ids: str) -> None:
    _write(tmp_path, folder, ids)
    data = open_data(str(tmp_path))
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.text, s.references, s.cluster, s.meta) for s in samples] == [
        ("10.png-0", "What is A in 10.png?", ("B",), "10.png", {"abc_label": True}),
        ("10.png-1", "What lives in 10.png?", ("D",), "10.png", {"abc_label": False}),
        ("2.png-0", "What is A in 2.png?", ("B",), "2.png", {"abc_label": True}),
        ("2.png-1", "What lives in 2.png?", ("D",), "2.png", {"abc_label": False}),
    ]
    assert {s.options for s in samples} == {tuple(OPTIONS)}
    assert [s.id for s in TASK.load(data, "train")] == ["0.png-0", "0.png-1"]
    answers = [Answered(s, Prediction("B")) for s in samples]
    assert registry.metrics.get(TASK.metric).score(answers).values["accuracy"] == 50.0


def test_letters_are_drawn_over_words_of_question_about_letters(tmp_path: Path) -> None:
    base = _write(tmp_path)
    lettered, plain, *_ = TASK.load(open_data(str(tmp_path)), "test")
    file = str(base / "images" / "10.png")
    (before,), (after,) = plain.images, lettered.images
    assert before.name == file
    assert before.load().getcolors() == [(100 * 80, (90, 90, 90))]
    assert after.name != before.name  # two images, although of one file
    assert after.size() == after.load().size == (100, 80)
    drawn = after.load()
    for box in ((10, 10, 40, 30), (60, 50, 90, 70)):
        inside = drawn.crop((box[0], box[1], box[2] + 1, box[3] + 1))
        assert inside.getpixel((0, 0)) == (255, 255, 255)
        darkest, brightest = inside.convert("L").getextrema()
        assert (darkest, brightest) == (0, 255)
        ink = inside.convert("L").point(lambda v: 255 if v < 128 else 0).getbbox()
        assert ink is not None
        assert ink[3] - ink[1] > 8  # it fills the height, and does not leave the rectangle (see below)
    cleared = drawn.copy()
    for box in ((10, 10, 40, 30), (60, 50, 90, 70)):
        cleared.paste((90, 90, 90), (box[0], box[1], box[2] + 1, box[3] + 1))
    assert cleared.getcolors() == [(100 * 80, (90, 90, 90))]
    assert LetteredImage(file, ()).load().getcolors() == [(100 * 80, (90, 90, 90))]


def test_different_letters_are_different_images(tmp_path: Path) -> None:
    base = _write(tmp_path)
    file = str(base / "images" / "10.png")
    a, b = (LetteredImage(file, ((10.0, 10.0, 40.0, 30.0, letter),)).load().tobytes() for letter in "AB")
    assert a != b


def test_multiple_choice_images_are_used_if_present(tmp_path: Path) -> None:
    base = _write(tmp_path)
    (base / "abc_images").mkdir()
    Image.new("RGB", (100, 80), (1, 2, 3)).save(base / "abc_images" / "10.png")
    first, second, third, _ = TASK.load(open_data(str(tmp_path)), "test")
    assert first.images[0].load().getpixel((0, 0)) == (1, 2, 3)
    assert second.images[0].load().getpixel((0, 0)) == (90, 90, 90)
    assert isinstance(third.images[0], LetteredImage)  # 2.png is not among them


def test_warning_for_listed_images_without_questions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, listed='"10"\r\n77\r\n\r\n2.png\r\n')
    with caplog.at_level(logging.WARNING, logger="evalkit"):
        assert len(list(TASK.load(open_data(str(tmp_path)), "test"))) == 4
    assert "1 of the 3 images" in caplog.text


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda b: (b / "questions").rename(b / "q"), "no questions under .*expected ai2d/questions"),
        (lambda b: (b / "images").rename(b / "i"), "no images under .*expected ai2d/images"),
        (lambda b: (b / "ai2d_test_ids.csv").unlink(), "no ai2d_test_ids.csv under"),
        (lambda b: (b / "ai2d_test_ids.csv").write_text("77\n"), "none of the 1 images in .* has questions"),
        (lambda b: (b / "ai2d_test_ids.csv").write_text(""), "none of the 0 images in .* has questions"),
        (lambda b: (b / "questions" / "2.png.json").write_text("{"), "2.png.json is not valid JSON"),
        (lambda b: (b / "questions" / "2.png.json").write_text("{}"), "2.png.json has no 'questions'; expected ai2d-all.zip"),
        (lambda b: (b / "questions" / "2.png.json").write_text('{"questions": {"Why?": {}}}'), "no 'answerTexts' in 'Why.' in .*2.png.json; expected ai2d-all.zip"),
        (lambda b: (b / "annotations" / "2.png.json").unlink(), "no 2.png.json under .*expected ai2d/annotations/2.png.json"),
        (lambda b: (b / "annotations" / "2.png.json").write_text("{}"), "no 'text' in .*2.png.json; expected the words to cover with letters"),
        (lambda b: (b / "annotations" / "2.png.json").write_text('{"text": {"T0": {"rectangle": [1, 2]}}}'), "2.png.json: not the official format .*; expected the words to cover with letters"),
    ],
)  # fmt: skip
def test_wrong_files_are_reported(tmp_path: Path, break_it: Any, message: str) -> None:
    break_it(_write(tmp_path))
    with pytest.raises(UserError, match=f"^ai2d: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


@pytest.mark.parametrize("right", [4, -1, None, "b"])
def test_right_answer_that_is_no_option_is_reported(tmp_path: Path, right: object) -> None:
    base = _write(tmp_path)
    questions = {"questions": {"Why?": _question("2.png", 0, abc=False, right=right)}}
    (base / "questions" / "2.png.json").write_text(json.dumps(questions))
    with pytest.raises(
        UserError, match=f"^ai2d: 'Why.' in .*2.png.json has 4 options but calls {right!r} the right one"
    ):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def _mirror(root: Path, right: list[str | None]) -> None:
    def png(color: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.new("L", (20, 10), color).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = {
        "question": ["What is A?", "What is B?"], "options": [OPTIONS, OPTIONS[:3]], "answer": right,
        "image": [png(0), png(100)],
    }  # fmt: skip
    text = datasets.Value("string")
    features = datasets.Features({"question": text, "options": [text], "answer": text, "image": datasets.Image()})
    folder = root / "lmms-lab" / "ai2d" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")


def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    _mirror(tmp_path, ["0", "2"])
    data = open_data(f"hub:{tmp_path}")
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.text, s.references, s.options) for s in samples] == [
        ("0", "What is A?", ("A",), tuple(OPTIONS)), ("1", "What is B?", ("C",), tuple(OPTIONS[:3])),
    ]  # fmt: skip
    assert samples[1].images[0].load().getpixel((0, 0)) == (100, 100, 100)
    with pytest.raises(UserError, match="split train is not read from the hub"):
        list(TASK.load(data, "train"))


@pytest.mark.parametrize("right", ["3", None])
def test_hub_row_without_right_option_is_reported(tmp_path: Path, right: str | None) -> None:
    _mirror(tmp_path, ["0", right])
    with pytest.raises(UserError, match=rf"lmms-lab/ai2d/test\[1\] has 3 options but calls {right!r}"):
        list(TASK.load(open_data(f"hub:{tmp_path}"), "test"))
