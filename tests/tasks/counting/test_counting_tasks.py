"""CountBenchQA and PixMo-Count: data, rules, and what is refused."""

from __future__ import annotations

import base64
import io
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
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.counting import METRICS, stated_number
from evalkit.types import Answered, Prediction, Sample, TextPart


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    return buffer.getvalue()


def samples(name: str, data: str) -> list[Sample]:
    return list(load_job(registry.tasks.get(name), "test", open_data(data), limit=None, seed=0).samples)


def hub(root: Path, repo: str, row: dict[str, Any]) -> str:
    folder = root / repo / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{"image": {"bytes": png(), "path": None}, **row}]), folder / "test.parquet")
    return f"hub:{root}"


def prompt(name: str, sample: Sample, protocol: str, family: str) -> str:
    spec = registry.tasks.get(name).prompt_spec(protocol)
    (message,) = registry.families.get(family).prompt(spec, sample)
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def test_countbenchqa(tmp_path: Path) -> None:
    (first,) = samples(
        "countbenchqa", hub(tmp_path, "vikhyatk/CountBenchQA", {"question": "How many cats?", "number": 4})
    )
    assert (first.text, first.references, dict(first.meta)) == ("How many cats?", ("4",), {"number": "4"})
    picture = base64.b64encode(png()).decode()
    (tmp_path / "CountBenchQA.tsv").write_text(f"index\timage\tquestion\tanswer\n7\t{picture}\tHow many cats?\t4.0\n")
    with pytest.raises(UserError, match="the answer is '4.0', not an integer"):
        samples("countbenchqa", str(tmp_path))
    (tmp_path / "CountBenchQA.tsv").write_text(f"index\timage\tquestion\tanswer\n7\t{picture}\tHow many cats?\t4\n")
    (own,) = samples("countbenchqa", str(tmp_path))
    assert (own.id, own.text, own.references) == ("7", "How many cats?", ("4",))
    asked = "How many cats? Note that: answer with a number directly e.g. 3. Do not include any additional text."
    assert prompt("countbenchqa", own, "vlmevalkit", "qwen2-vl") == asked
    assert prompt("countbenchqa", own, "lmms-eval", "generic") == "How many cats?\nAnswer with a single number."


def test_pixmo_count(tmp_path: Path) -> None:
    row = {"question": "<image>\nHow many cats?", "answer": " 4 "}
    (first,) = samples("pixmo_count", hub(tmp_path, "kcz358/pixmo-count", row))
    assert (first.text, first.references) == ("How many cats?", ("4",))


@pytest.mark.parametrize("number", [-1, None, "many", 2.5])
def test_numbers_that_are_none(tmp_path: Path, number: Any) -> None:
    data = hub(tmp_path, "vikhyatk/CountBenchQA", {"question": "How many?", "number": number})
    with pytest.raises(
        UserError, match=r"countbenchqa: vikhyatk/CountBenchQA/test\[0\].*the number is .*, not an integer"
    ):
        samples("countbenchqa", data)


@pytest.mark.parametrize(
    ("answer", "own", "contained", "exact", "first"),
    [
        ("4", True, True, True, True),
        (" 4 ", True, True, True, True),
        ("4.", True, True, False, True),
        ("There are 4 cats.", True, True, False, True),
        ("Four", True, False, False, False),
        ("14", False, True, False, False),
        ("3 + 1, so the answer is 4", True, True, False, False),
        ("4 or 5", False, True, False, True),
        ("5 cats and 4 dogs", False, True, False, False),
        ("4.0", True, True, False, True),
        ("4.5", False, True, False, True),
        ("someone", False, False, False, False),
        (None, False, False, False, False),
    ],
)
def test_rules(answer: str | None, own: bool, contained: bool, exact: bool, first: bool) -> None:
    answered = Answered(Sample("1", (), "?", ("4",), "1", meta={"number": "4"}), Prediction(answer))
    found = [
        score_answers(METRICS[f"counting_{name}"], [answered]).values["accuracy"]
        for name in ("accuracy", "containment", "exact", "first")
    ]
    assert found == [100.0 * right for right in (own, contained, exact, first)]


def test_stated_numbers() -> None:
    assert [stated_number(text) for text in ("1,200", r"\boxed{12}", "seven", "", "1" * 50)] == [
        1200,
        12,
        7,
        None,
        None,
    ]


def test_reference_that_is_no_number() -> None:
    with pytest.raises(UserError, match="has the reference 'four', which is not a whole number"):
        check_metric(METRICS["counting_accuracy"], [Sample("1", (), "?", ("four",), "1")], "vqa", "x/y")
