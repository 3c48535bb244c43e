from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.multiple_choice.visulogic import TASK
from evalkit.types import Sample

ENTRY = {
    "id": "00007", "question": " Which is next?\nA: A\nB: B\nC: C\nD: D ", "image_path": "images/00007.png",
    "label": "C", "tag": "Quantitative Reasoning",
}  # fmt: skip


def load(root: Path) -> list[Sample]:
    return list(TASK.load(open_data(str(root)), "test"))


def write(root: Path, *lines: str) -> None:
    (root / "visulogic").mkdir()
    (root / "visulogic" / "data.jsonl").write_text("\n".join(lines) + "\n")


def test_official_files(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(ENTRY), "", json.dumps({**ENTRY, "id": None, "tag": None}))
    first, second = load(tmp_path)
    assert (first.id, first.references, first.options) == ("00007", ("C",), ("A", "B", "C", "D"))
    assert first.text == "Which is next?\nA: A\nB: B\nC: C\nD: D"
    assert first.meta["category"] == "Quantitative"
    assert first.images[0].name == str(tmp_path / "visulogic" / "images" / "00007.png")
    assert (second.id, second.meta["category"]) == ("images/00007.png", None)
    assert TASK.splits["test"].size == 1_000


def test_tsv(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    image = base64.b64encode(buffer.getvalue()).decode()
    (tmp_path / "VisuLogic.tsv").write_text(
        f"index\timage\tquestion\tanswer\tcategory\n7\t{image}\tWhich?\tB\tSpatial Reasoning\n"
    )
    (sample,) = load(tmp_path)
    assert (sample.id, sample.references, sample.meta["category"]) == ("7", ("B",), "Spatial")
    assert sample.images[0].size() == (20, 10)


def test_prompts(tmp_path: Path) -> None:
    write(tmp_path, json.dumps({**ENTRY, "question": "Which?"}))
    (sample,) = load(tmp_path)
    solve = "Which?\nSolve the complex visual logical reasoning problem through step-by-step reasoning."
    format_ = "Answer: \\boxed{$LETTER}"
    expected = {
        ("generic", "official"): f"{solve} Think about the reasoning process first and answer the question following this format: {format_}.",
        ("qwen2.5-vl", "vlmevalkit"): f"{solve}Think about the reasoning process first and answer the question following this format: {format_}",
        ("generic", "lmms-eval"): "Which?\nAnswer with the option letter only.",
        ("qwen3-vl", "official"): f"{solve}\nThink about the reasoning process first and answer the question following this format:\nAnswer://boxed{{$LETTER}}",
    }  # fmt: skip
    for (family, protocol), text in expected.items():
        (message,) = registry.families.get(family).prompt(TASK.prompt_spec(protocol), sample)
        assert message.content[-1].text == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not the official format"),
        ("[]", "line 2: not the official format .the line is no JSON object"),
        (json.dumps({**ENTRY, "label": "E"}), "line 2 has 4 options but calls 'E' the right one"),
        (json.dumps({**ENTRY, "tag": 7}), "the kind of puzzle .tag. is not a text"),
        (json.dumps({**ENTRY, "image_path": "../../secret.png"}), "which is outside"),
        (json.dumps({key: value for key, value in ENTRY.items() if key != "question"}), "no 'question' in"),
    ],
)
def test_wrong_files_are_reported(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, json.dumps({**ENTRY, "id": "1"}), line)
    with pytest.raises(UserError, match=f"^visulogic: .*{message}"):
        load(tmp_path)


def test_missing_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^visulogic: no VisuLogic.tsv under"):
        load(tmp_path)


# Checked against VLMEvalKit's and lmms-eval's own code.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "BB"),
        ("So it is \\boxed{B}.", "BB"),
        ("\\boxed{A} no, \\boxed{\\text{B}}", "BA"),
        ("\\boxed{$\\mathbf{B}$}", "B-"),
        ("Answer: \\boxed{$LETTER}", "--"),
        ("The answer is B", "BB"),
        ("the correct answer is: B. It", "B-"),
        ("The next one is (B).", "BB"),
        ("The next one is B.", "B-"),
        ("B\nbecause", "B-"),
        ("<answer>B</answer>", "-B"),
        ("option B or option C", "-C"),
        ("b.", "-B"),
        ("I cannot tell", "--"),
    ],
)
def test_rules(text: str, expected: str) -> None:
    rules = ("official", "lmms-eval-75571cf")
    found = [TASK.prompt_spec(rule=rule).letter(text, ("A", "B", "C", "D")).letter or "-" for rule in rules]
    assert "".join(found) == expected


def test_rules_of_protocols() -> None:
    names: dict[str, Any] = {protocol: TASK.rule_of(protocol) for protocol in ("official", "lmms-eval", "vlmevalkit")}
    assert names == {"official": "official", "lmms-eval": "lmms-eval-75571cf", "vlmevalkit": "official"}
