"""OK-VQA, VizWiz, TextVQA and GQA: roots in the official formats, the hub's format, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.tasks.vqa.gqa import TASK as GQA
from evalkit.tasks.vqa.okvqa import TASK as OKVQA
from evalkit.tasks.vqa.textvqa import TASK as TEXTVQA
from evalkit.tasks.vqa.vizwiz import TASK as VIZWIZ
from evalkit.types import Answered, Prediction, Sample

OK_QUESTIONS = "OpenEnded_mscoco_val2014_questions.json"
OK_ANNOTATIONS = "mscoco_val2014_annotations.json"
TEXT_FILE = "TextVQA_0.5.1_val.json"
GQA_FILE = "testdev_balanced_questions.json"

Break = Callable[[Path], Any]


def _load(task: Task, root: Path | str, split: str) -> list[Sample]:
    return list(task.load(open_data(str(root)), split))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


# -------------------------------------------------------------------------------------------------------------- OK-VQA


def _okvqa(root: Path, *, answers: list[dict[str, Any]] | None = None, folder: str = "okvqa") -> None:
    ten = [
        {"answer_id": k, "raw_answer": f"Racing {k}", "answer": f"race {k}", "answer_confidence": "yes"}
        for k in range(10)
    ]
    for subset in ("val2014", "train2014"):
        question = {"question_id": 516065, "image_id": 51606, "question": "What is it called?"}
        annotation = {
            "question_id": 516065, "image_id": 51606, "answers": ten if answers is None else answers,
            "answer_type": "other", "question_type": "four",
        }  # fmt: skip
        _write(root / folder / f"OpenEnded_mscoco_{subset}_questions.json", {"questions": [question]})
        _write(root / folder / f"mscoco_{subset}_annotations.json", {"annotations": [annotation]})
        _image(root / "coco" / subset / f"COCO_{subset}_000000051606.jpg")


@pytest.mark.parametrize(("split", "subset"), [("val", "val2014"), ("train", "train2014")])
def test_okvqa_scores_against_answer_not_raw_answer(tmp_path: Path, split: str, subset: str) -> None:
    _okvqa(tmp_path)
    (sample,) = _load(OKVQA, tmp_path, split)
    assert (sample.id, sample.cluster, sample.text) == ("516065", "51606", "What is it called?")
    assert sample.references == tuple(f"race {k}" for k in range(10))
    assert dict(sample.meta) == {"answer_type": "other", "question_type": "four"}
    assert Path(sample.images[0].name).name == f"COCO_{subset}_000000051606.jpg"
    assert sample.images[0].size() == (40, 30)


def test_okvqa_does_not_take_vqa_v1s_files_of_same_names(tmp_path: Path) -> None:
    _okvqa(tmp_path, folder=".")
    with pytest.raises(UserError, match=f"okvqa: no {OK_QUESTIONS} under .*expected okvqa/{OK_QUESTIONS} or ok-vqa/"):
        _load(OKVQA, tmp_path, "val")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: (r / "okvqa" / OK_ANNOTATIONS).unlink(), f"okvqa: no {OK_ANNOTATIONS} under .*expected okvqa/"),
        (lambda r: _write(r / "okvqa" / OK_ANNOTATIONS, {"annotations": []}), f"okvqa: question 516065 of {OK_QUESTIONS} has no entry in {OK_ANNOTATIONS}"),
        (lambda r: _write(r / "okvqa" / OK_ANNOTATIONS, {"annotations": [{"question_id": 1}]}), f"okvqa: no 'answers' in the files of split val .*{OK_QUESTIONS} and {OK_ANNOTATIONS}"),
        (lambda r: _write(r / "okvqa" / OK_QUESTIONS, {"questions": [{"question_id": 1, "image_id": "COCO_1", "question": ""}]}), "okvqa: the files of split val under .*: not the official format .*COCO_1"),
        (lambda r: _okvqa(r, answers=[]), f"question 516065 in {OK_ANNOTATIONS} has no answers to score against"),
        (lambda r: (r / "coco" / "val2014").rename(r / "p"), "okvqa: no val2014 under"),
    ],
)  # fmt: skip
def test_wrong_okvqa_files_are_reported(tmp_path: Path, break_it: Break, message: str) -> None:
    _okvqa(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        _load(OKVQA, tmp_path, "val")


# -------------------------------------------------------------------------------------------------------------- VizWiz


def _vizwiz(root: Path, *, annotations: str = "vizwiz/Annotations", images: str = "vizwiz/{split}") -> None:
    for split in ("train", "val", "test"):
        image = f"VizWiz_{split}_00000001.jpg"
        row: dict[str, Any] = {"image": image, "question": "Can you tell me what this medicine is please?"}
        if split != "test":
            answers = [{"answer": a, "answer_confidence": "yes"} for a in ("night time", "unanswerable", "")]
            row |= {"answers": answers, "answer_type": "other", "answerable": 1}
        _write(root / annotations / f"{split}.json", [row])
        _image(root / images.format(split=split) / image)


@pytest.mark.parametrize("annotations", ["vizwiz/Annotations", "vizwiz/annotations", "vizwiz"])
@pytest.mark.parametrize("images", ["vizwiz/{split}", "vizwiz/images/{split}", "vizwiz/images"])
def test_vizwiz(tmp_path: Path, annotations: str, images: str) -> None:
    _vizwiz(tmp_path, annotations=annotations, images=images)
    for split in ("val", "train"):
        (sample,) = _load(VIZWIZ, tmp_path, split)
        assert sample.id == sample.cluster == f"VizWiz_{split}_00000001.jpg"
        assert sample.text == "Can you tell me what this medicine is please?"
        assert sample.references == ("night time", "unanswerable", "")
        assert dict(sample.meta) == {"answer_type": "other", "answerable": 1}
        assert sample.images[0].size() == (40, 30)


def test_vizwiz_test_has_no_answers_and_makes_submission(tmp_path: Path) -> None:
    _vizwiz(tmp_path)
    (sample,) = _load(VIZWIZ, tmp_path, "test")
    assert sample.references == ()
    assert not VIZWIZ.splits["test"].answers
    name, content = VIZWIZ.submission(
        [Answered(sample, Prediction("Vicks “NyQuil”")), Answered(sample, Prediction(None))]
    )
    assert name.endswith(".json")
    image = "VizWiz_test_00000001.jpg"
    assert json.loads(content) == [{"image": image, "answer": "Vicks “NyQuil”"}, {"image": image, "answer": ""}]
    with pytest.raises(UserError, match="vizwiz: the answer to sample 'VizWiz_test_00000001.jpg' was parsed as a box"):
        VIZWIZ.submission([Answered(sample, Prediction((0.0, 0.0, 1.0, 1.0)))])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: (r / "vizwiz" / "Annotations" / "val.json").unlink(), r"vizwiz: no val\.json under .*expected vizwiz/Annotations/val\.json or"),
        (lambda r: _write(r / "vizwiz" / "Annotations" / "val.json", [{"image": "a.jpg", "question": "?"}]), r"no 'answers' in val\.json under .*Annotations\.zip"),
        (lambda r: _write(r / "vizwiz" / "Annotations" / "val.json", {"questions": []}), r"val\.json under .*: not the official format"),
        (lambda r: _write(r / "vizwiz" / "Annotations" / "val.json", [{"image": "a.jpg", "question": "?", "answers": []}]), r"a\.jpg in val\.json under .* has no answers to score against"),
        (lambda r: (r / "vizwiz" / "val").rename(r / "p"), "vizwiz: no val under .*expected vizwiz/val or vizwiz/images/val or"),
    ],
)  # fmt: skip
def test_wrong_vizwiz_files_are_reported(tmp_path: Path, break_it: Break, message: str) -> None:
    _vizwiz(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        _load(VIZWIZ, tmp_path, "val")


# ------------------------------------------------------------------------------------------------------------- TextVQA


def _textvqa(root: Path, images: str = "textvqa/train_images") -> None:
    for split, question_id in (("val", 34602), ("train", 0)):
        row = {
            "question_id": question_id,
            "image_id": "003a8ae2ef43b901",
            "question": "what brand is it?",
            "answers": ["dell"] * 10,
        }
        _write(root / "textvqa" / f"TextVQA_0.5.1_{split}.json", {"data": [row], "dataset_version": "0.5.1"})
    _image(root / images / "003a8ae2ef43b901.jpg")


@pytest.mark.parametrize(
    "images", ["textvqa/train_images", "textvqa/train_val_images/train_images", "textvqa/images/train_images"]
)
def test_textvqa(tmp_path: Path, images: str) -> None:
    _textvqa(tmp_path, images)
    for split, question_id in (("val", "34602"), ("train", "0")):
        (sample,) = _load(TEXTVQA, tmp_path, split)
        assert (sample.id, sample.cluster, sample.text) == (question_id, "003a8ae2ef43b901", "what brand is it?")
        assert sample.references == ("dell",) * 10
        assert sample.images[0].size() == (40, 30)


def test_real_textvqa(real_root: str) -> None:
    rows = json.loads((Path(real_root) / "textvqa" / TEXT_FILE).read_text())["data"]
    samples = _load(TEXTVQA, real_root, "val")
    assert [s.id for s in samples] == [str(row["question_id"]) for row in rows]
    assert len(samples) == 24
    for sample, row in zip(samples, rows, strict=True):
        assert (sample.text, list(sample.references)) == (row["question"], row["answers"])
        assert sample.images[0].size() == (row["image_width"], row["image_height"])
    assert len({s.cluster for s in samples}) == 12


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: (r / "textvqa" / TEXT_FILE).unlink(), f"textvqa: no {TEXT_FILE} under .*expected textvqa/{TEXT_FILE} or"),
        (lambda r: _write(r / "textvqa" / TEXT_FILE, {"questions": []}), f"textvqa: no 'data' in {TEXT_FILE} under .*expected the official {TEXT_FILE}"),
        # The test split's file, under another name.
        (lambda r: _write(r / "textvqa" / TEXT_FILE, {"data": [{"question_id": 1, "image_id": "a", "question": "?"}]}), f"textvqa: no 'answers' in {TEXT_FILE}"),
        (lambda r: _write(r / "textvqa" / TEXT_FILE, {"data": [{"question_id": 1, "image_id": "a", "question": "?", "answers": []}]}), f"question 1 in {TEXT_FILE} has no answers to score against"),
        (lambda r: (r / "textvqa" / "train_images").rename(r / "p"), "textvqa: no train_images under .*expected textvqa/train_images or"),
    ],
)  # fmt: skip
def test_wrong_textvqa_files_are_reported(tmp_path: Path, break_it: Break, message: str) -> None:
    _textvqa(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        _load(TEXTVQA, tmp_path, "val")


# ----------------------------------------------------------------------------------------------------------------- GQA


def _gqa(root: Path, place: str = f"gqa/{GQA_FILE}", images: str = "gqa/images") -> None:
    question = {"imageId": "n161313", "question": "Is it overcast?", "isBalanced": True, "answer": "no"}
    types = {"detailed": "weatherVerify", "semantic": "global", "structural": "verify"}
    questions = {
        "201307251": {**question, "types": types},
        "201307252": {**question, "isBalanced": False},
        "201307250": {**question, "question": "Who is it?", "answer": "boy"},
    }
    _write(root / place, questions)
    _image(root / images / "n161313.jpg")


@pytest.mark.parametrize("place", [f"gqa/{GQA_FILE}", f"gqa/questions1.2/{GQA_FILE}", f"gqa/questions/{GQA_FILE}"])
@pytest.mark.parametrize("images", ["gqa/images", "gqa/allImages/images"])
def test_gqa_keeps_balanced_questions_in_order(tmp_path: Path, place: str, images: str) -> None:
    _gqa(tmp_path, place, images)
    first, second = _load(GQA, tmp_path, "testdev_balanced")
    assert (first.id, first.text, first.references, first.cluster) == (
        "201307251",
        "Is it overcast?",
        ("no",),
        "n161313",
    )
    assert dict(first.meta) == {"structural_type": "verify", "semantic_type": "global"}
    assert (second.id, second.text, second.references) == ("201307250", "Who is it?", ("boy",))
    assert first.images[0].size() == (40, 30)


def test_real_gqa(real_root: str) -> None:
    questions = json.loads((Path(real_root) / "gqa" / GQA_FILE).read_text())
    samples = _load(GQA, real_root, "testdev_balanced")
    assert [s.id for s in samples] == list(questions)
    assert len(samples) == 24
    for sample in samples:
        question = questions[sample.id]
        assert (sample.text, sample.references, sample.cluster) == (
            question["question"],
            (question["answer"],),
            question["imageId"],
        )
        assert max(sample.images[0].size()) == 500


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: (r / "gqa" / GQA_FILE).unlink(), f"gqa: no {GQA_FILE} under .*expected gqa/{GQA_FILE} or"),
        (lambda r: _write(r / "gqa" / GQA_FILE, []), f"gqa: {GQA_FILE} under .*: not the official format"),
        # The challenge's questions have no answers.
        (lambda r: _write(r / "gqa" / GQA_FILE, {"1": {"imageId": "n1", "question": "?", "isBalanced": True}}), f"gqa: no 'answer' in {GQA_FILE} under .*expected the official {GQA_FILE}"),
        (lambda r: _write(r / "gqa" / GQA_FILE, {"1": {"imageId": "n1", "question": "?", "isBalanced": True, "answer": None}}), f"question 1 in {GQA_FILE} has no answers to score against"),
        (lambda r: (r / "gqa" / "images").rename(r / "p"), "gqa: no images under .*expected gqa/images or"),
    ],
)  # fmt: skip
def test_wrong_gqa_files_are_reported(tmp_path: Path, break_it: Break, message: str) -> None:
    _gqa(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        _load(GQA, tmp_path, "testdev_balanced")


# ------------------------------------------------------------------------------------------------------------- the hub

TEXTS = [datasets.Value("string")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # datasets (5.2) knows a local folder with configurations in its README by its name and that README alone: without
    # a cache of its own, a test would read the rows of another's folder.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def _parquet(file: Path, rows: dict[str, list[Any]], **features: Any) -> None:
    buffer = io.BytesIO()
    if "image" in rows:
        Image.new("RGB", (50, 20)).save(buffer, "PNG")
        rows = {**rows, "image": [{"bytes": buffer.getvalue(), "path": None}] * len(rows["image"])}
        features["image"] = datasets.Image()
    file.parent.mkdir(parents=True, exist_ok=True)
    typed = datasets.Features({name: features.get(name, datasets.Value("string")) for name in rows})
    datasets.Dataset.from_dict(rows, features=typed).to_parquet(file)


STRING, NUMBER = datasets.Value("string"), datasets.Value("int64")


@pytest.mark.parametrize(
    ("answers", "feature"),
    [
        (["a", "b"], TEXTS),
        (
            [{"answer": "a", "answer_id": 1}, {"answer": "b", "answer_id": 2}],
            datasets.List({"answer": STRING, "answer_id": NUMBER}),
        ),
        (
            {"answer": ["a", "b"], "answer_id": [1, 2]},
            {"answer": datasets.List(STRING), "answer_id": datasets.List(NUMBER)},
        ),
    ],
    ids=["strings", "structs", "lists in a struct"],
)
def test_answers_in_every_parquet_layout(tmp_path: Path, answers: Any, feature: Any) -> None:
    rows = {
        "question_id": ["1"], "image": [0], "question": ["What?"], "answers": [answers], "question_type": ["one"],
        "answer_type": ["other"],
    }  # fmt: skip
    _parquet(tmp_path / "lmms-lab" / "OK-VQA" / "data" / "val2014-00000-of-00001.parquet", rows, answers=feature)
    (sample,) = _load(OKVQA, f"hub:{tmp_path}", "val")
    assert sample.references == ("a", "b")


def test_okvqa_from_mirror(tmp_path: Path) -> None:
    rows = {
        "question_id": ["2971475", "516065"], "image": [0, 0], "question": ["Which sport?", "Which hair?"],
        "answers": [["race"] * 10, ["pony tail"] * 10], "question_type": ["four", "four"], "answer_type": ["other", "other"],
    }  # fmt: skip
    _parquet(tmp_path / "lmms-lab" / "OK-VQA" / "data" / "val2014-00000-of-00001.parquet", rows, answers=TEXTS)
    samples = _load(OKVQA, f"hub:{tmp_path}", "val")
    assert [(s.id, s.cluster, s.text) for s in samples] == [
        ("2971475", "297147", "Which sport?"),
        ("516065", "51606", "Which hair?"),
    ]
    assert samples[1].references == ("pony tail",) * 10
    assert dict(samples[1].meta) == {"answer_type": "other", "question_type": "four"}
    assert samples[0].images[0].size() == (50, 20)
    with pytest.raises(UserError, match="okvqa: split train is not on the hub .*give --data ROOT"):
        _load(OKVQA, f"hub:{tmp_path}", "train")


def test_vizwiz_from_mirror(tmp_path: Path) -> None:
    data = tmp_path / "lmms-lab" / "VizWiz-VQA" / "data"
    rows = {
        "question_id": ["VizWiz_val_00000000"], "image": [0], "question": ["Ok. There?"],
        "answers": [["beach"] * 10], "category": ["other"],
    }  # fmt: skip
    _parquet(data / "val-00000-of-00001.parquet", rows, answers=TEXTS)
    unanswered = {**rows, "question_id": ["VizWiz_test_00000000"], "answers": [None], "category": [None]}
    _parquet(data / "test-00000-of-00001.parquet", unanswered, answers=TEXTS)
    (sample,) = _load(VIZWIZ, f"hub:{tmp_path}", "val")
    assert (sample.id, sample.text, sample.references) == ("VizWiz_val_00000000.jpg", "Ok. There?", ("beach",) * 10)
    assert dict(sample.meta) == {"category": "other"}
    assert sample.images[0].size() == (50, 20)
    (asked,) = _load(VIZWIZ, f"hub:{tmp_path}", "test")
    assert (asked.id, asked.references, dict(asked.meta)) == ("VizWiz_test_00000000.jpg", (), {})
    with pytest.raises(UserError, match="vizwiz: split train is not on the hub .*give --data ROOT"):
        _load(VIZWIZ, f"hub:{tmp_path}", "train")


def test_textvqa_from_mirror(tmp_path: Path) -> None:
    rows = {
        "question_id": [34602, 34603], "image_id": ["003a", "003a"], "image": [0, 0], "question": ["Brand?", "Year?"],
        "answers": [["nokia"] * 10, []],
    }  # fmt: skip
    file = tmp_path / "lmms-lab" / "textvqa" / "data" / "validation-00000-of-00001.parquet"
    _parquet(file, rows, answers=TEXTS, question_id=datasets.Value("int32"))
    found = TEXTVQA.load(open_data(f"hub:{tmp_path}"), "val")
    first = next(iter(found))
    assert (first.id, first.cluster, first.text, first.references) == ("34602", "003a", "Brand?", ("nokia",) * 10)
    assert first.images[0].load().size == (50, 20)
    with pytest.raises(UserError, match=r"textvqa: lmms-lab/textvqa/val\[1\] has no answers to score against"):
        next(iter(found))


GQA_README = """---
configs:
- config_name: testdev_balanced_images
  data_files: [{split: testdev, path: testdev_balanced_images/testdev-*}]
