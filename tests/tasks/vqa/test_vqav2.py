from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from evalkit.data import bundled_root, open_data
from evalkit.errors import UserError
from evalkit.tasks.vqa.vqav2 import TASK
from evalkit.types import Answered, Prediction

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


def _write(root: Path, *, answers: list[dict[str, object]] | None = None, question_id: int = 42000) -> None:
    (root / "coco" / "val2014").mkdir(parents=True, exist_ok=True)
    (root / "vqav2").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / "coco" / "val2014" / "COCO_val2014_000000000042.jpg")
    ten = [{"answer": f"a{i}", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    question = {"question_id": 42000, "image_id": 42, "question": "What?"}
    annotation = {
        "question_id": question_id, "image_id": 42, "answers": ten if answers is None else answers,
        "answer_type": "other", "question_type": "what", "multiple_choice_answer": "a1",
    }  # fmt: skip
    (root / "vqav2" / QUESTIONS).write_text(json.dumps({"questions": [question]}))
    (root / "vqav2" / ANNOTATIONS).write_text(json.dumps({"annotations": [annotation]}))


def test_bundled_subset_is_read_as_official_files_are() -> None:
    root = bundled_root()
    questions = json.loads((root / "vqav2" / QUESTIONS).read_text())["questions"]
    annotations = {a["question_id"]: a for a in json.loads((root / "vqav2" / ANNOTATIONS).read_text())["annotations"]}
    samples = list(TASK.load(open_data("tiny"), "val"))
    assert [s.id for s in samples] == [str(q["question_id"]) for q in questions]
    assert len(samples) > 200
    for sample, question in zip(samples, questions, strict=True):
        annotation = annotations[question["question_id"]]
        assert sample.text == question["question"]
        assert sample.references == tuple(a["answer"] for a in annotation["answers"])
        assert len(sample.references) == 10
        assert sample.cluster == str(question["image_id"])
        assert sample.meta["answer_type"] == annotation["answer_type"]
        assert Path(sample.images[0].name).is_file()
    assert {s.meta["answer_type"] for s in samples} == {"yes/no", "number", "other"}
    assert len(list(TASK.load(open_data("tiny"), "train"))) > 50


def test_real_images(real_root: str) -> None:
    samples = list(TASK.load(open_data(real_root), "val"))
    expected = json.loads((Path(real_root) / "vqav2" / QUESTIONS).read_text())["questions"]
    assert len(samples) == len(expected) == 82
    assert samples[0].images[0].load().mode == "RGB"


@pytest.mark.parametrize("name", ["COCO_val2014_000000000042.jpg", "000000000042.jpg"])
@pytest.mark.parametrize("folder", ["coco/val2014", "val2014", "coco/images"])
def test_coco_images_by_year_folder_or_flat(tmp_path: Path, folder: str, name: str) -> None:
    _write(tmp_path)
    source = tmp_path / "coco" / "val2014" / "COCO_val2014_000000000042.jpg"
    content = source.read_bytes()
    source.unlink()
    source.parent.rmdir()
    target = tmp_path / folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    (sample,) = TASK.load(open_data(str(tmp_path)), "val")
    assert Path(sample.images[0].name) == target
    assert sample.images[0].size() == (40, 30)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: (r / "vqav2" / QUESTIONS).unlink(), f"no {QUESTIONS} under .*expected vqav2/{QUESTIONS}"),
        (lambda r: (r / "vqav2" / ANNOTATIONS).write_text('{"annotations": [{"ques'), "is not valid JSON .*download it again"),
        (lambda r: (r / "vqav2" / QUESTIONS).write_text('{"rows": []}'), f"vqav2: no 'questions' in the files of split val under .*; expected the official {QUESTIONS} and {ANNOTATIONS}"),
        (lambda r: (r / "vqav2" / QUESTIONS).write_text("[]"), "the files of split val under .*: not the official format"),
        (lambda r: (r / "vqav2" / ANNOTATIONS).write_text('{"annotations": [{"question_id": 42000, "answers": []}]}'), "no 'answer_type' in the files of split val"),
        (lambda r: _write(r, answers=[]), f"question 42000 in {ANNOTATIONS} has no answers to score against"),
        (lambda r: _write(r, answers=[{"answer": None}]), f"question 42000 in {ANNOTATIONS} has no answers to score against"),
        (lambda r: (r / "coco" / "val2014").rename(r / "images"), "no val2014 under .*coco/val2014"),
        (lambda r: _write(r, question_id=1), "question 42000 of .* has no entry in"),
    ],
)  # fmt: skip
def test_wrong_layout_is_reported(tmp_path: Path, break_it: object, message: str) -> None:
    _write(tmp_path)
    break_it(tmp_path)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        list(TASK.load(open_data(str(tmp_path)), "val"))


