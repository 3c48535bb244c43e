"""The entries of a server's list of models, each field validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.data import shown

from .errors import RequestFailed

VOLATILE_FIELDS = ("created", "permission", "object")
"""Fields of a model's entry that may change with each request."""
MAX_FIELDS = 50
LONGEST_NAME = 1000
LONGEST_VALUE = 1000
"""Characters of a model's name, and of what is recorded of another field."""
LARGEST_NUMBER = 2**53


@dataclass(frozen=True)
class ListedModel:
    """A model that a server offers.

    Attributes:
        id: its name; empty for a model that is not in the list.
        root: the checkpoint that is loaded; empty if unknown.
        parent: the model that an adapter belongs to; empty if there is none.
        owner: the entry's ``owned_by``, which for some servers is the software.
        recorded: the entry, as far as manifests record it.
    """

    id: str = ""
    root: str = ""
    parent: str = ""
    owner: str = ""
    recorded: Mapping[str, str | int | float] = field(default_factory=dict)

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> ListedModel:
        """The model of an entry whose ``id`` is a name."""
        root, parent, owner = (_name(entry.get(key)) for key in ("root", "parent", "owned_by"))
        return cls(str(entry["id"]), root, parent, " ".join(owner.split())[:40], _recorded(entry))

    @property
    def folder(self) -> str | None:
        """The loaded checkpoint: vLLM and SGLang report it; others use its folder as the model's name."""
        return self.root or (self.id if Path(self.id).is_absolute() else None)


def parse_list(content: Any) -> tuple[list[ListedModel], list[str]]:
    """The models in a reply to a request for them, and the names in it that cannot be names, for messages.

    Raises:
        RequestFailed: there is no list of models in it.
    """
    entries = content.get("data") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise RequestFailed("the reply has no list of models")
    named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    usable = [ListedModel.parse(entry) for entry in named if _name(entry["id"])]
    return usable, [shown(entry["id"]) for entry in named if not _name(entry["id"])]


def _name(value: Any) -> str:
    """``value`` if it is a short text of printable characters, else an empty text."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME else ""


def _recorded(entry: Mapping[str, Any]) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {}
    for key, value in entry.items():
        if key in VOLATILE_FIELDS or len(found) == MAX_FIELDS:
            continue
        if isinstance(value, str):
            found[key[:LONGEST_NAME]] = value[:LONGEST_VALUE]
        elif isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER:
            found[key[:LONGEST_NAME]] = value
    return found
