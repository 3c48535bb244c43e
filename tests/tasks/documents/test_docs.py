"""DocVQA and InfographicVQA: one format, two layouts."""

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
from evalkit.tasks.documents.docvqa import TASK as DOCVQA
from evalkit.tasks.documents.infovqa import TASK as INFOVQA
from evalkit.types import Answered, Prediction

DOC = {
    "questionId": 337, "question": "What is the date?", "image": "documents/xnbl0037_1.png", "docId": 279,
    "ucsf_document_id": "xnbl0037", "ucsf_document_page_no": "1", "answers": ["1/8/93", "January 8"],
    "data_split": "val",
}  # fmt: skip
INFO = {
    "questionId": 65718, "question": "Which platform?", "image_local_name": "20471.jpeg",
    "image_url": "https://example.org/a.jpeg", "ocr_output_file": "20471.json", "answers": ["pinterest"],
    "data_split": "val",
}  # fmt: skip
KNOWN = [
    pytest.param(DOCVQA, DOC, "docvqa", "val_v1.0.json", "docvqa/documents", id="docvqa"),
    pytest.param(
        INFOVQA, INFO, "infovqa", "infographicsVQA_val_v1.0.json", "infovqa/infographicsvqa_images", id="infovqa"
    ),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # datasets keys its cache of a local folder by its README alone, so two mirrors with equal ones would share rows.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _image(row: dict[str, Any]) -> str:
    return Path(row.get("image") or row["image_local_name"]).name


def _write(root: Path, row: dict[str, Any], file: str, images: str) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"dataset_name": "x", "dataset_split": "val", "data": [row]}))
    (root / images).mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 30)).save(root / images / _image({**DOC, **row} if "image" in row else {**INFO, **row}))
    return path


def test_splits() -> None:
    assert {s: (p.size, p.answers) for s, p in DOCVQA.splits.items()} == {
        "val": (5_349, True), "test": (5_188, False), "train": (39_463, True),
    }  # fmt: skip
    assert {s: (p.size, p.answers) for s, p in INFOVQA.splits.items()} == {
        "val": (2_801, True), "test": (3_288, False), "train": (23_946, True),
    }  # fmt: skip
    for task in (DOCVQA, INFOVQA):
        assert (task.kind, task.metric, task.decoding.max_new_tokens) == ("document", "anls", 100)


def test_real_pages(real_root: str) -> None:
    rows = json.loads((Path(real_root) / "docvqa" / "val_v1.0.json").read_text())["data"]
    samples = list(DOCVQA.load(open_data(real_root), "val"))
    assert len(samples) == len(rows) == 20
    for sample, row in zip(samples, rows, strict=True):
        assert (sample.id, sample.text) == (str(row["questionId"]), row["question"])
        assert sample.references == tuple(row["answers"])
        assert sample.meta == {"question_types": row["question_types"]}
        assert sample.cluster == f"{row['ucsf_document_id']}_{row['ucsf_document_page_no']}"
    assert len({s.cluster for s in samples}) == 5
    assert samples[0].images[0].load().mode == "RGB"
    perfect = [Answered(s, Prediction(s.references[-1].upper())) for s in samples]
    assert registry.metrics.get("anls").score(perfect).values["anls"] == 100.0


