"""MathVision and MathVista from their own files, VLMEvalKit's and the hub's; what is refused."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.types import PromptSpec, Sample, TextPart

PROBLEMS = [
    {"id": "1", "question": "How many?\n<image1>", "options": [], "answer": "60", "solution": None, "level": 2, "subject": "counting", "image": "images/1.jpg"},
    {"id": "2", "question": "Which?\n<image1>", "options": list("ABCDE"), "answer": "B", "solution": None, "level": 1, "subject": "algebra", "image": "images/2.jpg"},
    {"id": "3", "question": "When?\n<image1>", "options": ["$1$", "2", "3", "4", "5"], "answer": "A", "solution": None, "level": 5, "subject": "algebra", "image": "images/3.jpg"},
]  # fmt: skip
VISTA = {
    "1": {"question": "How far?", "image": "images/1.jpg", "choices": None, "unit": "m", "precision": 1.0, "answer": "1.2", "question_type": "free_form", "answer_type": "float", "pid": "1", "metadata": {"language": "english", "skills": ["a", "b"], "source": "X", "category": "c", "task": "t", "context": "x", "grade": "g"}},
    "2": {"question": "Which?", "image": "images/2.jpg", "choices": ["no", "yes"], "unit": None, "precision": None, "answer": "yes", "question_type": "multi_choice", "answer_type": "text", "pid": "2", "metadata": {"language": "english", "skills": ["a"], "source": "X", "category": "c", "task": "t", "context": "x", "grade": "g"}},
}  # fmt: skip


def image_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG")
    return buffer.getvalue()


def vision_root(root: Path, problems: list[dict[str, Any]] = PROBLEMS) -> Path:
    (root / "mathvision" / "data").mkdir(parents=True)
    (root / "mathvision" / "images").mkdir()
    for number in (1, 2, 3):
        (root / "mathvision" / "images" / f"{number}.jpg").write_bytes(image_bytes())
    (root / "mathvision" / "data" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    return root


def samples(name: str, data: str, split: str) -> list[Sample]:
    return list(load_job(registry.tasks.get(name), split, open_data(data), limit=None, seed=0).samples)


def text(name: str, sample: Sample, protocol: str = "official", family: str = "generic") -> str:
    spec: PromptSpec = registry.tasks.get(name).prompt_spec(protocol)
    (message,) = registry.families.get(family).prompt(spec, sample)
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def test_mathvision_from_its_files(tmp_path: Path) -> None:
    first, second, third = samples("mathvision", str(vision_root(tmp_path)), "test")
    assert [sample.id for sample in (first, second, third)] == ["1", "2", "3"]
    assert (first.references, second.references, third.references) == (("60",), ("B", "B"), ("A", "$1$"))
    assert first.images[0].size() == (32, 32)
    assert (first.meta["subject"], first.meta["level"]) == ("counting", "2")
    begin = 'Please solve the problem step by step and put your answer in one "\\boxed{}". If it is a multiple choice question, only one letter is allowed in the "\\boxed{}".\n'
    assert text("mathvision", first) == f"{begin}How many?\n<image1>\n"
    assert text("mathvision", second) == f"{begin}Which?\n<image1>\n"
    assert text("mathvision", third) == f"{begin}When?\n<image1>\n(A) $1$\n(B) 2\n(C) 3\n(D) 4\n(E) 5\n"
    short = 'Please solve the problem step by step and put your answer in one "\\boxed{}".'
    assert text("mathvision", first, "lmms-eval") == f"{short}How many?\n<image1>"
    tail = "\nChoices: A. $1$\nB. 2\nC. 3\nD. 4\nE. 5\nAnswer the question with the option's letter from the given choices directly."
    assert text("mathvision", third, "lmms-eval") == f"{short}When?\n<image1>{tail}"


def test_mathvision_from_the_hub_is_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "MathLLMs" / "MathVision" / "data"
    folder.mkdir(parents=True)
    rows = [{**row, "decoded_image": {"bytes": image_bytes(), "path": None}} for row in PROBLEMS]
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    hub = samples("mathvision", f"hub:{tmp_path}", "test")
    own = samples("mathvision", str(vision_root(tmp_path / "own")), "test")
    assert [(s.id, s.text, s.references, s.options, s.meta) for s in hub] == [
        (s.id, s.text, s.references, s.options, s.meta) for s in own
    ]
    assert hub[0].images[0].size() == (32, 32)


def tsv(path: Path, columns: list[str], *rows: list[str]) -> None:
    picture = base64.b64encode(image_bytes()).decode()
    lines = ["\t".join([*columns, "image"]), *("\t".join([*row, picture]) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_from_vlmevalkits_files(tmp_path: Path) -> None:
    columns = ["index", "question", "answer", "choices", "category"]
    tsv(
        tmp_path / "MathVision.tsv",
        columns,
        ["1", "How many?", "60", "[]", "counting"],
        ["2", "Which?", "B", "['x', 'y']", "algebra"],
    )
    first, second = samples("mathvision", str(tmp_path), "test")
    assert (first.references, second.references, second.options) == (("60",), ("B", "y"), ("x", "y"))
    columns = ["index", "question", "answer", "choices", "question_type", "answer_type", "precision", "skills", "task"]
    tsv(
        tmp_path / "mathvista" / "MathVista_MINI.tsv",
        columns,
        ["1", "Hint: …", "1.2", "", "free_form", "float", "1.0", "['a']", "t"],
        ["2", "Hint: …", "yes", "['no', 'yes']", "multi_choice", "text", "", "", "t"],
    )
    first, second = samples("mathvista", str(tmp_path), "testmini")
    assert (first.text, first.references, first.meta["precision"], first.meta["skills"]) == (
        "Hint: …",
        ("1.2",),
        1.0,
        ["a"],
    )
    assert (second.references, second.options) == (("yes",), ("no", "yes"))


def vista_root(root: Path, problems: Any = VISTA) -> Path:
    (root / "mathvista" / "data").mkdir(parents=True)
    (root / "mathvista" / "images").mkdir()
    (root / "mathvista" / "data" / "testmini.json").write_text(json.dumps(problems))
    return root


def test_mathvista_from_its_files_and_the_hub(tmp_path: Path) -> None:
    own = samples("mathvista", str(vista_root(tmp_path / "own")), "testmini")
    assert own[0].text == (
        "Hint: Please answer the question requiring a floating-point number with one decimal place and provide the final "
        "value, e.g., 1.2, 1.3, 1.4, at the end.\nQuestion: How far? (Unit: m)"
    )
    assert own[1].text.endswith("at the end.\nQuestion: Which?\nChoices:\n(A) no\n(B) yes")
    folder = tmp_path / "AI4Math" / "MathVista" / "data"
    folder.mkdir(parents=True)
    picture = {"bytes": image_bytes(), "path": None}
    rows = [
        {**row, "query": sample.text, "decoded_image": picture} for row, sample in zip(VISTA.values(), own, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "testmini-00000-of-00001.parquet")
    hub = samples("mathvista", f"hub:{tmp_path}", "testmini")
    assert [(s.id, s.text, s.references, s.options, dict(s.meta)) for s in hub] == [
        (s.id, s.text, s.references, s.options, dict(s.meta)) for s in own
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer": "F"}, "the answer is 'F', the letter of none of 5 options"),
        ({"answer": ""}, "the answer is empty"),
        ({"answer": 3}, "answer is 3, not a text"),
        ({"options": "x"}, "'x' is not a list"),
        ({"options": [1, 2]}, "the options are .*, not a list of texts"),
        ({"image": "../secret.jpg"}, "outside"),
        ({"question": None}, "question is None, not a text"),
        ({"id": None}, "id is None"),
    ],
)
def test_mathvision_refuses(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    root = vision_root(tmp_path, [PROBLEMS[0], {**PROBLEMS[2], **change}])
    with pytest.raises(UserError, match=sentence) as found:
        samples("mathvision", str(root), "test")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer": "maybe"}, "the answer is 'maybe', which is none of the choices"),
        ({"choices": 3}, "the options are 3, not a list of texts"),
        ({"question_type": "free_form"}, "there are no answers of the type 'text'"),
        ({"question_type": None}, "question_type is None"),
    ],
)
def test_mathvista_refuses(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        samples("mathvista", str(vista_root(tmp_path, {"2": {**VISTA["2"], **change}})), "testmini")


@pytest.mark.parametrize("content", [[], {}, 3])
def test_mathvista_without_problems(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match="holds no problems by id"):
        samples("mathvista", str(vista_root(tmp_path, content)), "testmini")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mathvision: no test.jsonl under .*expected mathvision/data/test.jsonl"):
        samples("mathvision", str(tmp_path), "test")
    with pytest.raises(UserError, match=r"mathvista: no testmini.json under"):
        samples("mathvista", str(tmp_path), "testmini")
