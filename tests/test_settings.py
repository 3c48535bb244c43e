from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from evalkit.cli.app import app
from evalkit.errors import UserError
from evalkit.option import Option
from evalkit.options import NEVER_FROM_FILES, OPTIONS, RunSettings
from evalkit.settings import batching, default_data, effective, find_file, split_list
from evalkit.types import Batching

NAMES = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=6)


@given(NAMES, st.data())
def test_lists_take_commas_and_repetition_alike(names: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(names)))
    mixed = [part for part in (",".join(names[:cut]), *names[cut:]) if part]
    assert split_list(mixed) == split_list(names) == split_list(", ".join(names)) == tuple(dict.fromkeys(names))


def test_command_line_beats_file_beats_defaults(tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text('tasks = ["vqav2", "refcoco/val"]\nlimit = 5\nbatch-size = 4\n')
    found = effective({"limit": 9, "tasks": None, "model": []}, tmp_path)
    assert found.settings.tasks == ("vqav2", "refcoco/val")
    assert (found.settings.limit, found.settings.batch_size, found.settings.model) == (9, 4, ("tiny",))
    assert found.sources["limit"] == "command line"
    assert found.sources["batch_size"] == "evalkit.toml"
    assert found.sources["model"] == "default"


def test_pyproject_is_found_from_folder_below(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.evalkit]\ntasks = "refcoco,vqav2"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert effective({}, below).settings.tasks == ("refcoco", "vqav2")


@pytest.mark.parametrize("key", NEVER_FROM_FILES)
def test_unsafe_settings_are_never_read_from_a_file(tmp_path: Path, key: str) -> None:
    (tmp_path / "evalkit.toml").write_text(f'{key} = "x"\n')
    with pytest.raises(UserError, match=rf"{key} is never taken from a file"):
        effective({}, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("temperature = 1" + "0" * 400, "temperature must be a finite number"),
        ("temperature = 1" + "0" * 5000, "is not valid TOML"),
        ("max_batch_tokens = 9223372036854775808", "give a number of 64 bits"),
        ("batch_size = '" + "9" * 5000 + "'", "give an integer, at least 1, or auto"),
        ("limit = 'ten'", "limit must be an integer"),
        ("limit = true", "limit must be an integer"),
        ("tasks = [1]", "tasks must be a string or a list of strings"),
        ("taks = 'refcoco'", "unknown setting 'taks'; did you mean tasks"),
        ("limit = ", "is not valid TOML"),
        ("limit = 0", "--limit 0: give at least 1"),
        ("batch_size = 0", "batch_size = 0: give at least 1, or auto"),
        ("batch_size = true", "batch_size = True: give an integer, at least 1, or auto"),
        ("batch_size = 'few'", "batch_size = few: give an integer, at least 1, or auto"),
        ("max_batch_tokens = 'x'", "max_batch_tokens must be an integer"),
        ("exact = 1", "exact must be true or false"),
        ("exact = true\nbatch_size = 4", "--exact runs one sample at a time: drop --batch-size 4"),
    ],
)
def test_invalid_file_is_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "evalkit.toml").write_text(content)
    with pytest.raises(UserError, match=message):
        effective({}, tmp_path)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"limit": 0}, "--limit 0"),
        ({"limit": -3}, "--limit -3"),
        ({"batch_size": "0"}, "--batch-size 0: give at least 1, or auto"),
        ({"batch_size": "-3"}, "--batch-size -3: give at least 1, or auto"),
        ({"batch_size": "many"}, "--batch-size many: give an integer, at least 1, or auto"),
        ({"batch_size": "1.5"}, "--batch-size 1.5: give an integer, at least 1, or auto"),
        ({"max_batch_tokens": 0}, "--max-batch-tokens 0: give at least 1"),
        ({"max_batch_tokens": -1}, "--max-batch-tokens -1: give at least 1"),
        ({"exact": True, "batch_size": "2"}, "--exact runs one sample at a time: drop --batch-size 2"),
        ({"exact": True, "max_batch_tokens": 9}, "--exact runs one sample at a time: drop --max-batch-tokens 9"),
        ({"name": "a/b"}, "--name 'a/b': give a plain folder name"),
        ({"name": ".."}, "give a plain folder name"),
        ({"name": "x", "model": ["a,b"]}, "2 models make 2 runs"),
    ],
)
def test_impossible_settings_are_reported(tmp_path: Path, given_: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        effective(given_, tmp_path)


@pytest.mark.parametrize(
    ("file", "given_", "wanted"),
    [
        ("", {}, Batching()),
        ("batch_size = 'auto'", {}, Batching()),
        ("batch_size = 8\nmax-batch-tokens = 900", {}, Batching(8, 900)),
        ("batch_size = 8", {"batch_size": "auto"}, Batching()),
        ("exact = true", {"batch_size": "1"}, Batching(1, exact=True)),
        ("", {"batch_size": "16", "max_batch_tokens": 4096}, Batching(16, 4096)),
    ],
)
def test_batching_settings(tmp_path: Path, file: str, given_: dict[str, object], wanted: Batching) -> None:
    (tmp_path / "evalkit.toml").write_text(file)
    assert effective(given_, tmp_path).settings.batching == wanted


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ((0, None, False), "batch_size=0: give at least 1, or None"),
        (("auto", None, False), "batch_size='auto': give an integer, at least 1, or None"),
        ((True, None, False), "batch_size=True: give an integer, at least 1, or None"),
        ((None, -1, False), "max_batch_tokens=-1: give at least 1, or None"),
        ((2, None, True), "exact=True runs one sample at a time: drop batch_size=2"),
        ((None, 9, True), "exact=True runs one sample at a time: drop max_batch_tokens=9"),
    ],
)
def test_wrong_batching_from_python_is_reported(how: tuple[Any, Any, bool], message: str) -> None:
    with pytest.raises(UserError, match=message):
        batching(*how)
    assert batching(1, None, True) == Batching(1, exact=True)


