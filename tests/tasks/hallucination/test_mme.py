from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.hallucination.mme import SUBTASKS, TASK

from ..rows import encoded, mirror, write_tsv

TAIL = " Please answer yes or no."
ROWS = [
    {"index": 0, "category": "OCR", "image_path": "OCR/0001.jpg", "question": f"A?{TAIL}", "answer": "Yes"},
    {"index": 1, "category": "OCR", "image_path": "OCR/0001.jpg", "question": f"B?{TAIL}", "answer": "No"},
    {"index": 2, "category": "count", "image_path": "count/000000006040.jpg", "question": f"C?{TAIL}", "answer": "Yes"},
    {"index": 3, "category": "scene", "image_path": "scene/images/P.jpg", "question": f"D?{TAIL}", "answer": "No"},
]


def test_protocol() -> None:
    assert {s: p.size for s, p in TASK.splits.items()} == {"test": 2_374}
    assert (TASK.kind, TASK.metric, TASK.decoding.max_new_tokens) == ("yes_no", "mme", 16)
    assert TASK.prompt_spec().reading == "mme-first-four"
    assert TASK.prompt_spec("vlmevalkit").reading == "vlmevalkit-yes-no"
    assert TASK.prompt_spec("lmms-eval").reading == "mme-lmms-eval"


def test_tsv(tmp_path: Path) -> None:
    write_tsv(tmp_path / "mme/MME.tsv", [{**row, "image": encoded(n // 2)} for n, row in enumerate(ROWS)])
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    assert [(s.id, s.text, s.references, s.cluster, s.meta["image"]) for s in samples] == [
        ("0", f"A?{TAIL}", ("yes",), "OCR/0001.jpg", "OCR/0001.jpg"),
        ("1", f"B?{TAIL}", ("no",), "OCR/0001.jpg", "OCR/0001.jpg"),
        ("2", f"C?{TAIL}", ("yes",), "000000006040.jpg", "count/000000006040.jpg"),
        ("3", f"D?{TAIL}", ("no",), "scene/P.jpg", "scene/P.jpg"),
    ]
    assert samples[2].images[0].load().getpixel((0, 0)) == (1, 1, 1)


def official(root: Path) -> Path:
    results = root / "mme/eval_tool/Your_Results"
    results.mkdir(parents=True)
    for subtask in SUBTASKS:
        (results / f"{subtask}.txt").write_text(f"1.jpg\tA?{TAIL}\tYes\n1.jpg\tB?{TAIL}\tNo\n")
        (root / "mme/MME_Benchmark_release_version" / subtask / "images").mkdir(parents=True)
    return results


def test_official_files(tmp_path: Path) -> None:
    official(tmp_path)
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    assert len(samples) == 28
    assert (samples[0].id, samples[1].id) == ("existence/1.jpg#1", "existence/1.jpg#2")
    assert [s.references for s in samples[:2]] == [("yes",), ("no",)]
    assert samples[0].images[0].name.endswith("MME_Benchmark_release_version/existence/images/1.jpg")
    assert len({s.cluster for s in samples}) == 14


def test_hub(tmp_path: Path) -> None:
    data = mirror(
        tmp_path, "lmms-lab/MME", "test",
        {
            "question_id": ["code_reasoning/0020.png"] * 2, "question": [f"A?{TAIL}", f"B?{TAIL}"],
            "answer": ["Yes", "No"], "category": ["code_reasoning"] * 2,
        },
    )  # fmt: skip
    samples = list(TASK.load(open_data(data), "test"))
    assert [s.id for s in samples] == ["code_reasoning/0020.png#1", "code_reasoning/0020.png#2"]
    assert samples[1].references == ("no",)
    assert samples[1].images[0].load().getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "maybe"}, "MME.tsv, line 2: not the official format .answer is 'maybe', neither yes nor no"),
        ({"category": "counts"}, "line 2: not the official format .category is 'counts', not one of MME's subtasks"),
        ({"question": None}, "line 2: not the official format .question is None, not a text"),
        ({"image_path": None}, "line 2: not the official format .image_path is None, not a file name"),
        ({"image": None, "image_path": "../x.jpg"}, "is outside"),
    ],
)
def test_wrong_rows_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tsv(tmp_path / "mme/MME.tsv", [{**ROWS[0], "image": encoded(0), **changes}, {**ROWS[1], "image": encoded(1)}])
    with pytest.raises(UserError, match=f"^mme: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def test_missing_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="mme: no MME.tsv and no Your_Results under .* expected mme/MME.tsv or mme/eval"
    ):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    results = official(tmp_path)
    (results / "count.txt").write_text("1.jpg\tA?\n")
    with pytest.raises(
        UserError, match=r"count.txt, line 1: not the official format .* expected lines 'image, question"
    ):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    (results / "count.txt").unlink()
    with pytest.raises(UserError, match="mme: no count.txt under"):
        list(TASK.load(open_data(str(tmp_path)), "test"))
