"""CRPE: four consecutive rows are one question; VLMEvalKit's rule; images beside the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.types import Answered, Prediction

from .tables import IMAGES, load, png, prompt, write

TURNS = ["red", "blue", "green", "grey"]


def crpe(count: int = 8) -> list[dict[str, str]]:
    rows = []
    for number in range(count):
        texts = TURNS[number % 4 :] + TURNS[: number % 4]
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", texts, strict=True))
        text = f"Which one?\n{listed}\nAnswer with the option's letter from the given choices directly."
        right = "ABCD"[texts.index("red")]
        rows.append(
            {
                "index": str(number),
                "question": text,
                "answer": right,
                "category": "subject",
                "image": IMAGES[number // 4],
            }
        )
    return rows


def test_four_rows_of_crpe_are_one_question(tmp_path: Path) -> None:
    write(tmp_path, "CRPE_RELATION", crpe())
    samples = load(tmp_path, "crpe_relation").samples
    assert [(s.cluster, s.meta["rotation"]) for s in samples] == [(g, turn) for g in "04" for turn in range(4)]
    assert [s.references[0] for s in samples] == list("ADCBADCB")
    assert samples[1].options == ("blue", "green", "grey", "red")
    assert samples[1].text == "Which one?"
    assert prompt("crpe_relation", samples[0], "vlmevalkit", "generic") == "<image>" + crpe()[0]["question"]
    answers = [Answered(s, Prediction(s.references[0] if s.id != "7" else "A")) for s in samples]
    values = score_answers(registry.metrics.get("circular_accuracy"), answers).values
    assert (values["circular"], values["circular[subject]"], values["accuracy"]) == (50, 50, 87.5)


def test_rule_of_vlmevalkit_for_crpe_by_the_command_line(evalkit: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write(tmp_path / "root", "CRPE_RELATION", [{k: v for k, v in row.items() if k != "image"} for row in crpe()])
    texts = ["A", "D. red", "C", "B", "A", "D", "C", "I think that it is A"]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit(
        "score", "-t", "crpe_relation", "-p", "answers.jsonl", "--data", "root", "--name", "x", "--rule",
        "evalkit-2,vlmevalkit-crpe", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {
        rule: json.loads((tmp_path / "runs" / f"x-{rule}" / "scores.json").read_text())["results"][0]["value"]
        for rule in ("evalkit-2", "vlmevalkit-crpe")
    }
    assert found == {"evalkit-2": 50, "vlmevalkit-crpe": 100}  # the quirk: a reference that is a letter alone


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (crpe(7), "has 7 rows; four consecutive rows are one question"),
        (
            [*crpe(3), {**crpe(4)[3], "answer": "red"}],
            "line 20.*the answer is 'red', which does not begin with a letter",
        ),
        ([*crpe(3), {**crpe(4)[3], "question": "Which one?"}], "line 20.*there are no options"),
    ],
)
def test_bad_files_of_crpe(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    write(tmp_path, "CRPE_RELATION", rows)
    with pytest.raises(UserError, match=f"^crpe_relation: (?s:.*){message}"):
        load(tmp_path, "crpe_relation")


def test_images_beside_the_table(tmp_path: Path) -> None:
    rows = [{**row, "image": "", "image_path": "a/1.png"} for row in crpe(4)]
    write(tmp_path, "CRPE_RELATION", rows)
    with pytest.raises(UserError, match="crpe_relation: no images under .*images/CRPE_RELATION"):
        load(tmp_path, "crpe_relation")
    (tmp_path / "images" / "CRPE_RELATION" / "a").mkdir(parents=True)
    (tmp_path / "images" / "CRPE_RELATION" / "a" / "1.png").write_bytes(png(90))
    sample = load(tmp_path, "crpe_relation").samples[0]
    assert sample.images[0].load().getpixel((0, 0)) == (90, 90, 90)
    write(tmp_path, "CRPE_RELATION", [{**row, "image_path": "../x.png"} for row in rows])
    with pytest.raises(UserError, match="crpe_relation: .*outside"):
        load(tmp_path, "crpe_relation")
