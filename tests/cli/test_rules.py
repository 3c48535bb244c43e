"""``--rule``: one set of answers, several scoring rules."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., subprocess.CompletedProcess[str]]

OPTIONS = ("a red ball", "a blue cube")
ANSWERS = {
    "1": ("A", "A"),
    "2": ("B", "(b)"),  # lower case: evalkit's rule only
    "3": ("B", "Well, I am sure that it is a blue cube"),  # the text alone: VLMEvalKit's first rule, ours as well
    "4": ("A", "I cannot tell."),
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A custom task and answers to it."""
    own, answers = tmp_path / "own.jsonl", tmp_path / "answers.jsonl"
    rows = [
        {"id": key, "image": f"{key}.png", "question": "What is it?", "options": OPTIONS, "answer": right}
        for key, (right, _) in ANSWERS.items()
    ]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, (_, text) in ANSWERS.items()))
    return own, answers


def accuracy(folder: Path) -> tuple[float, str]:
    row = json.loads((folder / "scores.json").read_text())["results"][0]
    return row["value"], row["signature"]


def test_score_under_several_rules(evalkit: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    own, answers = files
    rules = "evalkit-2,vlmevalkit@2024,vlmevalkit-2025-08"
    out = tmp_path / "runs"
    done = evalkit("score", "--tasks", str(own), "-p", str(answers), "--rule", rules, "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {path.name: accuracy(path) for path in out.iterdir() if path.is_dir()}
    assert set(found) == {"answers-evalkit-2", "answers-vlmevalkit-2024", "answers-vlmevalkit-2025-08"}
    assert found["answers-evalkit-2"][0] == pytest.approx(75)
    assert found["answers-vlmevalkit-2024"][0] == pytest.approx(50)
    for name, (_, signature) in found.items():
        assert f"letters:{name.removeprefix('answers-')}|choice_accuracy" in signature
        assert name in done.stdout


def test_rescore_under_another_rule_and_side_by_side(evalkit: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    own, answers = files
    out = tmp_path / "runs"
    common = ("--tasks", str(own), "-p", str(answers), "--out", str(out), "--name", "mine")
    assert evalkit("score", *common, cwd=tmp_path).returncode == 0
    before = (out / "mine" / "scores.json").read_bytes()
    done = evalkit("rescore", str(out / "mine"), "--rule", "evalkit-2,vlmevalkit-2024", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "75.00" in done.stdout
    assert "50.00" in done.stdout
    assert (out / "mine" / "scores.json").read_bytes() == before
    assert evalkit("rescore", str(out / "mine"), "--rule", "vlmevalkit-2024", cwd=tmp_path).returncode == 0
    assert accuracy(out / "mine")[0] == pytest.approx(50)
    assert evalkit("rescore", str(out / "mine"), cwd=tmp_path).returncode == 0  # the rule stays
    assert accuracy(out / "mine")[0] == pytest.approx(50)


def test_unknown_rule(evalkit: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    own, answers = files
    for rule in ("nobody", "evalkit-2,nobody"):
        done = evalkit(
            "score",
            "--tasks",
            str(own),
            "-p",
            str(answers),
            "--rule",
            rule,
            "--out",
            str(tmp_path / "runs"),
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert "own: there is no scoring rule 'nobody': there are evalkit-2, vlmevalkit-2024" in done.stderr.replace(
            "\n", " "
        )
        assert not (tmp_path / "runs").exists()


def test_rescore_of_tasks_of_which_one_has_the_rule(evalkit: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    own, answers = files
    texts = tmp_path / "texts.jsonl"
    rows = [{"id": str(n), "image": "a.png", "question": "What?", "answers": ["a cat"]} for n in (1, 2)]
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = tmp_path / "said.jsonl"
    said.write_text("".join(json.dumps({"id": str(n), "text": "a cat"}) + "\n" for n in (1, 2)))
    out = tmp_path / "runs"
    both = ("--tasks", f"{own},{texts}", "-p", str(answers), "-p", str(said), "--out", str(out), "--name", "mine")
    done = evalkit("score", *both, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = str(out / "mine")
    done = evalkit("rescore", run, "--rule", "evalkit-2,vlmevalkit-2024", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "texts/own: there is no scoring rule 'vlmevalkit-2024' for it." in " ".join(done.stdout.split())
    assert "50.00" in done.stdout
    for _ in range(2):  # the rule stays where there is one
        done = evalkit("rescore", run, "--rule", "vlmevalkit-2024", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        sentence = "texts/own: there is no scoring rule 'vlmevalkit-2024' for it; it is scored in the one way there is."
        assert sentence in " ".join(done.stderr.split())
        done = evalkit("rescore", run, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert accuracy(out / "mine")[0] == pytest.approx(50)
    assert evalkit("show", run, cwd=tmp_path).returncode == 0
    done = evalkit("rescore", run, "--rule", "nobody", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no scoring rule 'nobody'" in done.stderr
