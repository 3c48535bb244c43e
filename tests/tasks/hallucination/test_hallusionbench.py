from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.hallucination.hallusionbench import TASK
from evalkit.types import Sample

from ..rows import encoded, mirror, write_tsv

ENTRY = {
    "category": "VD", "subcategory": "math", "visual_input": "1", "set_id": "0", "figure_id": "1", "question_id": "2",
    "question": "Is it larger?", "gt_answer": "1", "filename": "./hallusion_bench/VD/math/0_1.png",
}  # fmt: skip
META = {"category": "VD", "l2-category": "VD_math", "figure": "VD_math/0/1", "question_group": "VD_math/0/2"}


def is_expected(sample: Sample) -> None:
    assert (sample.id, sample.text, sample.references) == ("VD_math_1_0_1_2", "Is it larger?", ("yes",))
    assert (sample.cluster, sample.meta) == ("VD_math/0", META)


def test_protocol() -> None:
    assert {s: p.size for s, p in TASK.splits.items()} == {"image": 951}
    assert TASK.rule_of("vlmevalkit") == "vlmevalkit-yes-no"
    assert TASK.prompt_spec().reading == "evalkit-yes-no-1"


def test_official_file_without_questions_about_no_image(tmp_path: Path) -> None:
    folder = tmp_path / "hallusionbench"
    (folder / "hallusion_bench").mkdir(parents=True)
    text_only = {**ENTRY, "category": "VS", "visual_input": "0", "filename": None}
    (folder / "HallusionBench.json").write_text(json.dumps([text_only, ENTRY, {**ENTRY, "set_id": 3, "gt_answer": 0}]))
    first, second = TASK.load(open_data(str(tmp_path)), "image")
    is_expected(first)
    assert first.images[0].name == str(folder / "hallusion_bench/VD/math/0_1.png")
    assert (second.id, second.references) == ("VD_math_1_3_1_2", ("no",))


def test_tsv(tmp_path: Path) -> None:
    rows = [{"index": "VD_math_1_0_1_2", "question": "Is it larger?", "answer": "Yes", "image": encoded(3)}]
    write_tsv(tmp_path / "HallusionBench.tsv", rows)
    (sample,) = TASK.load(open_data(str(tmp_path)), "image")
    is_expected(sample)
    assert sample.images[0].load().getpixel((0, 0)) == (3, 3, 3)


def test_hub(tmp_path: Path) -> None:
    columns = {key: [value] for key, value in ENTRY.items() if key != "filename"}
    data = mirror(tmp_path, "lmms-lab/HallusionBench", "image", columns)
    (sample,) = TASK.load(open_data(data), "image")
    is_expected(sample)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gt_answer": "2"}, "entry 0 of .*: not the official format .gt_answer is '2', neither 0 nor 1"),
        ({"category": "XX"}, "the index is 'XX_math_1_0_1_2', not one such as"),
        ({"set_id": None}, "set_id is None, neither an integer nor a short text"),
        ({"filename": "../../x.png"}, "is outside"),
        ({"question": 3}, "question is 3, not a text"),
    ],
)
def test_wrong_entries_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "hallusion_bench").mkdir()
    (tmp_path / "HallusionBench.json").write_text(json.dumps([{**ENTRY, **changes}]))
    with pytest.raises(UserError, match=f"^hallusionbench: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "image"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "HallusionBench.json is not valid JSON"),
        ("{}", "it is .., not a list.; expected a list of questions"),
        ("[1]", "entry 0 of .*: not the official format"),
        ("[{}]", "no 'visual_input' in entry 0 of"),
    ],
)
def test_wrong_files_are_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "hallusion_bench").mkdir()
    (tmp_path / "HallusionBench.json").write_text(content)
    with pytest.raises(UserError, match=f"^hallusionbench: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "image"))
    (tmp_path / "HallusionBench.json").unlink()
    with pytest.raises(UserError, match="hallusionbench: no HallusionBench.json under"):
        list(TASK.load(open_data(str(tmp_path)), "image"))
