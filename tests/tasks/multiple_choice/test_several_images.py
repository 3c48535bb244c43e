"""BLINK and MuirBench: several images per question, from the hub's parquet and from VLMEvalKit's TSV."""

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
from evalkit.metric_contract import score_answers
from evalkit.tasks.multiple_choice.blink import TASKS_OF_BLINK
from evalkit.types import Answered, ImagePart, Prediction, Sample, TextPart

OPTIONS = ["the second image", "the third image"]


def png(number: int) -> bytes:
    """An image that is ``number`` pixels higher than 10."""
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10 + number)).save(buffer, "PNG")
    return buffer.getvalue()


def cell(number: int) -> dict[str, Any]:
    return {"bytes": png(number), "path": None}


def write(file: Path, *rows: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)


def load(data: str, name: str, split: str) -> list[Sample]:
    return list(registry.tasks.get(name).load(open_data(data), split))


def prompt(family: str, protocol: str, sample: Sample, name: str) -> list[Any]:
    (message,) = registry.families.get(family).prompt(registry.tasks.get(name).prompt_spec(protocol), sample)
    parts = [part.text if isinstance(part, TextPart) else part.image.size()[1] - 10 for part in message.content]
    assert all(isinstance(part, TextPart | ImagePart) for part in message.content)
    return parts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "digests"))


# -------------------------------------------------------------------------------------------------------------- BLINK


def blink_row(config: str, **changes: Any) -> dict[str, Any]:
    return {
        "idx": f"val_{config}_1", "question": "Which image?", "choices": OPTIONS, "answer": "(B)",
        "prompt": "Which of the two?\nSelect from the following choices.\n(A) the second image\n(B) the third image",
        "image_1": cell(1), "image_2": cell(2), "image_3": None, "image_4": cell(4), **changes,
    }  # fmt: skip


def blink(root: Path, **changes: Any) -> str:
    for config in TASKS_OF_BLINK:
        row = blink_row(config, **(changes if config == "Counting" else {}))
        write(root / "BLINK-Benchmark/BLINK" / config / "val-00000-of-00001.parquet", row)
    return f"hub:{root}"


def test_blink_from_hub(tmp_path: Path) -> None:
    samples = load(blink(tmp_path), "blink", "val")
    assert [sample.meta["category"] for sample in samples] == list(TASKS_OF_BLINK)
    art, counting = samples[:2]
    assert (art.id, art.references, art.options) == ("val_Art_Style_1", ("B",), tuple(OPTIONS))
    written = "Which of the two?\nSelect from the following choices.\n(A) the second image\n(B) the third image"
    assert prompt("generic", "official", counting, "blink") == [1, 2, 4, written]
    (*_, text) = prompt("generic", "official", art, "blink")
    assert text.startswith("Disclaimer: This is not to make unfair assumptions")
    assert text.endswith(f"information I gave you.\n\n{written}")
    note = "Note: You only need to respond with A, B without providing any additional information.\n"
    assert prompt("generic", "lmms-eval", art, "blink") == [1, 2, 4, note + written]
    choice = (
        "Question: Which image?\nOptions:\nA. the second image\nB. the third image\n"
        "Please select the correct answer from the options above."
    )
    for family in ("qwen2.5-vl", "qwen3-vl"):
        assert prompt(family, "official", art, "blink") == [1, 2, 4, choice]


def test_blink_is_the_mean_over_tasks(tmp_path: Path) -> None:
    data = blink(tmp_path)
    file = tmp_path / "BLINK-Benchmark/BLINK/Jigsaw/val-00000-of-00001.parquet"
    write(file, *(blink_row("Jigsaw", idx=f"val_Jigsaw_{n}") for n in range(1, 4)))
    samples = load(data, "blink", "val")
    assert len(samples) == 16
    answers = [Answered(s, Prediction("B" if s.meta["category"] == "Jigsaw" else "A")) for s in samples]
    scores = score_answers(registry.metrics.get("choice_accuracy_macro"), answers)
    assert scores.headline == "accuracy_macro"
    assert scores.values["accuracy_macro"] == pytest.approx(100 / 14)
    assert scores.values["accuracy"] == pytest.approx(100 * 3 / 16)
    assert scores.values["accuracy[Jigsaw]"] == 100


def test_macro_accuracy_needs_a_category() -> None:
    sample = Sample("7", (), "?", ("A",), "7", ("a", "b"))
    with pytest.raises(UserError, match="choice_accuracy_macro: sample '7' has not one category"):
        registry.metrics.get("choice_accuracy_macro").score([Answered(sample, Prediction("A"))])


def test_blink_from_tsv(tmp_path: Path) -> None:
    images = [base64.b64encode(png(n)).decode() for n in (1, 2)]
    (tmp_path / "BLINK.tsv").write_text(
        f"index\timage\tquestion\tA\tB\tanswer\tcategory\n7\t{images}\tWhich?\tthis\tthat\tB\tIQ Test\n"
    )
    (sample,) = load(str(tmp_path), "blink", "val")
    assert (sample.id, sample.references, sample.meta["category"]) == ("7", ("B",), "IQ_Test")
    assert prompt("generic", "official", sample, "blink") == [
        1, 2, "Which?\nSelect from the following choices.\n(A) this\n(B) that",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": ["one"]}, "has 1 options but calls 'B' the right one"),
        ({"answer": "hidden"}, "has 2 options but calls 'hidden' the right one"),
        ({"answer": None}, "answer is None, not a text"),
        ({"prompt": None}, "prompt is None, not a text"),
        ({"idx": None}, "idx is None, neither an integer nor a short text"),
    ],
)
def test_bad_rows_of_blink_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^blink: .*BLINK/Counting/val\[0\].*{message}"):
        load(blink(tmp_path, **changes), "blink", "val")


