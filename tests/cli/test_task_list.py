"""``evalkit tasks``: the list by theme, and its search."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.task_groups import GROUPS
from evalkit.task_listing import listed as description
from evalkit.task_listing import listing

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


def test_folder_of_tasks_is_shown_and_not_searched_for(evalkit: Call, tmp_path: Path) -> None:
    folder = tmp_path / "captioning"
    folder.mkdir()
    for name in ("first", "second"):
        text = (
            f'name = "{name}"\nkind = "vqa"\n[rows]\nfile = "rows.jsonl"\n[columns]\nquestion = "q"\nreferences = "a"\n'
        )
        (folder / f"{name}.toml").write_text(text)
    (folder / "rows.jsonl").write_text('{"q": "What is it?", "a": "a dog"}\n')
    done = evalkit("tasks", "captioning", cwd=tmp_path)
    assert "coco_caption" not in done.stdout
    assert "first" in done.stdout + done.stderr


def test_search_without_result_names_the_nearest(evalkit: Call, tmp_path: Path) -> None:
    done = evalkit("tasks", "refcoc", "zebra", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown task 'refcoc zebra'" in done.stderr


def test_list_is_that_of_the_task_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = [description(task) for task in registry.tasks.all()]
    assert listing() == expected
    assert listing() == expected  # from the cache
    (file,) = (tmp_path / "evalkit" / "tasks").iterdir()
    for wrong in ("", "[]", file.read_text().replace("vqav2", "vqav3")):
        file.write_text(wrong)
        assert listing() == expected


@pytest.mark.parametrize("words", [(), ("choice", "science")])
def test_second_list_imports_no_task(words: tuple[str, ...], tmp_path: Path) -> None:
    """Nor the parser of options: both take longer than everything else."""
    code = (
        "import sys\nfrom evalkit.cli import main\n"
        f"sys.argv = ['evalkit', 'tasks', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "print(len([name for name in sys.modules if name.startswith('evalkit.tasks.')]), 'typer' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, second = (
        subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path, env=environment)
        for _ in range(2)
    )
    *shown, modules = first.splitlines()
    assert int(modules.split()[0]) > 50
    assert second.splitlines() == [*shown, "0 False"]


def test_list_follows_a_plugin(tmp_path: Path) -> None:
    """A plugin's line is new once its file has changed."""
    site = tmp_path / "site"
    metadata = site / "mine-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[evalkit.tasks]\nmine = mine:TASK\n")
    for size in (123_456, 123_457):
        (site / "mine.py").write_text(
            "from evalkit.tasks.vqa.vqav2 import TASK as vqav2\nfrom evalkit.types import Split\n"
            "class Mine(type(vqav2)):\n    name = 'mine'\n"
            f"    splits = {{'test': Split({size}, 'all')}}\n    default_splits = ('test',)\nTASK = Mine()\n"
        )
        for _ in range(2):
            shown = subprocess.check_output(
                [sys.executable, "-c", "from evalkit.cli import main; main()", "tasks"],
                text=True,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
            )
            assert f"test {size:,}" in shown
