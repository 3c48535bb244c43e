"""Decoding overrides: values, ranges and messages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalkit import registry
from evalkit.cli.app import app
from evalkit.decoding import decoding_overrides, format_overrides, settings_overrides, unescape
from evalkit.errors import UserError
from evalkit.jobs import Job
from evalkit.option import Option
from evalkit.options import OPTIONS
from evalkit.settings import effective
from evalkit.types import Decoding


def test_defaults_change_nothing() -> None:
    assert decoding_overrides() == decoding_overrides(temperature=0, top_p=1, seed=5, stop=[]) == {}
    assert format_overrides({}) == ""


def test_overrides_make_a_decoding() -> None:
    drawn = decoding_overrides(temperature=0.5, top_p=0.9, top_k=20, seed=7, max_new_tokens=64)
    assert Decoding(**drawn) == Decoding(64, temperature=0.5, top_p=0.9, top_k=20, seed=7)
    assert format_overrides(drawn) == "temperature=0.5,top_p=0.9,top_k=20,max_new_tokens=64,seed=7"
    assert decoding_overrides(num_beams=3, stop=["\n", "a, b"]) == {"num_beams": 3, "stop": ("\n", "a, b")}
    assert format_overrides({"stop": ("\n", "x")}) == r"stop='\n'+'x'"
    assert format_overrides({"stop": ("a|b",)}) == r"stop='a\x7cb'"
    assert unescape([r"\n", r"a\tb,c", "é"]) == ("\n", "a\tb,c", "é")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": -1.0}, "--temperature -1.0: give at least 0"),
        ({"temperature": float("nan")}, "--temperature nan: give a finite number, at least 0"),
        ({"temperature": float("inf")}, "--temperature inf: give a finite number, at least 0"),
        ({"temperature": 10**400}, "0: give a finite number, at least 0"),
        ({"temperature": 1.0, "top_k": 2**63}, "--top-k 9223372036854775808: give a number of 64 bits, at least 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p 0.0: give more than 0 and at most 1"),
        ({"temperature": 1.0, "top_p": 1.5}, "--top-p 1.5: give more than 0 and at most 1"),
        ({"temperature": 1.0, "top_k": -1}, "--top-k -1: give at least 0"),
        ({"num_beams": 0}, "--num-beams 0: give at least 1"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0: give at least 1"),
        ({"stop": ("",)}, "--stop"),
        ({"top_p": 0.5}, "--top-p 0.5: has no effect at temperature 0"),
        ({"top_k": 5}, "--top-k 5: has no effect at temperature 0"),
        ({"temperature": 1.0, "num_beams": 2}, "--num-beams 2: beam search does not sample"),
    ],
)
def test_out_of_range_values_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        decoding_overrides(**given, options=True)
    with pytest.raises(UserError, match=said):  # and so it is from the command line
        effective(given, Path("/"))


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS.values() if option.range is not None], ids=lambda option: option.name
)
def test_help_and_checks_agree_on_every_range(option: Option) -> None:
    """The range in ``run --help``; values at its ends are allowed, and values beyond are refused."""
    assert option.range is not None
    help_text = " ".join(CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output.split())
    name = f"{option.flag} {option.metavar or {'integer': 'INT', 'number': 'FLOAT'}[option.kind]} "
    assert help_text.partition(name)[2].partition("]")[0].endswith(f"; {option.range.notation}")
    step = 1 if option.kind in ("integer", "auto", "share") else 0.5
    for value in (option.range.low, option.range.high):
        if value != math.inf:
            inside = step if value == option.range.low else -step
            low_excluded = option.range.above_low and value == option.range.low
            whole = int(value) if step == 1 else value
            assert (option.advice(whole) is None) is not low_excluded
            assert option.advice(whole + inside) is None
            assert option.advice(whole - inside) == f"give {option.range}"


def test_messages_name_the_argument_used() -> None:
    with pytest.raises(UserError, match="^top_k='a': give an integer, at least 0"):
        decoding_overrides(temperature=1, top_k="a")  # type: ignore[arg-type]


def test_settings_from_file_keep_their_commas(tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text('stop = ["a, b", "\\n"]\ntemperature = 1\ntop_k = 5\nseed = 3')
    settings = effective({"stop": None}, tmp_path).settings
    assert settings_overrides(settings) == {"temperature": 1.0, "top_k": 5, "stop": ("a, b", "\n"), "seed": 3}
    assert effective({"stop": ["x,y"]}, tmp_path).settings.stop == ("x,y",)
    (tmp_path / "evalkit.toml").write_text('temperature = "hot"')
    with pytest.raises(UserError, match="temperature must be a number"):
        effective({}, tmp_path)


def test_fewer_tokens_than_the_protocols_minimum() -> None:
    task = registry.tasks.get("coco_caption")
    job = Job(task, "test", (), limited=False, decoding_overrides=decoding_overrides(max_new_tokens=2))
    with pytest.raises(UserError, match=r"coco_caption/test: 2 new tokens at most are fewer than the 8"):
        job.decoding(registry.families.get("qwen-vl"))
    assert job.decoding(registry.families.get("qwen2.5-vl")).max_new_tokens == 2