@pytest.mark.parametrize(
    ("task", "row", "file", "images"),
    [
        (DOCVQA, DOC, "docvqa/val_v1.0.json", "docvqa/documents"),
        (DOCVQA, DOC, "docvqa/val_v1.0_withQT.json", "docvqa/documents"),
        (DOCVQA, DOC, "docvqa/val/val_v1.0.json", "docvqa/val/documents"),
        (DOCVQA, DOC, "docvqa/spdocvqa_qas/val_v1.0_withQT.json", "docvqa/spdocvqa_images"),
        (INFOVQA, INFO, "infovqa/infographicsVQA_val_v1.0_withQT.json", "infovqa/infographicsvqa_images"),
        (INFOVQA, INFO, "infovqa/infographicsVQA_val_v1.0.json", "infovqa/infographicsvqa_images"),
        (INFOVQA, INFO, "infographicsvqa/infographicsvqa_qas/infographicsVQA_val_v1.0_withQT.json",
         "infographicsvqa/infographicsvqa_images"),
        (INFOVQA, INFO, "infovqa/val/infographicVQA_val_v1.0.json", "infovqa/infographicVQA_val_v1.0_images"),
    ],
)  # fmt: skip
def test_known_layouts(tmp_path: Path, task: Any, row: dict[str, Any], file: str, images: str) -> None:
    _write(tmp_path, row, file, images)
    (sample,) = task.load(open_data(str(tmp_path)), "val")
    assert (sample.id, sample.text) == (str(row["questionId"]), row["question"])
    assert sample.references == tuple(row["answers"])
    assert sample.meta == {}
    assert sample.cluster == Path(_image(row)).stem
    assert Path(sample.images[0].name) == tmp_path / images / _image(row)
    assert sample.images[0].size() == (40, 30)


def test_question_types_where_release_has_them(tmp_path: Path) -> None:
    typed = {**DOC, "question_types": ["form", "layout"]}
    _write(tmp_path, DOC, "docvqa/val_v1.0.json", "docvqa/documents")
    _write(tmp_path, typed, "docvqa/val_v1.0_withQT.json", "docvqa/documents")
    (doc,) = DOCVQA.load(open_data(str(tmp_path)), "val")
    assert doc.meta == {"question_types": ["form", "layout"]}
    typed = {**INFO, "answer_type": ["multi-span"], "operation/reasoning": ["counting"]}
    _write(tmp_path, typed, "infovqa/infographicsVQA_val_v1.0_withQT.json", "infovqa/infographicsvqa_images")
    (info,) = INFOVQA.load(open_data(str(tmp_path)), "val")
    assert info.meta == {"answer_type": ["multi-span"], "operation/reasoning": ["counting"]}


@pytest.mark.parametrize(
    ("task", "row", "file"),
    [(DOCVQA, DOC, "docvqa/test_v1.0.json"), (INFOVQA, INFO, "infovqa/infographicsVQA_test_v1.0.json")],
)
def test_test_has_no_references(tmp_path: Path, task: Any, row: dict[str, Any], file: str) -> None:
    bare = {k: v for k, v in row.items() if k != "answers"}
    folder = "docvqa/documents" if task is DOCVQA else "infovqa/infographicsvqa_images"
    _write(tmp_path, bare, file, folder)
    (sample,) = task.load(open_data(str(tmp_path)), "test")
    assert sample.references == ()
    with pytest.raises(UserError, match=r"no .*val_v1\.0"):
        list(task.load(open_data(str(tmp_path)), "val"))


@pytest.mark.parametrize(("task", "row", "name", "file", "images"), KNOWN)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no .*val_v1\.0.*\.json under .*expected {name}/.*'evalkit tasks {name}' shows the layout"),
        ('{"data": [', "is not valid JSON .*download it again"),
        ("[]", "has no list of questions under 'data'; expected the official .*val_v1.0.json"),
        ('{"questions": []}', "has no list of questions under 'data'"),
        ('{"data": [7]}', "question 0 of .*: not the official format .*expected the official"),
    ],
)
def test_wrong_files_are_reported(
    tmp_path: Path, task: Any, row: dict[str, Any], name: str, file: str, images: str, content: str | None, message: str
) -> None:  # fmt: skip
    path = _write(tmp_path, row, f"{name}/{file}", images)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(UserError, match=f"^{name}: .*" + message.replace("{name}", name)):
        list(task.load(open_data(str(tmp_path)), "val"))


