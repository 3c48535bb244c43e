"""What cannot be a path, or a settings file, is a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jsonl_task import read_jsonl_task
from evalkit.paths import user_path
from evalkit.results.tables import as_text
from evalkit.settings import effective


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("~nosuchuser/x", "there is no user ~nosuchuser"),
        ("x" * 300, "File name too long"),
        ("a\0b", "a path cannot have a NUL character"),
    ],
)
def test_what_cannot_be_path_is_mistake(tmp_path: Path, given: str, message: str) -> None:
    for name, value in (("data", given), ("model", [given]), ("out", given), ("adapter", given)):
        with pytest.raises(UserError, match=f"--{name} .*{message}"):
            effective({name: value}, tmp_path)
    with pytest.raises(UserError, match=message):
        open_data(f"hub:{given}")


def test_link_to_itself_is_mistake(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="symbolic links"):
        user_path(str(tmp_path / "loop"), "--out")
    assert user_path(str(tmp_path / "missing"), "--out") == tmp_path / "missing"


@pytest.mark.parametrize(
    "content", ["tasks = " + "[" * 3000 + "]" * 3000, f"seed = {'9' * 5000}", "tasks = ", 'name = "\\ud800"']
)
def test_settings_file_that_cannot_be_read_is_mistake(tmp_path: Path, content: str) -> None:
    (tmp_path / "evalkit.toml").write_text(content)
    with pytest.raises(UserError, match="evalkit.toml is not valid TOML"):
        effective({}, tmp_path)


def test_name_with_nul_in_settings_file_is_mistake(tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text('name = "a\\u0000b"')
    with pytest.raises(UserError, match="--name .*NUL"):
        effective({}, tmp_path)


@pytest.mark.parametrize("name", ["odd\0name", "two\nlines", "x" * 300])
def test_field_that_no_column_can_be_called_is_refused(tmp_path: Path, name: str) -> None:
    row = {"id": "0", "image": "0.png", "question": "?", "answers": ["red"], name: "x"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match="line 1: the field .* has a name that is not a short text on one line"):
        read_jsonl_task(tmp_path / "mine.jsonl")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("x")', "-"])
def test_text_that_spreadsheet_would_compute_has_apostrophe(text: str) -> None:
    assert as_text(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-5", "-0.5", "1=1", "a", "", -5, 0.5, None, True])
def test_other_values_are_left_alone(value: object) -> None:
    assert as_text(value) is value