@pytest.mark.parametrize(("split", "subset"), [("testdev", "test-dev2015"), ("test", "test2015")])
def test_splits_without_public_answers(tmp_path: Path, split: str, subset: str) -> None:
    file = f"v2_OpenEnded_mscoco_{subset}_questions.json"
    with pytest.raises(UserError, match=f"no {file} under .*expected vqav2/{file}"):
        list(TASK.load(open_data(str(tmp_path)), split))
    (tmp_path / "vqav2").mkdir()
    questions = [{"question_id": 262144000 + k, "image_id": 262144, "question": f"Q{k}?"} for k in (1, 0)]
    (tmp_path / "vqav2" / file).write_text(json.dumps({"questions": questions}))
    with pytest.raises(UserError, match="no test2015 under .*expected coco/test2015"):
        list(TASK.load(open_data(str(tmp_path)), split))
    (tmp_path / "coco" / "test2015").mkdir(parents=True)
    samples = list(TASK.load(open_data(str(tmp_path)), split))
    assert [(s.id, s.text, s.references) for s in samples] == [("262144001", "Q1?", ()), ("262144000", "Q0?", ())]
    assert {Path(s.images[0].name).name for s in samples} == {"COCO_test2015_000000262144.jpg"}
    assert not TASK.splits[split].answers


def test_submission_format(tmp_path: Path) -> None:
    _write(tmp_path)
    (sample,) = TASK.load(open_data(str(tmp_path)), "val")
    name, content = TASK.submission([Answered(sample, Prediction("Café.")), Answered(sample, Prediction(None))])
    assert name.endswith(".json")
    assert json.loads(content) == [{"question_id": 42000, "answer": "Café."}, {"question_id": 42000, "answer": ""}]
    with pytest.raises(UserError, match="vqav2: the answer to sample '42000' was parsed as a box"):
        TASK.submission([Answered(sample, Prediction((0.0, 0.0, 1.0, 1.0)))])


def _png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), color).save(buffer, "PNG")
    return buffer.getvalue()


def _mirror(root: Path, split: str = "validation", *, answers: bool = True) -> None:
    rows = {
        "question_id": [7, 8],
        "image_id": [3, 3],
        "question": ["What?", "How many?"],
        "answers": [
            [{"answer": f"a{i}", "answer_confidence": "yes", "answer_id": i} for i in range(10)],
            [{"answer": "2", "answer_confidence": "yes", "answer_id": i} for i in range(10)],
        ],
        "answer_type": ["other", "number"],
        "question_type": ["what", "how many"],
        "image": [{"bytes": _png((255, 0, 0)), "path": None}, {"bytes": _png((0, 255, 0)), "path": None}],
    }
    features = datasets.Features(
        {
            "question_id": datasets.Value("int64"), "image_id": datasets.Value("int64"),
            "question": datasets.Value("string"), "answer_type": datasets.Value("string"),
            "question_type": datasets.Value("string"), "image": datasets.Image(),
            "answers": [{"answer": datasets.Value("string"), "answer_confidence": datasets.Value("string"),
                         "answer_id": datasets.Value("int64")}],
        }
    )  # fmt: skip
    if not answers:
        rows |= {name: [None, None] for name in ("answers", "answer_type", "question_type")}
    folder = root / "lmms-lab" / "VQAv2" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    _mirror(tmp_path)
    samples = list(TASK.load(open_data(f"hub:{tmp_path}"), "val"))
    assert [(s.id, s.text, s.cluster) for s in samples] == [("7", "What?", "3"), ("8", "How many?", "3")]
    assert samples[0].references == tuple(f"a{i}" for i in range(10))
    assert samples[0].images[0].size() == (20, 10)
    assert samples[0].images[0].load().getpixel((0, 0)) == (255, 0, 0)
    assert samples[1].images[0].load().getpixel((0, 0)) == (0, 255, 0)
    assert samples[0].images[0].name == "lmms-lab/VQAv2/val[0]"


def test_hub_has_test_dev_without_answers(tmp_path: Path) -> None:
    _mirror(tmp_path, "testdev", answers=False)
    samples = list(TASK.load(open_data(f"hub:{tmp_path}"), "testdev"))
    assert [(s.id, s.references, dict(s.meta)) for s in samples] == [("7", (), {}), ("8", (), {})]


def test_hub_row_without_answers_is_reported(tmp_path: Path) -> None:
    _mirror(tmp_path, answers=False)
    with pytest.raises(UserError, match=r"vqav2: lmms-lab/VQAv2/val\[0\] has no answers to score against"):
        list(TASK.load(open_data(f"hub:{tmp_path}"), "val"))


def test_hub_without_network_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lmms-lab/VQAv2 \(split validation\) could not be loaded"):
        list(TASK.load(open_data("hub"), "val"))
    with pytest.raises(UserError, match="no folder .*lmms-lab/VQAv2; a mirror has"):
        list(TASK.load(open_data(f"hub:{tmp_path}"), "val"))
    with pytest.raises(UserError, match="split train is not read from the hub"):
        list(TASK.load(open_data("hub"), "train"))


def test_mirror_whose_files_changed_gives_new_rows(tmp_path: Path) -> None:
    """Two mirrors alike in name and README: the rows come from the files, not from a cache of the other's."""
    for name, question in (("one", "What?"), ("two", "Where?")):
        _mirror(tmp_path / name)
        folder = tmp_path / name / "lmms-lab" / "VQAv2"
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: validation\n    path: data/validation-*\n---\n"
        )
        path = folder / "data" / "validation-00000-of-00001.parquet"
        rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / f"cache-{name}"))
        rows.map(lambda row, text=question: {"question": text}, keep_in_memory=True).to_parquet(path)
        first = next(iter(TASK.load(open_data(f"hub:{tmp_path / name}"), "val")))
        assert first.text == question
        assert first.images[0].size() == (20, 10)