@pytest.mark.parametrize(("task", "row", "name", "file", "images"), KNOWN)
@pytest.mark.parametrize("key", ["questionId", "question", "image"])
def test_missing_key_is_reported(
    tmp_path: Path, task: Any, row: dict[str, Any], name: str, file: str, images: str, key: str
) -> None:
    gone = {"docvqa": "image", "infovqa": "image_local_name"}[name] if key == "image" else key
    path = _write(tmp_path, row, f"{name}/{file}", images)
    path.write_text(json.dumps({"data": [row, {k: v for k, v in row.items() if k != gone}]}))
    with pytest.raises(UserError, match=f"^{name}: no '{gone}' in question 1 of .*{file}; expected the official"):
        list(task.load(open_data(str(tmp_path)), "val"))


@pytest.mark.parametrize(("task", "row", "name", "file", "images"), KNOWN)
@pytest.mark.parametrize("answers", [None, [], "text"])
def test_question_without_answers_is_reported(
    tmp_path: Path, task: Any, row: dict[str, Any], name: str, file: str, images: str, answers: object
) -> None:
    path = _write(tmp_path, {**row, "answers": answers}, f"{name}/{file}", images)
    if answers is None:
        path.write_text(json.dumps({"data": [{k: v for k, v in row.items() if k != "answers"}]}))
    with pytest.raises(UserError, match=f"^{name}: question {row['questionId']} of .* has no answers, so split val"):
        list(task.load(open_data(str(tmp_path)), "val"))


@pytest.mark.parametrize(("task", "row", "name", "file", "images"), KNOWN)
def test_missing_images(tmp_path: Path, task: Any, row: dict[str, Any], name: str, file: str, images: str) -> None:
    _write(tmp_path, row, f"{name}/{file}", images)
    (tmp_path / images / _image(row)).unlink()
    (sample,) = task.load(open_data(str(tmp_path)), "val")  # one image: that sample fails, by name
    with pytest.raises(OSError, match=_image(row)):
        sample.images[0].load()
    (tmp_path / images).rmdir()
    with pytest.raises(UserError, match=f"^{name}: no {Path(images).name} under .*expected {images}"):
        list(task.load(open_data(str(tmp_path)), "val"))


# -------------------------------------------------------------------------------------------------------------- the hub


def _png(color: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("L", (20, 10), color).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


TEXTS = [datasets.Value("string")]
FEATURES: dict[str, dict[str, Any]] = {
    "DocVQA": {
        "questionId": datasets.Value("string"), "question": datasets.Value("string"), "question_types": TEXTS,
        "image": datasets.Image(), "docId": datasets.Value("int64"), "ucsf_document_id": datasets.Value("string"),
        "ucsf_document_page_no": datasets.Value("string"), "answers": TEXTS,
    },
    "InfographicVQA": {
        "questionId": datasets.Value("string"), "question": datasets.Value("string"), "answers": TEXTS,
        "answer_type": TEXTS, "image": datasets.Image(), "image_url": datasets.Value("string"),
        "operation/reasoning": TEXTS,
    },
}  # fmt: skip


def _mirror(root: Path, columns: dict[str, dict[str, list[Any]]]) -> None:
    """A snapshot of lmms-lab/DocVQA: its README says which files are which configuration."""
    folder = root / "lmms-lab" / "DocVQA"
    lines = ["---", "configs:"]
    for config, splits in {"DocVQA": columns, "InfographicVQA": columns}.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            (folder / config).mkdir(parents=True, exist_ok=True)
            features = {k: v for k, v in FEATURES[config].items() if k != rows.get("without")}
            values = {k: rows.get(k, [None] * len(rows["questionId"])) for k in features}
            table = datasets.Dataset.from_dict(values, features=datasets.Features(features))
            table.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


ROWS: dict[str, list[Any]] = {
    "questionId": ["7", "8"], "question": ["What?", "How many?"], "answers": [["a", "b"], ["2"]],
    "question_types": [["form"], ["table"]], "ucsf_document_id": ["xx01", "xx01"], "ucsf_document_page_no": ["1", "4"],
    "image_url": ["https://a", "https://a"], "answer_type": [["multi-span"], None], "image": [_png(0), _png(200)],
}  # fmt: skip


def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    _mirror(tmp_path, {"validation": ROWS, "test": {**ROWS, "answers": [None, None]}})
    data = open_data(f"hub:{tmp_path}")
    docs = list(DOCVQA.load(data, "val"))
    assert [(s.id, s.text, s.references, s.cluster) for s in docs] == [
        ("7", "What?", ("a", "b"), "xx01_1"), ("8", "How many?", ("2",), "xx01_4"),
    ]  # fmt: skip
    assert docs[1].meta == {"question_types": ["table"]}
    assert docs[1].images[0].load().getpixel((0, 0)) == (200, 200, 200)
    assert docs[1].images[0].name == "lmms-lab/DocVQA/DocVQA/val[1]"
    infos = list(INFOVQA.load(data, "val"))
    assert [(s.id, s.references, s.cluster) for s in infos] == [
        ("7", ("a", "b"), "https://a"), ("8", ("2",), "https://a"),
    ]  # fmt: skip
    assert [s.meta for s in infos] == [{"answer_type": ["multi-span"]}, {}]
    assert infos[0].images[0].name == "lmms-lab/DocVQA/InfographicVQA/val[0]"
    for task in (DOCVQA, INFOVQA):
        assert [s.references for s in task.load(data, "test")] == [(), ()]
        with pytest.raises(UserError, match="split train is not read from the hub"):
            list(task.load(data, "train"))


@pytest.mark.parametrize("task", [DOCVQA, INFOVQA])
def test_mirror_that_is_not_data_set_is_reported(tmp_path: Path, task: Any) -> None:
    data = open_data(f"hub:{tmp_path}")
    with pytest.raises(UserError, match="no folder .*lmms-lab/DocVQA; a mirror has"):
        list(task.load(data, "val"))
    _mirror(tmp_path, {"validation": {**ROWS, "answers": [["a"], None]}})
    with pytest.raises(UserError, match=r"/val\[1\] has no answers, so split val cannot be scored"):
        list(task.load(data, "val"))
    with pytest.raises(UserError, match=r"no parquet files of split test under .*lmms-lab/DocVQA"):
        list(task.load(data, "test"))


@pytest.mark.parametrize("task", [DOCVQA, INFOVQA])
def test_mirror_without_column_is_reported(tmp_path: Path, task: Any) -> None:
    _mirror(tmp_path, {"validation": {**ROWS, "without": "question"}})  # type: ignore[dict-item]
    with pytest.raises(UserError, match="DocVQA has no column question"):
        list(task.load(open_data(f"hub:{tmp_path}"), "val"))


# ----------------------------------------------------------------------------------------------------------- submission


@pytest.mark.parametrize(
    ("task", "row", "file", "name"),
    [
        (DOCVQA, DOC, "docvqa/test_v1.0.json", "docvqa_test_submission.json"),
        (INFOVQA, INFO, "infovqa/infographicsVQA_test_v1.0.json", "infovqa_test_submission.json"),
    ],
)
def test_submission_format(tmp_path: Path, task: Any, row: dict[str, Any], file: str, name: str) -> None:
    folder = "docvqa/documents" if task is DOCVQA else "infovqa/infographicsvqa_images"
    path = _write(tmp_path, row, file, folder)
    path.write_text(json.dumps({"data": [{**row, "questionId": i} for i in (3, 1, 2)]}))
    samples = list(task.load(open_data(str(tmp_path)), "test"))
    predictions = [Prediction("80 €"), Prediction(None), Prediction('say "x"')]
    given, content = task.submission([Answered(s, r) for s, r in zip(samples, predictions, strict=True)])
    assert given == name
    assert json.loads(content) == [
        {"questionId": 3, "answer": "80 €"}, {"questionId": 1, "answer": ""}, {"questionId": 2, "answer": 'say "x"'},
    ]  # fmt: skip
    with pytest.raises(UserError, match="the answer to question 3 was parsed as a box"):
        task.submission([Answered(samples[0], Prediction((0.0, 0.0, 1.0, 1.0)))])
