"""Sampling presets: what they set, and what replaces them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.decoding import format_overrides, settings_overrides
from evalkit.errors import UserError
from evalkit.options import OPTIONS
from evalkit.presets import all_presets, preset_signature
from evalkit.settings import effective
from evalkit.types import Decoding

QWEN3 = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5, "max_new_tokens": 32_768, "seed": 0}


def test_preset_sets_what_is_not_given(tmp_path: Path) -> None:
    found = effective({"preset": "qwen3-vl-instruct"}, tmp_path)
    assert settings_overrides(found.settings) == QWEN3
    assert found.sources["top_k"] == "preset qwen3-vl-instruct"
    assert preset_signature("qwen3-vl-instruct", vars(found.settings)) == "preset=qwen3-vl-instruct"
    by_hand = effective({name: value for name, value in QWEN3.items() if name != "seed"}, tmp_path)
    assert settings_overrides(by_hand.settings) == QWEN3  # the same run
    (tmp_path / "evalkit.toml").write_text('preset = "qwen3-vl-thinking"\nrepetition_penalty = 1.05\n')
    found = effective({"top_p": 0.9}, tmp_path)
    overrides = settings_overrides(found.settings)
    assert overrides == {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.05,
                         "max_new_tokens": 40_960, "seed": 0}  # fmt: skip
    assert (found.sources["top_p"], found.sources["repetition_penalty"]) == ("command line", "evalkit.toml")
    signature = preset_signature("qwen3-vl-thinking", vars(found.settings))
    assert signature == "preset=qwen3-vl-thinking(not top_p+repetition_penalty)"
    assert format_overrides(overrides).startswith("temperature=0.6,top_p=0.9,top_k=20,repetition_penalty=1.05,")
    with pytest.raises(UserError, match="--preset qwen3-vl: unknown preset; use qwen3-vl-"):
        effective({"preset": "qwen3-vl"}, tmp_path)


def test_every_preset_is_decoding_with_a_source() -> None:
    for name, preset in all_presets().items():
        assert preset.source, name
        assert set(preset.values) <= set(OPTIONS)
        for option, value in preset.values.items():
            assert OPTIONS[option].advice(value) is None
        Decoding(**preset.values)


def test_decoding_without_penalties_is_recorded_as_before() -> None:
    assert Decoding(5).to_dict() == {"max_new_tokens": 5, "min_new_tokens": 0}
    assert Decoding(5, presence_penalty=1.5).describe() == "presence_penalty=1.5"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"presence_penalty": 3.0}, "--presence-penalty 3.0: .*at least -2 and at most 2"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty 0.0: .*more than 0"),
        ({"repetition_penalty": 1.2, "num_beams": 2}, "beam search does not apply it; drop --num-beams 2"),
    ],
)
def test_impossible_penalties(given: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        effective(given, tmp_path)
