"""The list of sampling presets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.options import OPTIONS
from evalkit.presets import all_presets

if TYPE_CHECKING:
    from rich.console import Console


def list_presets(console: Console) -> None:
    """Print each preset with its options, as they could be given one by one, and its source."""
    for name, preset in all_presets().items():
        console.print(name, style="bold", highlight=False)
        given = " ".join(f"{OPTIONS[option].flag} {value:g}" for option, value in preset.values.items())
        console.print(f"  {given}", highlight=False)
        console.print(f"  {preset.source}", highlight=False, markup=False)