def test_data_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    assert default_data(bundled_model=True)[0] == "tiny"
    assert default_data(bundled_model=False)[0] == "hub"
    monkeypatch.setenv("EVALKIT_DATA", "/data/vlm")
    assert default_data(bundled_model=False) == ("/data/vlm", "environment (EVALKIT_DATA)")
    assert default_data(bundled_model=True)[0] == "tiny"


def test_unknown_setting_without_near_match_lists_all(tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text("xyzzy = 1\n")
    with pytest.raises(UserError, match="unknown setting 'xyzzy'; valid settings: tasks, model, data"):
        effective({}, tmp_path)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_every_option_is_stated_once(option: Option, tmp_path: Path) -> None:
    """The command line, the file's reader and the defaults come from the same entry."""
    parameters = {p.name: p for p in typer.main.get_command(app).commands["run"].params}  # type: ignore[attr-defined]
    assert option.flag in parameters[option.name].opts
    assert parameters[option.name].help == option.help
    assert getattr(RunSettings(), option.name) == option.default
    values = {
        "string": '"x"', "list": '["x"]', "texts": '["x"]', "integer": "3", "number": "0.5", "flag": "true", "auto": "3",
        "share": '"5%"',
    }  # fmt: skip
    value = f'"{option.choices[0]}"' if option.choices else '"3"' if option.name == "shots" else values[option.kind]
    value = {"video_sampling": '"transformers"', "preset": '"qwen3-vl-instruct"'}.get(option.name, value)
    with_others = {"top_p": "temperature = 1", "top_k": "temperature = 1", "repeats": "temperature = 1"}
    with_others |= dict.fromkeys(("workers", "gpus_per_worker"), 'executor = "ray"')
    (tmp_path / "evalkit.toml").write_text(f"{option.name} = {value}\n{with_others.get(option.name, '')}\n")
    if option.in_file:
        assert effective({}, tmp_path).sources[option.name] == "evalkit.toml"
    else:
        with pytest.raises(UserError, match="is never taken from a file"):
            effective({}, tmp_path)


def test_help_starts_with_common_options() -> None:
    panels = list(dict.fromkeys(option.panel for option in OPTIONS.values()))
    assert panels == [
        "Common",
        "Model",
        "Data",
        "Prompting",
        "Video",
        "Decoding",
        "Speed",
        "Server",
        "Judge",
        "Cluster",
        "Output",
    ]
    common = [option.name for option in OPTIONS.values() if option.panel == "Common"]
    assert len(common) == 9  # and --dry-run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[tool.evalkit]\ntasks = "refcoco', "pyproject.toml is not valid TOML"),
        (b'[tool.evalkit]\ntasks = "\xff"', "pyproject.toml is not valid TOML"),
        (b"[tool]\nevalkit = 3", "tool.evalkit is 3; expected a table of settings"),
    ],
)
def test_settings_in_pyproject_are_never_ignored(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        find_file(tmp_path)


@pytest.mark.parametrize("content", [b"[project", b"\xff", b"tool = 3", b"[tool.other]"])
def test_pyproject_without_settings_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    assert find_file(tmp_path) is None
