"""MathVerse: samples from the hub's data set and VLMEvalKit's files, and what is wrong with rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_task
from evalkit.errors import UserError

from ..rows import encoded, mirror, write_tsv

META = {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Angle"}
VERSIONS = ("Text Lite", "Vision Only")


def row(n: int) -> dict[str, Any]:
    question = "" if VERSIONS[n] == "Vision Only" else "Find the angle."
    return {
        "problem_index": "1", "problem_version": VERSIONS[n], "question": question, "answer": "A",
        "question_for_eval": "Find the angle of the figure.",
    }  # fmt: skip


def hub(root: Path) -> str:
    rows = [row(n) for n in range(2)]
    columns = {key: [one[key] for one in rows] for key in rows[0]}
    columns |= {"sample_index": ["1", "2"], "metadata": [META, META], "query_wo": ["Answer directly. Q1", "Answer it."]}
    return mirror(root, "AI4Math/MathVerse", "testmini", columns, config="testmini")


def tsv(root: Path, **changes: Any) -> str:
    rows = [
        {"index": n + 1, **row(n), "question": f"Q{n}", "metadata": repr(META), "image": encoded(n)} for n in range(2)
    ]
    rows[0] |= changes
    write_tsv(root / "mathverse" / "MathVerse_MINI.tsv", rows)
    return str(root)


def test_hub(tmp_path: Path) -> None:
    first, second = load_task("mathverse/testmini", data=hub(tmp_path))
    assert (first.id, first.text, first.references, first.cluster) == ("1", "Answer directly. Q1", ("A",), "1")
    assert second.cluster == "1"
    assert second.meta == {
        "problem_version": "Vision Only", "question": "", "question_for_eval": "Find the angle of the figure.",
        "subject": "Plane Geometry", "subfield": "Angle",
    }  # fmt: skip
    (only,) = load_task("mathverse/testmini-vision-only", data=hub(tmp_path / "again"))
    assert only.id == "2"


def test_tsv(tmp_path: Path) -> None:
    first, second = load_task("mathverse/testmini", data=tsv(tmp_path))
    assert (first.id, first.text, first.cluster) == ("1", "Q0", "1")
    assert second.images[0].load().getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_version": "Text Only"}, "problem_version is 'Text Only', not one of Text Dominant"),
        ({"metadata": "GeoQA"}, "metadata is 'GeoQA', not a list"),
        ({"metadata": "{}"}, "no 'subject'"),
    ],
)
def test_wrong_rows_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        load_task("mathverse/testmini", data=tsv(tmp_path, **changes))
    assert message in str(raised.value)
