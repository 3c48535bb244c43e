"""Sampling presets (``--preset``): the decoding with which the makers of a model evaluate it.

Model families declare them (``Family.presets``).  A preset only sets options: a run with it and a run with the same
values given one by one are the same run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from evalkit.errors import UserError
from evalkit.types import SamplingPreset


def all_presets() -> dict[str, SamplingPreset]:
    """Every preset by name.

    Raises:
        UserError: two families declare different ones under a name.
    """
    from evalkit import registry

    found: dict[str, SamplingPreset] = {}
    for family in registry.families.all():
        for name, preset in family.presets.items():
            if found.setdefault(name, preset) != preset:
                raise UserError(f"the family {family.name} declares another preset {name!r} than a family before it.")
    return dict(sorted(found.items()))


def find_preset(name: str, named: str) -> SamplingPreset:
    """The preset of this name.

    Args:
        named: how a message refers to it: ``--preset qwen3``.

    Raises:
        UserError: there is none.
    """
    presets = all_presets()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=2, cutoff=0.5) or list(presets)
        raise UserError(f"{named}: unknown preset; use {' or '.join(near)} ('evalkit tasks --presets' lists them).")
    return presets[name]


def preset_signature(name: str | None, values: Mapping[str, Any]) -> str:
    """A preset in a signature, with the options that replace its values: ``preset=qwen3-vl-instruct(not top_p)``.

    Args:
        name: empty or None for no preset.
        values: the options of the run.
    """
    if not name:
        return ""
    preset = find_preset(name, f"preset {name}")
    changed = [option for option, value in preset.values.items() if values.get(option) != value]
    return f"preset={name}" + (f"(not {'+'.join(changed)})" if changed else "")
