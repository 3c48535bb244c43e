"""Published answers of real models, scored by the command line: the published numbers to the last digit.

The answers are not a part of the repository; where they are not there, these tests are skipped.
"""

from __future__ import annotations

import ast
import csv
import json
import random
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[3]
FOUND = [folder / "shared" / "predictions" for folder in (ROOT, ROOT.parent)]
SHARED = next((folder for folder in FOUND if folder.is_dir()), FOUND[0])
LETTERS = "ABCDEFGHIJ"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / name).exists(), reason="the published answers are not here")


def write_tsv(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """One of VLMEvalKit's files, without images."""
    listed = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in listed for key in row)), delimiter="\t")
        writer.writeheader()
        writer.writerows(listed)


def options_of(texts: Sequence[str]) -> dict[str, str]:
    return dict(zip(LETTERS, texts, strict=False))


def write_answers(path: Path, answers: Mapping[str, str]) -> None:
    path.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in answers.items()))


Scored = dict[str, dict[str, Any]]


@pytest.fixture
def score(evalkit: Call, tmp_path: Path) -> Callable[..., Scored]:
    """Scores answers by several rules; returns the result of each, with the scores of every sample in ``samples``."""

    def call(task: str, answers: Mapping[str, str], *rules: str) -> Scored:
        write_answers(tmp_path / "answers.jsonl", answers)
        out = tmp_path / "runs"
        done = evalkit(
            "score", "-t", task, "-p", "answers.jsonl", "--data", "root", "--rule", ",".join(rules), "--out", "runs",
            "--name", "model", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: Scored = {}
        for rule in rules:
            folder = out / (f"model-{rule}" if len(rules) > 1 else "model")
            (result,) = json.loads((folder / "scores.json").read_text())["results"]
            (lines,) = folder.glob("**/*scores*.jsonl")
            samples = {line["id"]: line for line in map(json.loads, lines.read_text().splitlines())}
            found[rule] = {**result, "samples": samples}
        return found

    return call


# --------------------------------------------------------------------------------------------------------------- MMMU


@pytest.fixture(scope="module")
def qwen_vl() -> list[dict[str, Any]]:
    """Qwen-VL's answers to MMMU val, in the order of the official scorer."""
    folders = sorted(path for path in (SHARED / "mmmu" / "qwen_vl").iterdir() if path.is_dir())
    return [row for folder in folders for row in json.loads((folder / "output.json").read_text())]


DRAWN_RIGHT = (
    "Accounting_8", "Accounting_11", "Architecture_and_Engineering_25", "Architecture_and_Engineering_28",
    "Basic_Medical_Science_28", "Diagnostics_and_Laboratory_Medicine_26", "Energy_and_Power_18", "Geography_18",
    "Marketing_28", "Math_25", "Mechanical_Engineering_5", "Mechanical_Engineering_29", "Pharmacy_4", "Pharmacy_13",
    "Sociology_22", "Sociology_30",
)  # fmt: skip


def drawn_right(rows: Sequence[dict[str, Any]], scored: Mapping[str, Any]) -> list[str]:
    """The unparsed answers that would be right if an option were drawn, as by the official scorer (seed 42)."""
    draw = random.Random(42)
    right = []
    for row in rows:
        unparsed = row["question_type"] == "multiple-choice" and not scored["samples"][row["id"]]["parse_rate"]
        if unparsed and draw.choice(row["all_choices"]) == row["answer"]:
            right.append(row["id"])
    return right


@needs("mmmu")
def test_mmmu_of_qwen_vl(score: Callable[..., Scored], qwen_vl: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = [
        {"index": str(n), "id": row["id"], "question": "What?", **options_of(list(row.get("index2ans", {}).values())),
         "answer": row["answer"] if isinstance(row["answer"], str) else str(row["answer"])}
        for n, row in enumerate(qwen_vl)
    ]  # fmt: skip
    write_tsv(tmp_path / "root" / "mmmu" / "MMMU_DEV_VAL.tsv", rows)
    answers = {row["id"]: row["response"] for row in qwen_vl}
    scored = score("mmmu", answers, "official", "lmms-eval-2025-06", "lmms-eval-2024")
    official, lmms_eval, before = scored.values()
    assert official["n"] == len(qwen_vl) == 900

    # What the official scorer prints, 36.11, has 16 of the 48 options that it draws right.
    assert official["unparsed"] == 48
    assert official["value"] == pytest.approx(100 * 309 / 900)
    lucky = drawn_right(qwen_vl, official)
    assert lucky == [f"validation_{name}" for name in DRAWN_RIGHT]
    assert round(official["value"] + 100 * len(lucky) / 900, 2) == 36.11

    # lmms-eval: 35.11 with 12 of 44.
    assert lmms_eval["unparsed"] == before["unparsed"] == 44
    assert round(lmms_eval["value"] + 100 * len(drawn_right(qwen_vl, lmms_eval)) / 900, 2) == 35.11
    assert lmms_eval["values"]["accuracy[open]"] == 0
    assert before["values"]["accuracy[open]"] > 0


# ----------------------------------------------------------------------------------------------------------- MMMU-Pro


@needs("mmmu_pro")
def test_mmmu_pro_of_gpt_4o(score: Callable[..., Scored], tmp_path: Path) -> None:
    lines = (SHARED / "mmmu_pro" / "gpt-4o_standard10_cot.jsonl").read_text().splitlines()
    answered = [json.loads(line) for line in lines]
    rows = [
        {"index": str(n), "id": row["id"], "question": row["question"], "answer": row["answer"], "category": row["subject"],
         **options_of([str(option) for option in ast.literal_eval(row["options"])])}
        for n, row in enumerate(answered)
    ]  # fmt: skip
    write_tsv(tmp_path / "root" / "mmmu_pro" / "MMMU_Pro_10c.tsv", rows)
    scored = score("mmmu_pro", {row["id"]: row["response"] for row in answered}, "official")["official"]
    assert scored["n"] == len(answered) == 1730
    assert f"{scored['value']:.2f}" == "55.03"
    assert scored["unparsed"] == 0
    assert {key: line["accuracy"] == 100 for key, line in scored["samples"].items()} == {
        row["id"]: row["if_right"] for row in answered
    }


# -------------------------------------------------------------------------------------------------------------- BLINK


BLINK = {
    # the mean over the 14 tasks and the share of all questions, of the published extractions
    "GPT4V": ("51.09", "50.39"),
    "GPT4o": ("60.04", "59.92"),
    "MiniGPT-4-v2": ("34.23", "33.93"),
    "OPUS": ("44.05", "43.40"),
    "QwenVLMax": ("40.28", "39.51"),
    "Yi_VL_34B": ("41.68", "41.24"),
    "cogvlm-chat": ("41.54", "41.24"),
    "instructblip_7b": ("39.72", "39.45"),
    "llava-v1.6-34b": ("46.80", "46.19"),
    "llava_v1.5_13b": ("42.66", "42.35"),
}


@needs("blink")
@pytest.mark.parametrize("model", BLINK)
def test_blink(score: Callable[..., Scored], tmp_path: Path, model: str) -> None:
    right = json.loads((SHARED / "blink" / "val_answers.json").read_text())
    given = json.loads((SHARED / "blink" / f"{model}.json").read_text())
    rows = [
        {"index": key, "question": "Which?", "answer": answer.strip("()"), "category": key[4:].rpartition("_")[0],
         **options_of("abcde")}
        for key, answer in right.items()
    ]  # fmt: skip
    write_tsv(tmp_path / "root" / "blink" / "BLINK.tsv", rows)
    scored = score("blink", given, "official-submission", "official")
    submission, official = scored.values()
    assert submission["n"] == len(right) == 1901
    assert len([name for name in submission["values"] if name.startswith("accuracy[")]) == 14
    assert f"{submission['value']:.2f}" == BLINK[model][0]
    assert f"{submission['values']['accuracy']:.2f}" == BLINK[model][1]
    assert {key: line["accuracy"] == 100 for key, line in submission["samples"].items()} == {
        key: given[key] == answer for key, answer in right.items()
    }
    # The official parser also reads the extractions that name the option, such as "(C) Point C".
    read = {key for key, line in official["samples"].items() if line != submission["samples"][key]}
    assert read == {key for key, text in given.items() if len(text) > 3 and text[:3] in ("(A)", "(B)", "(C)", "(D)")}
