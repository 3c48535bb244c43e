"""Judged benchmarks: samples from each format, and what is wrong with files, in a sentence."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_task
from evalkit.errors import UserError
from evalkit.types import Sample

from ..rows import encoded, mirror, png, write_tsv

TASKS = ("mmvet", "llavabench", "simplevqa", "miabench")
COMPONENTS = {"components": ["a scene", "in one sentence"], "component_weight": [5, 5], "component_type": ["d", "l"]}
ROWS: Mapping[str, list[dict[str, Any]]] = {
    "mmvet": [
        {"index": 0, "question": "What is x?", "answer": "-1<AND>-5", "category": "ocr,math"},
        {"index": 1, "question": "What is it?", "answer": "a cat", "category": "rec"},
    ],
    "llavabench": [
        {"index": 1, "question": "Where?", "category": "conv", "caption": "A street.", "gpt4_ans": "In a street."},
        {"index": 2, "question": "Why?", "category": "complex", "caption": "A cat.", "gpt4_ans": "Nobody knows."},
    ],
    "simplevqa": [
        {"index": 0, "question": "谁?", "answer": "甲", "language": "CN"},
        {"index": 1, "question": "Who?", "answer": "B", "language": "EN"},
    ],
    "miabench": [
        {"index": 0, "question": "Describe it.", **{key: repr(value) for key, value in COMPONENTS.items()}},
        {"index": 1, "question": "Name it.", "components": "['it']", "component_weight": "[10]", "component_type": "['m']"},
    ],
}  # fmt: skip
FILES = {"mmvet": "MMVet", "llavabench": "LLaVABench", "simplevqa": "SimpleVQA", "miabench": "Mia-Bench"}


def tsv_root(root: Path, task: str, **changes: Any) -> str:
    """A root with VLMEvalKit's file of a task, whose first row has other cells."""
    rows = [{**row, "image": encoded(n)} for n, row in enumerate(ROWS[task])]
    rows[0] |= changes
    write_tsv(root / task / f"{FILES[task]}.tsv", rows)
    return str(root)


def official_mmvet(root: Path) -> str:
    folder = root / "mmvet" / "images"
    folder.mkdir(parents=True)
    content = {}
    for n, row in enumerate(ROWS["mmvet"]):
        (folder / f"{n}.png").write_bytes(png(n))
        entry = {"question": row["question"], "answer": row["answer"], "capability": row["category"].split(",")}
        content[f"v1_{n}"] = {"imagename": f"{n}.png", **entry}
    (root / "mmvet" / "mm-vet.json").write_text(json.dumps(content))
    return str(root)


def official_llavabench(root: Path) -> str:
    folder = root / "llavabench"
    (folder / "images").mkdir(parents=True)
    files: dict[str, list[dict[str, Any]]] = {"questions": [], "context": [], "answers_gpt4": []}
    for n, row in enumerate(ROWS["llavabench"]):
        (folder / "images" / f"{n}.jpg").write_bytes(png(n))
        question = {"question_id": n, "image": f"{n}.jpg", "text": row["question"], "category": row["category"]}
        files["questions"].append(question)
        files["context"].append({"id": n, "image": f"{n}.jpg", "caption": row["caption"]})
        files["answers_gpt4"].append({"question_id": n, "text": row["gpt4_ans"], "answer_id": "x"})
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(root)


def columns_of(rows: list[dict[str, Any]], names: Mapping[str, str]) -> dict[str, list[Any]]:
    """Columns of a data set, by their names there."""
    return {name: [row[ours] for row in rows] for name, ours in names.items()}


def hub_of(root: Path, task: str) -> str:
    rows = ROWS[task]
    if task == "mmvet":
        names = {"question": "question", "answer": "answer", "capability": "category"}
        columns = {"question_id": ["v1_0", "v1_1"], **columns_of(rows, names)}
        return mirror(root, "lmms-lab/MMVet", "test", columns)
    if task == "llavabench":
        names = {"question": "question", "category": "category", "caption": "caption", "gpt_answer": "gpt4_ans"}
        columns = {"question_id": [0, 1], **columns_of(rows, names)}
        return mirror(root, "lmms-lab/llava-bench-in-the-wild", "train", columns)
    if task == "miabench":
        columns = {
            "instruction": [row["question"] for row in rows], "components": [COMPONENTS["components"], ["it"]],
            "component_weight": [[5, 5], [10]], "component_type": [["d", "l"], ["m"]],
        }  # fmt: skip
        return mirror(root, "lmms-lab/MIA-Bench", "test", columns)
    import datasets

    columns = columns_of(rows, {"data_id": "index", "question": "question", "answer": "answer", "language": "language"})
    columns["image"] = [base64.b64encode(png(n)).decode() for n in range(2)]
    folder = root / "m-a-p/SimpleVQA" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(columns).to_parquet(folder / "test-00000-of-00001.parquet")
    return f"hub:{root}"


def facts(samples: list[Sample]) -> list[tuple[Any, ...]]:
    return [(s.text, s.references, dict(s.meta), s.images[0].load().getpixel((0, 0))) for s in samples]


@pytest.mark.parametrize("task", TASKS)
def test_every_format_gives_same_samples(task: str, tmp_path: Path) -> None:
    found = facts(load_task(task, data=tsv_root(tmp_path / "tsv", task)))
    assert len(found) == 2
    assert [text for text, *_ in found] == [row["question"] for row in ROWS[task]]
    assert facts(load_task(task, data=hub_of(tmp_path / "hub", task))) == found
    official: dict[str, Callable[[Path], str]] = {"mmvet": official_mmvet, "llavabench": official_llavabench}
    if task in official:
        assert facts(load_task(task, data=official[task](tmp_path / "official"))) == found


def test_meta_is_what_scorers_need(tmp_path: Path) -> None:
    first, _ = load_task("mmvet", data=tsv_root(tmp_path, "mmvet"))
    assert first.meta == {"capability": ["ocr", "math"], "combination": "ocr+math"}
    first, _ = load_task("miabench", data=tsv_root(tmp_path, "miabench"))
    assert first.meta == COMPONENTS


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("mmvet", {"category": "ocr,smell"}, "capability is 'ocr,smell', not one of rec, ocr, know"),
        ("llavabench", {"category": "chat"}, "category is 'chat', not one of conv, detail, complex"),
        ("miabench", {"components": "['a']"}, "no lists of one length from 1 to 5"),
        ("miabench", {"component_weight": "[5, 'x']"}, "not whole numbers"),
        ("miabench", {"components": "a, b"}, "components is 'a, b', not a list"),
    ],
)
def test_wrong_rows_are_refused(task: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the official format") as raised:
        load_task(task, data=tsv_root(tmp_path, task, **changes))
    assert message in str(raised.value)


def test_wrong_official_files_are_refused(tmp_path: Path) -> None:
    root = Path(official_llavabench(tmp_path))
    path = root / "llavabench" / "answers_gpt4.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="no '1' in llavabench/questions.jsonl"):
        load_task("llavabench", data=str(root))
    path.write_text("")
    with pytest.raises(UserError, match=r"answers_gpt4.jsonl is empty; download it again"):
        load_task("llavabench", data=str(root))
