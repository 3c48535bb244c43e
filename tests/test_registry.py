"""Plugins of other packages: really installed, found by name, and named when they break or clash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.errors import UserError

from .processes import Forked

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "outside"
version = "1"
[tool.setuptools]
py-modules = ["outside"]
[project.entry-points."evalkit.tasks"]
{name} = "outside:{attribute}"
"""

# Ten lines make a benchmark: VQAv2's rows under another name and metric-compatible protocol.
PLUGIN = """\
from evalkit.tasks.vqa.vqav2 import VQAv2


class Mine(VQAv2):
    name = "mine"
    version = 3


TASK = Mine()
"""


def _install(folder: Path, name: str = "mine", attribute: str = "TASK") -> Path:
    source, target = folder / "source", folder / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT.format(name=name, attribute=attribute))
    (source / "outside.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


def _evalkit(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from evalkit.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=site, capture_output=True, text=True, check=False
    )


def test_installed_package_adds_task_and_it_runs(tmp_path: Path) -> None:
    site = _install(tmp_path)
    listed = _evalkit(site, "tasks")
    assert "mine" in listed.stdout
    assert "vqav2" in listed.stdout
    command = ("run", "--tasks", "mine", "--limit", "3", "--out", "runs", "--name", "a")
    code, said = Forked(*command, cwd=tmp_path, before=f"sys.path.insert(0, {str(site)!r})").finish()
    assert code == 0, said
    assert (
        "mine:val|v3|protocol:official|shots:0|parsing:3|vqa_accuracy"
        in (tmp_path / "runs" / "a" / "leaderboard.md").read_text()
    )


def test_duplicate_name_is_refused(tmp_path: Path) -> None:
    done = _evalkit(_install(tmp_path, name="vqav2"), "tasks")
    assert done.returncode == 2
    assert "two tasks are called 'vqav2'" in done.stderr
    assert "Traceback" not in done.stderr


def test_broken_plugin_is_named(tmp_path: Path) -> None:
    done = _evalkit(_install(tmp_path, attribute="NOTHING"), "tasks")
    assert done.returncode == 2
    assert "the task 'mine' could not be loaded from outside:NOTHING" in done.stderr


@pytest.mark.parametrize("group", [registry.tasks, registry.metrics, registry.families, registry.backends])
def test_every_plugin_is_found_by_its_own_name(group: registry.Group[object]) -> None:
    assert group.names()
    for name in group.names():
        assert group.get(name).name == name  # type: ignore[attr-defined]


INCOMPLETE = {
    "no base class": (
        'class Mine:\n    name = "mine"\n\n\nTASK = Mine()\n',
        r"outside:TASK: a task must be an instance of a class derived from evalkit\.interfaces\.Task, .* class Mine\(Task\)",
    ),
    "no attributes": (
        """from evalkit.interfaces import Task


class Mine(Task):
    name, version, kind, default_splits, metric = "mine", 1, "vqa", ("val",), "anls"


TASK = Mine()
""",
        r"outside:TASK: the class Mine has no splits, no decoding, no from_files or from_hub; define it \(see evalkit",
    ),
    "an abstract method": (
        "from evalkit.tasks.documents._docs import RRCTask\n\n\nclass Mine(RRCTask):\n    name = 'mine'\n\n\nTASK = Mine()\n",
        r"the task in outside:TASK could not be loaded: Can't instantiate abstract class Mine .*define it",
    ),
    "another name": (
        PLUGIN.replace('"mine"', '"other"'),
        r"outside:TASK: the task is called 'other', but its entry point 'mine'; give both the same name",
    ),
}


@pytest.mark.parametrize("case", list(INCOMPLETE))
def test_incomplete_plugin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    content, sentence = INCOMPLETE[case]
    (tmp_path / "outside.py").write_text(content)
    folder = tmp_path / "outside-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[evalkit.tasks]\nmine = outside:TASK\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    with pytest.raises(UserError, match=sentence):
        registry.tasks.get("mine")
    monkeypatch.delitem(sys.modules, "outside", raising=False)


def test_file_of_several_tasks_is_found_without_importing_others() -> None:
    code = (
        "import sys; from evalkit import registry; assert registry.tasks.get('refcocog').name == 'refcocog';"
        "assert [m for m in sys.modules if m.startswith('evalkit.tasks.') and m.count('.') == 3 and '._' not in m]"
        " == ['evalkit.tasks.grounding.refcoco']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")  # a checkout would shadow the installed package


def test_checkpoint_of_two_families_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(registry.families.get("paligemma")), "model_types", ("paligemma", "qwen2_vl"))
    with pytest.raises(UserError, match=r"mine \(model_type 'qwen2_vl'\) is claimed by .* paligemma and qwen2-vl"):
        registry.family_name("qwen2_vl", "mine")


def test_task_reads_only_data_of_known_kind() -> None:
    from evalkit.data import Data

    with pytest.raises(UserError, match=r"vqav2: cannot be read from elsewhere \(Data\); give --data ROOT"):
        registry.tasks.get("vqav2").load(Data("elsewhere"), "val")


def test_every_task_names_metric_and_its_splits() -> None:
    for task in registry.tasks.all():
        assert task.metric in registry.metrics.names()
        assert set(task.default_splits) <= set(task.splits)


def test_unknown_names_get_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown model family 'qwen2\.5vl': did you mean qwen2\.5-vl"):
        registry.families.get("qwen2.5vl")
