"""The commands, their options and their help; a command's module is imported when it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .unknown_options import check_options

VERBS = {
    "run": "Evaluate checkpoints on benchmarks and print the leaderboard.",
    "score": "Score answers that were made elsewhere: no model, no GPU.",
    "import": "Import another harness's results, beside its own scores.",
    "rescore": "Score a run again from its recorded answers: no model, no GPU.",
    "tasks": "List the benchmarks, or show one in detail.",
    "verify": "Check that a checkpoint is complete and works.",
    "subset": "Choose samples that estimate a complete benchmark's score.",
    "baseline": "Save a run's scores and answers for 'evalkit check'.",
    "check": "Check a run against a baseline, sample by sample.",
    "compare": "Compare runs with the first of them, sample by sample.",
    "leaderboard": "Show finished runs side by side.",
    "report": "Write an HTML report that opens in any browser, offline.",
    "show": "Show samples: image, prompt, raw answer, references, scores.",
    "export": "Write finished runs in another format: no model, no GPU.",
}
"""Every command and the first line of its help: ``evalkit --help`` imports no verb."""

PLACES = {"import": ("import_results", "import_")}
"""(module, function) of the verbs whose name is a keyword of Python; those of the others are called like the verb."""

RENAMED_OPTIONS = {"--picture-size": "--image-size", "--pictures": "--images"}
"""Old spelling → current spelling, for commands that have the current one.  Help shows only the current one."""

CONTEXT = {"help_option_names": ["-h", "--help"]}

WIDEST_NAME = 26
"""Columns of an option's name and value in help, so that all panels align."""

# How typer writes values and defaults → how they are shown.
TIDIER: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"<list\[(\w+)\]>|<(\w+)(?: range)?>", lambda m: (m[1] or m[2]).upper().replace("STR", "TEXT")),
    (r"\[default: \((.*)\)\]", r"[default: \1]"),
)


def _tidy(text: str) -> str:
    for pattern, replacement in TIDIER:
        text = re.sub(pattern, replacement, text)
    return text


def _replace_renamed(args: list[str], known: set[str]) -> list[str]:
    """``args`` with renamed options in their current spelling, up to a ``--``."""
    end = args.index("--") if "--" in args else len(args)
    replaced = []
    for argument in args[:end]:
        flag, equals, value = argument.partition("=")
        current = RENAMED_OPTIONS.get(flag)
        replaced.append(f"{current}{equals}{value}" if current in known else argument)
    return replaced + args[end:]


class PanelCommand(TyperCommand):
    """A command whose help lists its options by panel (``rich_help_panel``), in plain text.

    It also accepts the old spellings of ``RENAMED_OPTIONS``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse ``args`` after replacing old spellings of this command's options."""
        known = {flag for parameter in self.params for flag in parameter.opts}
        args = _replace_renamed(args, known)
        check_options(args, self.params)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each panel of options in the order in which panels first occur."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if argument else "Options")
                panels.setdefault(panel, []).append((_tidy(record[0]), _tidy(record[1])))
        width = min(WIDEST_NAME, max(len(name) for records in panels.values() for name, _ in records))
        for panel, records in panels.items():
            with formatter.section("Other" if panel == "Options" and len(panels) > 2 else panel):
                formatter.write_dl([(name.ljust(width), text) for name, text in records])


class _Verbs(MutableMapping[str, Any]):
    """Click commands by name; a verb's module is imported when its command is looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            if name not in VERBS:
                raise KeyError(name)
            module, function = PLACES.get(name, (name, name))
            verb = getattr(import_module(f".{module}", __package__), function)
            single = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=CONTEXT)
            single.command(name, cls=PanelCommand)(verb)
            self._loaded[name] = typer.main.get_command(single)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("verbs cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class VerbGroup(TyperGroup):
    """The root command, whose subcommands are imported when they are called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Verbs()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    name="evalkit",
    cls=VerbGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    rich_markup_mode=None,
    help="Evaluate vision-language models: official scores, error bars, one command.\n\n"
    "First try, offline and in under a minute: evalkit run --tasks refcoco,vqav2",
    epilog="'evalkit COMMAND --help' shows a command's options.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from evalkit.installation import version_text

        print(f"evalkit {version_text()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print version and commit, and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass
