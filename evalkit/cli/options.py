"""What several verbs share: options made from settings, ``--format`` and ``--out``, completion of task names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.errors import UserError
from evalkit.option import Kind, count_or_share
from evalkit.options import OPTIONS
from evalkit.settings import split_list

if TYPE_CHECKING:
    from evalkit.choosing.sample_filter import SampleFilter

# How the kinds of settings are typed on the command line; all are optional.
TYPES: Mapping[Kind, Any] = {
    "string": str | None, "list": list[str] | None, "texts": list[str] | None, "integer": int | None,
    "number": float | None, "flag": bool | None, "auto": str | None, "share": str | None,
}  # fmt: skip


def setting(name: str, **changes: Any) -> Any:
    """The command-line option of a run's setting; ``changes`` replace arguments of ``typer.Option``."""
    option = OPTIONS[name]
    default = ", ".join(option.default) if isinstance(option.default, tuple) else option.default
    if option.kind == "flag" or default in (None, ""):
        default = False
    shown = option.shown_default or (default if default is False else str(default))
    arguments = {
        "help": option.help,
        "show_default": f"{shown}; {option.range.notation}" if option.range else shown,
        "metavar": option.metavar,
        "rich_help_panel": option.panel,
        "autocompletion": complete_task if name == "tasks" else None,
    }
    return typer.Option(option.flag, *([option.short] if option.short else []), **(arguments | changes))


def with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """Add an option for every setting of a run to ``verb``, which gets their values in its ``**`` parameter."""
    own = inspect.signature(verb, eval_str=True)
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[TYPES[option.kind], setting(name)]
        )
        for name, option in OPTIONS.items()
    ]
    extra = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    verb.__dict__["__signature__"] = own.replace(parameters=[*options, *extra])
    return verb


def given_choice(where: str | None, ids: str | None, limit: str | None) -> SampleFilter | None:
    """The choice of samples that the options of these names make; None if none is given.

    Raises:
        UserError: one of them is not what it must be.
    """
    if where is None and ids is None and limit is None:
        return None
    from evalkit.choosing.sample_filter import SampleFilter

    number = None if limit is None else count_or_share(limit, OPTIONS["limit"].flag, OPTIONS["limit"])
    return SampleFilter.of(where, ids, number)


def choose_formats(
    given: Sequence[str] | None, known: Sequence[str], out: Path | None, default: Sequence[str]
) -> list[str]:
    """The formats named by ``--format``; else ``table``, or ``default`` when ``--out`` is given.

    Raises:
        UserError: an unknown format, or ``table`` together with ``--out``.
    """
    names = list(split_list(given)) or (["table"] if out is None else list(default))
    for name in names:
        if name not in known:
            raise UserError(f"--format {name}: unknown; use one of {', '.join(known)}.")
    files = [name for name in known if name != "table"]
    if out is not None and "table" in names:
        raise UserError(f"--format table is for the terminal; drop --out, or choose from {', '.join(files)}.")
    return names


def complete_task(incomplete: str) -> list[str]:
    """Shell completion for task names and their splits, also behind a comma."""
    from evalkit import registry

    before, comma, last = incomplete.rpartition(",")
    names = [n for t in registry.tasks.all() for n in (t.name, *(f"{t.name}/{s}" for s in t.splits))]
    return [before + comma + n for n in names if n.startswith(last) and ("/" in last or "/" not in n)]
