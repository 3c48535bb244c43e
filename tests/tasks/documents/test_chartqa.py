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
from evalkit.tasks.documents.chartqa import TASK
from evalkit.types import Answered, Prediction

HUMAN = [
    {"imgname": "1.png", "query": "How many?", "label": "14"},
    {"imgname": "2.png", "query": "Which bar?", "label": "Inspired"},
    {"imgname": "1.png", "query": "Is it so?", "label": "Yes"},
]
AUGMENTED = [{"imgname": "multi_9.png", "query": "Share in 2019?", "label": "23.4"}]


def _write(
    root: Path, folder: str = "chartqa/ChartQA Dataset", part: str = "test", *, human: Any = HUMAN, augmented: Any = AUGMENTED
) -> Path:  # fmt: skip
    charts = root / folder / part / "png"
    charts.mkdir(parents=True)
    for name in ("1.png", "2.png", "multi_9.png"):
        Image.new("RGB", (40, 30)).save(charts / name)
    (charts.parent / f"{part}_human.json").write_text(json.dumps(human))
    (charts.parent / f"{part}_augmented.json").write_text(json.dumps(augmented))
    return charts.parent


def test_protocol() -> None:
    assert {s: p.size for s, p in TASK.splits.items()} == {
        "test": 2_500, "human": 1_250, "augmented": 1_250, "train": 28_299,
    }  # fmt: skip
    assert TASK.splits["test"].size == sum(TASK.splits[s].size or 0 for s in ("human", "augmented"))
    assert (TASK.kind, TASK.metric, TASK.decoding.max_new_tokens) == ("document", "relaxed_accuracy", 100)
    assert TASK.default_splits == ("test",)


@pytest.mark.parametrize("folder", ["chartqa/ChartQA Dataset", "chartqa", "chartqa/ChartQA_Dataset"])
def test_both_halves_in_their_files_order(tmp_path: Path, folder: str) -> None:
    _write(tmp_path, folder)
    data = open_data(str(tmp_path))
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.text, s.references, s.cluster, s.meta) for s in samples] == [
        ("human-0", "How many?", ("14",), "1.png", {"subset": "human"}),
        ("human-1", "Which bar?", ("Inspired",), "2.png", {"subset": "human"}),
        ("human-2", "Is it so?", ("Yes",), "1.png", {"subset": "human"}),
        ("augmented-0", "Share in 2019?", ("23.4",), "multi_9.png", {"subset": "augmented"}),
    ]
    assert Path(samples[3].images[0].name) == tmp_path / folder / "test" / "png" / "multi_9.png"
    assert samples[3].images[0].size() == (40, 30)
    # A half's samples are the same ones under the same ids.
    assert list(TASK.load(data, "human")) == samples[:3]
    assert list(TASK.load(data, "augmented")) == samples[3:]


def test_headline_is_mean_of_halves(tmp_path: Path) -> None:
    _write(tmp_path)
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    answers = [Answered(s, Prediction("14" if s.id == "human-0" else "24")) for s in samples]
    scores = registry.metrics.get(TASK.metric).score(answers)
    assert scores.values["accuracy[human]"] == pytest.approx(100 / 3)
    assert scores.values["accuracy[augmented]"] == 100.0
    assert scores.values["accuracy"] == pytest.approx((100 / 3 + 100) / 2)  # not 2 of 4


def test_train_is_another_folder(tmp_path: Path) -> None:
    _write(tmp_path, part="train", human=HUMAN[:1])
    data = open_data(str(tmp_path))
    assert [s.id for s in TASK.load(data, "train")] == ["human-0", "augmented-0"]
    with pytest.raises(UserError, match="chartqa: no test_human.json"):
        list(TASK.load(data, "test"))


def test_label_in_list_is_that_label(tmp_path: Path) -> None:
    _write(tmp_path, human=[{**HUMAN[0], "label": ["14"]}])
    assert next(iter(TASK.load(open_data(str(tmp_path)), "human"))).references == ("14",)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "test_human.json").unlink(), "no test_human.json under .*expected chartqa/ChartQA Dataset/test/test_human.json"),
        (lambda f: (f / "test_augmented.json").unlink(), "no test_augmented.json under"),
        (lambda f: (f / "test_human.json").write_text('[{"imgname'), "test_human.json is not valid JSON"),
        (lambda f: (f / "test_human.json").write_text('{"a": 1}'), "test_human.json is not a list of questions"),
        (lambda f: (f / "test_human.json").write_text('[{"imgname": "1.png", "query": "?"}]'), "no 'label' in question 0 of .*test_human.json; expected the official test_human.json"),
        (lambda f: (f / "test_human.json").write_text('["a"]'), "question 0 of .*test_human.json: not the official format"),
        (lambda f: (f / "test_human.json").write_text(json.dumps([{**HUMAN[0], "label": None}])), "question 0 of .* has no label .it says None"),
        (lambda f: (f / "test_human.json").write_text(json.dumps([{**HUMAN[0], "label": []}])), "question 0 of .* has no label"),
        (lambda f: (f / "png").rename(f / "images"), "no png under .*expected chartqa/ChartQA Dataset/test/png"),
    ],
)  # fmt: skip
def test_wrong_files_are_reported(tmp_path: Path, break_it: Any, message: str) -> None:
    break_it(_write(tmp_path))
    with pytest.raises(UserError, match=f"^chartqa: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def _mirror(root: Path, types: list[str], answers: list[str | None] | None = None) -> None:
    def png(color: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.new("L", (20, 10), color).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    n = len(types)
    rows = {
        "type": types, "question": [f"q{i}" for i in range(n)], "image": [png(10 * i) for i in range(n)],
        "answer": answers or [str(i) for i in range(n)],
    }  # fmt: skip
    text = datasets.Value("string")
    features = datasets.Features({"type": text, "question": text, "image": datasets.Image(), "answer": text})
    folder = root / "lmms-lab" / "ChartQA" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")


def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    _mirror(tmp_path, ["augmented_test", "human_test", "augmented_test"])
    data = open_data(f"hub:{tmp_path}")
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.text, s.references, s.cluster) for s in samples] == [
        ("human-0", "q1", ("1",), "1"), ("augmented-0", "q0", ("0",), "0"), ("augmented-1", "q2", ("2",), "2"),
    ]  # fmt: skip
    assert samples[2].images[0].load().getpixel((0, 0)) == (20, 20, 20)
    assert [s.id for s in TASK.load(data, "human")] == ["human-0"]
    assert [s.id for s in TASK.load(data, "augmented")] == ["augmented-0", "augmented-1"]
    with pytest.raises(UserError, match="split train is not read from the hub"):
        list(TASK.load(data, "train"))


def test_hub_rows_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    _mirror(tmp_path / "a", ["human_test", "machine"])
    with pytest.raises(UserError, match="row 1 of lmms-lab/ChartQA is of type 'machine'; expected human_test or"):
        list(TASK.load(open_data(f"hub:{tmp_path / 'a'}"), "human"))
    _mirror(tmp_path / "b", ["human_test", "human_test"], ["1", None])
    with pytest.raises(UserError, match=r"lmms-lab/ChartQA/test\[1\] has no label"):
        list(TASK.load(open_data(f"hub:{tmp_path / 'b'}"), "test"))