def test_missing_task_of_blink_is_reported(tmp_path: Path) -> None:
    data = blink(tmp_path)
    (tmp_path / "BLINK-Benchmark/BLINK/Jigsaw/val-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match="^blink: .*Jigsaw"):
        load(data, "blink", "val")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # official, extractions only, lmms-eval's
        ("(B)", "BBB"),
        ("B", "B-B"),
        ("The answer is (B)", "B--"),
        ("(A) or (B)?\n\nIt is (B) I think", "B-A"),
        ("(A) or (B)", "--A"),
        ("b", "--B"),
        ("(Z)", "---"),
    ],
)
def test_rules_of_blink(text: str, expected: str) -> None:
    task = registry.tasks.get("blink")
    rules = ("official", "official-submission", "lmms-eval-75571cf")
    assert "".join(task.prompt_spec(rule=rule).letter(text, OPTIONS).letter or "-" for rule in rules) == expected


# ---------------------------------------------------------------------------------------------------------- MuirBench


def muir_row(**changes: Any) -> dict[str, Any]:
    return {
        "idx": "7", "task": "Geographic Understanding", "image_relation": "Partial Similarity", "image_type": "Map",
        "question": "Is <image> like <image>?", "options": ["<image>", "None of the choices"], "answer": "A",
        "image_list": [cell(1), cell(2), cell(3)], "counterpart_idx": "8", **changes,
    }  # fmt: skip


def muirbench(root: Path, *rows: dict[str, Any]) -> str:
    write(root / "MUIRBENCH/MUIRBENCH/data/test-00000-of-00001.parquet", *rows)
    return f"hub:{root}"


def test_muirbench_from_hub(tmp_path: Path) -> None:
    rows = (
        muir_row(),
        muir_row(idx="8", question="Which?", options=["one", "two"], image_list=[cell(4), cell(5)]),
        muir_row(idx="9", question="See <image>.", options=["one", "two"], image_list=[cell(6), cell(7)]),
    )
    marked, plain, beyond = load(muirbench(tmp_path, *rows), "muirbench", "test")
    tail = "Answer with the option's letter from the given choices directly."
    assert (marked.id, marked.references, marked.meta["category"]) == ("7", ("A",), "Geographic Understanding")
    assert prompt("generic", "official", marked, "muirbench") == [
        "Question: Is ", 1, " like ", 2, "?\nChoices:\n(A) ", 3,
        "\n(B) None of the choices\nHint: Please provide the correct option letter, such as A, B, C, D, directly.\nAnswer:",
    ]  # fmt: skip
    for family, protocol in (("generic", "lmms-eval"), ("generic", "vlmevalkit"), ("qwen3-vl", "official")):
        assert prompt(family, protocol, marked, "muirbench") == [
            "Is ", 1, " like ", 2, "?\nA. ", 3, f"\nB. None of the choices\n{tail}",
        ]  # fmt: skip
    assert prompt("qwen3-vl", "official", plain, "muirbench") == [4, 5, f"Which?\nA. one\nB. two\n{tail}"]
    assert prompt("qwen3-vl", "official", beyond, "muirbench")[:3] == [7, "See ", 6]


def test_muirbench_from_tsv(tmp_path: Path) -> None:
    images = [base64.b64encode(png(n)).decode() for n in (1, 2)]
    (tmp_path / "MUIRBench.tsv").write_text(
        f"index\timage\tquestion\tA\tB\tanswer\ttask\n3\t{images}\tSee <image>.\t<image>\tthat\tB\tCounting\n"
    )
    (sample,) = load(str(tmp_path), "muirbench", "test")
    assert (sample.id, sample.references, sample.meta["category"]) == ("3", ("B",), "Counting")
    assert prompt("generic", "lmms-eval", sample, "muirbench")[:4] == ["See ", 1, ".\nA. ", 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "<image> <image> <image>"}, "the texts have 4 marks <image>, and there are 3 images"),
        ({"image_list": None}, "the texts have 3 marks <image>, and there are 0 images"),
        ({"answer": "C"}, "has 2 options but calls 'C' the right one"),
        ({"task": None}, "task is None, not a text"),
    ],
)
def test_bad_rows_of_muirbench_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^muirbench: .*MUIRBENCH/test\[1\].*{message}"):
        load(muirbench(tmp_path, muir_row(), muir_row(idx="8", **changes)), "muirbench", "test")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("B", "BB"), ("B. two", "-B"), ("(B)", "B-"), ("The answer is B", "B-"), ("none", "--")],
)
def test_rules_of_muirbench(text: str, expected: str) -> None:
    task = registry.tasks.get("muirbench")
    rules = ("official", "lmms-eval-75571cf")
    assert "".join(task.prompt_spec(rule=rule).letter(text, OPTIONS).letter or "-" for rule in rules) == expected
