"""``evalkit tasks``: the list by theme, and its search."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.task_groups import GROUPS

Call = Callable[..., subprocess.CompletedProcess[str]]


def listed(text: str) -> set[str]:
    """The tasks in a list."""
    return {line.split()[0] for line in text.splitlines() if line.startswith("    ")}


def test_every_task_is_listed_with_default_splits(evalkit: Call, tmp_path: Path) -> None:
    done = evalkit("tasks", cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0
    assert listed(done.stdout) >= set(registry.tasks.names())
    assert "Image captioning benchmarks\n" in done.stdout
    assert "coco_caption" in done.stdout
    assert "test 5,000 + val, val2014, train" in done.stdout
    assert all(f"  {group} = " in done.stdout for group in GROUPS)


@pytest.mark.parametrize(
    ("words", "found", "others"),
    [
        ("captioning", {"coco_caption", "flickr30k", "nocaps"}, {"vqav2"}),
        ("refer", {"refcoco", "refcoco+", "refcocog"}, {"vqav2"}),
        ("choice science", {"ai2d", "scienceqa_img"}, {"vqav2", "refcoco"}),
        ("qwen-vl-report", {"vqav2", "refcocog", "nocaps"}, {"coco_caption", "infovqa"}),
    ],
)
def test_search(words: str, found: set[str], others: set[str], evalkit: Call, tmp_path: Path) -> None:
    done = evalkit("tasks", *words.split(), cwd=tmp_path)
    assert done.returncode == 0
    assert found <= listed(done.stdout)
    assert not others & listed(done.stdout)


def test_search_without_result_names_the_nearest(evalkit: Call, tmp_path: Path) -> None:
    done = evalkit("tasks", "refcoc", "zebra", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown task 'refcoc zebra'" in done.stderr
