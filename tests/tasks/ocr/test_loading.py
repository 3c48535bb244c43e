from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.ocr import mtvqa, ocrbench

from ..rows import encoded, mirror, write_tsv

FORMULAS = "Handwritten Mathematical Expression Recognition"


def test_protocols() -> None:
    assert {s: p.size for s, p in ocrbench.TASK.splits.items()} == {"test": 1_000}
    assert {s: p.size for s, p in mtvqa.TASK.splits.items()} == {"test": 6_778}
    metrics = {name: rule.metric for name, rule in mtvqa.TASK.scoring_rules.items()}
    assert metrics == {"official": "mtvqa", "vlmevalkit-e8e78f05": "mtvqa_rows", "lmms-eval-75571cf": "mtvqa_rows"}
    assert [ocrbench.TASK.rule_of(p) for p in ("official", "lmms-eval", "vlmevalkit")] == [
        "official", "lmms-eval-75571cf", "official",
    ]  # fmt: skip


def test_ocrbench_tsv(tmp_path: Path) -> None:
    rows = [
        {"index": 0, "question": "What?", "answer": "['A', \"b's\"]", "category": FORMULAS, "image": encoded(0)},
        {
            "index": 1,
            "question": "What?",
            "answer": "['C']",
            "category": "Handwriting Recognition",
            "image": encoded(0),
        },
    ]
    write_tsv(tmp_path / "OCRBench.tsv", rows)
    first, second = ocrbench.TASK.load(open_data(str(tmp_path)), "test")
    assert (first.id, first.text, first.references) == ("0", "What?", ("A", "b's"))
    assert first.meta == {"category": FORMULAS, "part": FORMULAS}
    assert second.meta["part"] == "Text Recognition"
    assert first.cluster == second.cluster == "0"  # one image


def test_ocrbench_official_file_and_hub(tmp_path: Path) -> None:
    folder = tmp_path / "ocrbench"
    (folder / "OCRBench_Images").mkdir(parents=True)
    entry = {
        "dataset_name": "IIIT5K", "image_path": "IIIT5K/1_1.png", "question": "What?", "answers": "CENTRE",
        "type": "Regular Text Recognition",
    }  # fmt: skip
    (folder / "OCRBench.json").write_text(json.dumps([entry]))
    (sample,) = ocrbench.TASK.load(open_data(str(tmp_path)), "test")
    assert (sample.id, sample.references, sample.cluster) == ("0", ("CENTRE",), "IIIT5K/1_1.png")
    assert sample.images[0].name == str(folder / "OCRBench_Images/IIIT5K/1_1.png")
    data = mirror(
        tmp_path / "mirror", "echo840/OCRBench", "test",
        {
            "dataset": ["IIIT5K"], "question": ["What?"], "question_type": ["Regular Text Recognition"],
            "answer": [["CENTRE"]],
        },
    )  # fmt: skip
    (sample,) = ocrbench.TASK.load(open_data(data), "test")
    assert (sample.id, sample.references, sample.meta["part"]) == ("0", ("CENTRE",), "Text Recognition")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "['A'"}, "answer is .* not a list"),
        ({"answer": "__import__('os')"}, "answer is .* not a list"),
        ({"answer": "[1]"}, "has no answers to score against .1 is not a text"),
        ({"answer": "[]"}, "has no answers to score against"),
        ({"category": "Poems"}, "category is 'Poems', not one of Regular Text Recognition"),
        ({"question": None}, "question is None, not a text"),
        ({"image": None}, "the row 0 has no image"),
    ],
)
def test_wrong_rows_of_ocrbench_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    row = {"index": 0, "question": "What?", "answer": "['A']", "category": FORMULAS, "image": encoded(0)}
    write_tsv(tmp_path / "OCRBench.tsv", [{**row, **changes}, {**row, "index": 1}])
    with pytest.raises(UserError, match=f"^ocrbench: .*{message}"):
        list(ocrbench.TASK.load(open_data(str(tmp_path)), "test"))


def test_mtvqa_tsv(tmp_path: Path) -> None:
    rows = [{"index": 5, "question": "Was? ", "answer": "1.5 ", "category": "DE", "split": "test", "image": encoded(0)}]
    write_tsv(tmp_path / "mtvqa/MTVQA_TEST.tsv", rows)
    (sample,) = mtvqa.TASK.load(open_data(str(tmp_path)), "test")
    assert (sample.id, sample.text, sample.references, sample.meta) == ("5", "Was?", ("1.5 ",), {"category": "DE"})


def pairs(*texts: tuple[Any, Any]) -> str:
    return repr([{"question": question, "answer": answer} for question, answer in texts])


def test_mtvqa_hub_has_several_questions_per_image(tmp_path: Path) -> None:
    columns = {
        "qa_pairs": [pairs(("Was?", "A"), ("Wo?", "B")), pairs(("Gì?", "C"))],
        "lang": ["de", "VI"],
        "id": [7, 8],
    }
    data = mirror(tmp_path, "ByteDance/MTVQA", "test", columns)
    samples = list(mtvqa.TASK.load(open_data(data), "test"))
    assert [(s.id, s.cluster, s.references, s.meta["category"]) for s in samples] == [
        ("7_0", "7", ("A",), "DE"), ("7_1", "7", ("B",), "DE"), ("8_0", "8", ("C",), "VI"),
    ]  # fmt: skip
    assert samples[1].images[0].load().getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "language", "message"),
    [
        ("[", "DE", "qa_pairs is '.', not a list"),
        ("{}", "DE", "qa_pairs is .., not a list"),
        ("[3]", "DE", "not the official format"),
        (pairs(("Was?", 3)), "DE", "answer is 3, not a text"),
        (pairs(("Was?", "A")), "XX", "the language is 'XX', not one of AR"),
    ],
)
def test_wrong_rows_of_mtvqa_are_reported(tmp_path: Path, content: str, language: str, message: str) -> None:
    data = mirror(tmp_path, "ByteDance/MTVQA", "test", {"qa_pairs": [content], "lang": [language], "id": [7]})
    with pytest.raises(UserError, match=rf"^mtvqa: ByteDance/MTVQA/test\[0\].*{message}"):
        list(mtvqa.TASK.load(open_data(data), "test"))