- config_name: testdev_balanced_instructions
  data_files: [{split: testdev, path: testdev_balanced_instructions/testdev-*}]
---
"""


def _gqa_mirror(root: Path, image_ids: list[str]) -> str:
    folder = root / "lmms-lab" / "GQA"
    _parquet(
        folder / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet",
        {
            "id": ["11", "12", "13"], "imageId": ["n2", "n1", "n2"], "question": ["A?", "B?", "C?"],
            "answer": ["a", "b", "c"], "isBalanced": [True, True, False],
            "types": [{"structural": "query", "semantic": "rel", "detailed": "relO"}] * 3,
        },
        isBalanced=datasets.Value("bool"),
        types={k: datasets.Value("string") for k in ("structural", "semantic", "detailed")},
    )  # fmt: skip
    _parquet(
        folder / "testdev_balanced_images" / "testdev-00000-of-00001.parquet",
        {"id": image_ids, "image": [0] * len(image_ids)},
    )
    (folder / "README.md").write_text(GQA_README)
    return f"hub:{root}"


def test_gqa_joins_hubs_questions_and_images(tmp_path: Path) -> None:
    first, second = _load(GQA, _gqa_mirror(tmp_path, ["n1", "n2"]), "testdev_balanced")
    assert (first.id, first.text, first.references, first.cluster) == ("11", "A?", ("a",), "n2")
    assert (second.id, second.text, second.references, second.cluster) == ("12", "B?", ("b",), "n1")
    assert first.images[0].name == "lmms-lab/GQA/testdev_balanced_images[1]"
    assert second.images[0].name == "lmms-lab/GQA/testdev_balanced_images[0]"
    assert first.images[0].size() == (50, 20)
    assert dict(first.meta) == {"structural_type": "query", "semantic_type": "rel"}


def test_gqa_hub_images_that_are_missing_are_reported(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="gqa: question 11 of lmms-lab/GQA asks about n2, which is not in testdev_balanced_images"
    ):
        _load(GQA, _gqa_mirror(tmp_path, ["n1"]), "testdev_balanced")
    shutil.rmtree(tmp_path / "lmms-lab" / "GQA" / "testdev_balanced_images")
    with pytest.raises(UserError, match=r"gqa: no parquet files of split testdev under .*testdev_balanced_images"):
        _load(GQA, f"hub:{tmp_path}", "testdev_balanced")


@pytest.mark.parametrize(
    ("task", "split", "repo"),
    [(OKVQA, "val", "OK-VQA"), (VIZWIZ, "val", "VizWiz-VQA"), (TEXTVQA, "val", "textvqa"), (GQA, "testdev_balanced", "GQA")],
)  # fmt: skip
def test_mirror_without_data_set_is_reported(tmp_path: Path, task: Task, split: str, repo: str) -> None:
    with pytest.raises(UserError, match=f"{task.name}: no folder .*lmms-lab/{repo}; a mirror has"):
        _load(task, f"hub:{tmp_path}", split)
