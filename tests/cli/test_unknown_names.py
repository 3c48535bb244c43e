"""Names and options that evalkit does not have: the message says what to use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

SENTENCES = {
    "capitals": ("run --tasks RefCOCO", "unknown task 'RefCOCO': did you mean refcoco?"),
    "benchmark": ("run --tasks questions_of_mine", "'evalkit tasks' lists the benchmarks; your own questions are a task in a .toml or .jsonl file"),
    "unlike": ("run --tasks qqq", "unknown task 'qqq': 'evalkit tasks' lists the benchmarks"),
    "server": ("run --tasks refcoco --backend tgi", "models behind tgi are evaluated with --backend server --base-url"),
    "judge": ("run --tasks refcoco --judge-model gpt", "there is no option --judge-model: use --judge MODEL"),
    "thinking": ("run --tasks refcoco --enable-thinking", "there is no option --enable-thinking: use --thinking on, off or auto"),
    "underscores": ("run --tasks refcoco --max_new_tokens 3", "it is spelled --max-new-tokens"),
    "another harness": ("run --tasks refcoco --num_fewshot=3", "there is no option --num_fewshot: use --shots N"),
    "mistyped": ("run --limt 3", "there is no option --limt: did you mean --limit"),
    "after a value": ("run --stop --end --limt 3", "there is no option --limt"),
    "not of this command": ("score --num-fewshot 3", "there is no option --num-fewshot: --help lists the options"),
    "adapter": ("run --tasks refcoco --model adapter", "give --model BASE --adapter adapter"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_message_says_what_to_use(evalkit: Evalkit, tmp_path: Path, command: str, sentence: str) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    done = evalkit(*command.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())


def test_custom_task_file_is_shown(evalkit: Evalkit, tmp_path: Path) -> None:
    row = {"id": 1, "image": "none.png", "question": "Which?", "options": ["a", "b"], "answer": "B"}
    (tmp_path / "mine, 2.jsonl").write_text(json.dumps(row))
    done = evalkit("tasks", "mine, 2.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in (
        "kind choice",
        "metric choice_accuracy",
        "prompt qwen2.5-vl",
        "mine, 2:own|v1|file:",
        "choice_accuracy|",
    ):
        assert part in done.stdout
    assert "ROOT" not in done.stdout
