"""The strict JSON reader: what JSON does not have is an error that names the key, and only regular files are read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.jsonl import objects, parse, read_bytes, read_json


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"a": NaN}', "'a' is NaN"),
        ('{"a": [1, {"b": [-Infinity]}]}', "'b' is -Infinity"),
        ("[Infinity]", "Infinity"),
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' is given twice"),
        ('{"x": {"a": 1, "a": 1}}', "the key 'a' is given twice"),
        ('{"x": 1e999}', "'x' is a number beyond the range of a float"),
        ('{"x": [-1E+400]}', "'x' is a number beyond the range of a float"),
        ('{"x": ' + "9" * 400 + "}", "'x' is a number of 400 digits"),
        ('{"x": ' + "9" * 5000 + "}", "'x' is a number of 5,000 digits"),
        ('{"x": ' + "9" * 5000 + ".0}", "'x' is a number beyond the range of a float"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ('{"a": "\\ud800"}', "no valid Unicode"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_what_json_does_not_have_is_refused_with_its_key(raw: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(raw.encode())


@pytest.mark.parametrize(
    "value",
    [1e308, -1.5, 0, 10**300, "1e999", "9" * 5000, "NaN", {"a": {"a": 1}}, [{"a": 1}, {"a": 1}], "0e000", None, "é🙂"],
)
def test_valid_values_are_read_exactly(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False).encode()) == value


def test_constants_are_read_where_transformers_writes_them() -> None:
    assert parse(b'{"time_step_limit": [0.0, Infinity]}', constants=True) == {"time_step_limit": [0.0, float("inf")]}
    with pytest.raises(ValueError, match="twice"):
        parse(b'{"a": 1, "a": 2}', constants=True)


def test_line_and_key_are_named() -> None:
    with pytest.raises(UserError, match=r"mine\.jsonl, line 3: .*'text' is given twice"):
        list(objects(b'{"text": "a"}\n\n{"text": "a", "text": "b"}\n', "mine.jsonl"))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        read_bytes(tmp_path / "pipe", "--predictions")
    with pytest.raises(UserError, match="directory"):
        read_bytes(tmp_path, "--predictions")
    with pytest.raises(UserError, match="no file can have this name"):
        read_bytes(tmp_path / "a\0b", "--predictions")
    with pytest.raises(OSError, match="not a regular file"):
        read_json(Path("/dev/zero"))


def test_shell_may_pass_pipe() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b'{"id": "0"}')
    os.close(theirs)
    assert read_bytes(Path(f"/dev/fd/{ours}"), "--predictions") == b'{"id": "0"}'
    os.close(ours)
