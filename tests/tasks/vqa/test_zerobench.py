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
from evalkit.tasks.vqa.zerobench import TASK
from evalkit.types import Answered, Prediction, Sample


def png(height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (10, height)).save(buffer, "PNG")
    return buffer.getvalue()


ROW = {
    "question_id": "7", "question_text": " How many?\n", "question_answer": "11",
    "question_images_decoded": [{"bytes": png(20), "path": None}, {"bytes": png(30), "path": None}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "digests"))


def hub(root: Path, *rows: dict[str, Any], split: str = "zerobench") -> str:
    file = root / f"jonathan-roberts1/zerobench/data/{split}-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return f"hub:{root}"


def load(data: str, split: str = "main") -> list[Sample]:
    return list(TASK.load(open_data(data), split))


def test_hub(tmp_path: Path) -> None:
    (sample,) = load(hub(tmp_path, ROW))
    assert (sample.id, sample.text, sample.references) == ("7", "How many?", ("11",))
    assert [image.size() for image in sample.images] == [(10, 20), (10, 30)]
    (part,) = load(hub(tmp_path, {**ROW, "question_id": "7_2"}, split="zerobench_subquestions"), "subquestions")
    assert (part.id, part.cluster) == ("7_2", "7")  # the parts of a question are one cluster
    assert {name: split.size for name, split in TASK.splits.items()} == {"main": 100, "subquestions": 334}


def test_tsv(tmp_path: Path) -> None:
    image = base64.b64encode(png(20)).decode()
    (tmp_path / "zerobench.tsv").write_text(f"index\timage\tquestion\tanswers\n3\t{image}\tHow many?\t5\n")
    (sample,) = load(str(tmp_path))
    assert (sample.id, sample.references, sample.images[0].size()) == ("3", ("5",), (10, 20))


def test_prompts(tmp_path: Path) -> None:
    (sample,) = load(hub(tmp_path, ROW))
    think = "Let's think step by step and give the final answer in curly braces,"
    expected = {
        ("generic", "official"): f"How many? \n\n\n{think}  like this: {{final answer}}",
        ("qwen2-vl", "vlmevalkit"): f"How many? \n\n\n{think}  like this: {{final answer}}",
        ("generic", "lmms-eval"): "How many?\nAnswer with only the final answer.",
        ("qwen3-vl", "official"): f"How many?\n{think} like this: {{final answer}}",
    }
    for (family, protocol), text in expected.items():
        (message,) = registry.families.get(family).prompt(TASK.prompt_spec(protocol), sample)
        assert message.content[-1].text == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question_text": None}, "question_text is None, not a text"),
        ({"question_answer": " "}, "the answer is empty"),
        ({"question_id": None}, "question_id is None, neither an integer nor a short text"),
    ],
)
def test_bad_rows_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^zerobench: .*zerobench/zerobench\[1\].*{message}"):
        load(hub(tmp_path, ROW, {**ROW, **changes}))


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        # official, lmms-eval's
        ("So it is {11}.", "11", (True, False)),
        ("{5} no, {11}", "11", (True, False)),
        ("{11} no, {5}", "11", (False, False)),
        ("{11}", "1", (True, False)),  # contained
        ("\\boxed{11}", "11", (True, False)),
        ("{Red,\nblue}", "red", (False, False)),  # braces on one line only
        ("{RED}", "Red", (True, False)),
        ("{a {red} b}", "a {red", (True, False)),  # from the first brace to the first that closes
        ("{" * 100_000, "red", (False, False)),
        ("11", "11", (False, True)),
        ("1,100.0", "1100", (False, True)),
        (' "Red." ', "red", (False, True)),
        ("'Red'.", "red", (False, False)),  # the quotes are stripped before the point
        ("red.", "Red", (False, True)),
    ],
)
def test_rules(text: str, reference: str, expected: tuple[bool, bool]) -> None:
    sample = Sample("7", (), "?", (reference,), "7")
    found = []
    for name in ("zerobench_accuracy", "zerobench_accuracy_lmms_eval"):
        scores = registry.metrics.get(name).score([Answered(sample, Prediction(text))])
        found.append(scores.values["accuracy"] == 100)
    assert tuple(found) == expected


def test_answers_without_braces_are_unparsed(tmp_path: Path) -> None:
    (sample,) = load(hub(tmp_path, ROW))
    scores = registry.metrics.get("zerobench_accuracy").score([Answered(sample, Prediction("It is 11."))])
    assert scores.values == {"accuracy": 0, "parse_rate": 0}
    assert (
        registry.metrics.get("zerobench_accuracy").score([Answered(sample, Prediction(None))]).values["accuracy"] == 0
    )


def test_braces_are_kept_for_the_scorer(tmp_path: Path) -> None:
    """The family unwraps ``\\boxed{…}`` for other tasks."""
    spec = TASK.prompt_spec()
    assert registry.families.get("qwen3-vl").parse(spec, "It is \\boxed{11}", []).value == "It is \\boxed{11}"
