"""The reference of the command line, from typer's commands, and of the Python API, from its docstrings."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from griffe import Docstring, DocstringSectionKind, ParameterKind, visit

import evalkit
import evalkit.data
import evalkit.errors
import evalkit.interfaces
import evalkit.scoring
import evalkit.types
from evalkit.cli.app import app

logging.getLogger("griffe").setLevel(logging.ERROR)  # types are in the signatures, not the docstrings

VALUES = (
    "Sample", "Answered", "Prediction", "Scores", "Decoding", "Split", "PromptSpec", "Message", "Shot", "Request",
    "Response", "ImageSize",
)  # fmt: skip
INTERFACES = ("Task", "Metric", "Family", "Backend", "BackendFactory", "ImageRef")


# -------------------------------------------------------------------------------------------------------- command line


def root() -> Any:
    """The command line as a click group."""
    command: Any = typer.main.get_command(app)
    return command


def commands() -> str:
    """Every command with its options."""
    group = root()
    return "\n".join(line for name, command in group.commands.items() for line in _command(group, name, command))


def _command(group: Any, name: str, command: Any) -> Iterator[str]:
    context = command.make_context(f"evalkit {name}", [], resilient_parsing=True)
    yield from (
        f"## evalkit {name}",
        "",
        "```text",
        " ".join(["evalkit", name, *command.collect_usage_pieces(context)]),
        "```",
        "",
    )
    yield from ((command.help or "").strip(), "", "| option | meaning |", "|---|---|")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            option, about = (re.sub(r"\s+", " ", text).strip() for text in record)
            yield f"| `{option}` | {_escaped(about)} |"
    yield ""


# ---------------------------------------------------------------------------------------------------------- Python API


def api() -> str:
    """The public functions, their argument and result types, and the plugin interfaces."""
    lines = ["## Functions", "", "```python", "from evalkit import evaluate, load_task, score, scorer", "```", ""]
    for name in evalkit.__all__:
        thing = getattr(evalkit, name)
        if inspect.isfunction(thing):
            lines += [f"### evalkit.{name}", "", *_function(thing)]
    lines += ["### evalkit.training.EvalkitCallback", "", *_callback()]
    lines += ["## Results", "", "### evalkit.scoring.Result", "", *_class(evalkit.scoring.Result)]
    lines += ["### evalkit.errors.UserError", "", *_prose(evalkit.errors.UserError)]
    lines += ["### evalkit.errors.RunFailed", "", *_prose(evalkit.errors.RunFailed)]
    lines += ["## Values", "", "In `evalkit.types`. Frozen dataclasses.", ""]
    for name in VALUES:
        lines += [f"### {name}", "", *_class(getattr(evalkit.types, name))]
    lines += [
        "## Plugin interfaces",
        "",
        "Base classes in `evalkit.interfaces`. Attributes without a value are required.",
        "",
    ]
    for name in INTERFACES:
        lines += [
            f"### {name}",
            "",
            *_interface(getattr(evalkit.interfaces, name, None) or getattr(evalkit.types, name)),
        ]
    return "\n".join(lines)


def _class(thing: type) -> Iterator[str]:
    yield from ("```python", signature(thing), "```", "", *_prose(thing))


def _function(thing: Callable[..., Any]) -> Iterator[str]:
    yield from ("```python", signature(thing), "```", "", *_prose(thing))


def _interface(thing: type) -> Iterator[str]:
    yield from _prose(thing)
    attributes = {name: kind for name, kind in inspect.get_annotations(thing).items() if not name.startswith("_")}
    if attributes:
        values = {name: f" = {getattr(thing, name)!r}" if hasattr(thing, name) else "" for name in attributes}
        yield from ("```python", *(f"{name}: {kind}{values[name]}" for name, kind in attributes.items()), "```", "")
    for name, member in vars(thing).items():
        if isinstance(member, property):
            yield from (f"**`{name}`**", "", *_prose(member))
        elif inspect.isfunction(member) and not name.startswith("_"):
            required = ("*Required.*", "") if getattr(member, "__isabstractmethod__", False) else ()
            yield from ("```python", signature(member), "```", "", *required, *_prose(member))


def _callback() -> Iterator[str]:
    """``EvalkitCallback``, parsed from its source, since importing transformers takes seconds."""
    spec = importlib.util.find_spec("evalkit.training")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin)
    found: Any = visit("evalkit.training", filepath=source, code=source.read_text(encoding="utf-8"))["EvalkitCallback"]
    pieces = []
    for parameter in found["__init__"].parameters:
        if parameter.name != "self":
            if parameter.kind is ParameterKind.keyword_only and "*" not in pieces and parameter.name == "every":
                pieces.append("*")
            stars = "**" if parameter.kind is ParameterKind.var_keyword else ""
            default = f" = {parameter.default}" if parameter.default is not None and not stars else ""
            pieces.append(f"{stars}{parameter.name}: {parameter.annotation}{default}")
    yield from ("```python", formatted("EvalkitCallback", pieces, ""), "```", "", *_sections(found.docstring.value))


def signature(thing: Any) -> str:
    """``name(parameters) -> result`` as source code, on several lines if it is long."""
    found = inspect.signature(thing)
    end = found.return_annotation
    nothing = inspect.isclass(thing) or end in (found.empty, None, "None")
    return formatted(thing.__name__, list(_parameters(found)), "" if nothing else f" -> {end}")


def formatted(name: str, pieces: list[str], end: str) -> str:
    short = f"{name}({', '.join(pieces)}){end}"
    if len(short) <= 96:
        return short
    return "\n".join([f"{name}(", *(f"    {piece}," for piece in pieces), f"){end}"])


def _parameters(found: inspect.Signature) -> Iterator[str]:
    starred = False
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        default = (
            ""
            if parameter.default is parameter.empty
            else f" = {DEFAULTS.get(repr(parameter.default), repr(parameter.default))}"
        )
        yield f"{parameter.name}: {parameter.annotation}{default}"


DEFAULTS = {"<factory>": "…", repr(evalkit.types.Batching()): "Batching()"}


def _prose(thing: Any) -> Iterator[str]:
    yield from _sections(inspect.getdoc(thing) or "")


def _sections(text: str) -> Iterator[str]:
    from generate import markdown

    one = {"returns_multiple_items": False, "returns_named_value": False, "warn_unknown_params": False}
    for section in Docstring(text, lineno=1).parse("google", **one):
        if section.kind is DocstringSectionKind.text:
            yield from (_code(markdown(section.value)), "")
        elif section.kind in TITLES:
            yield from (f"**{TITLES[section.kind]}**", "")
            for item in section.value:
                named = getattr(item, "name", "") or (str(item.annotation) if item.annotation else "")
                about = markdown(" ".join(item.description.split()))
                if named and section.kind is DocstringSectionKind.returns:
                    named, about = "", f"{markdown(named)}: {about}"  # prose that contains a colon
                yield f"- `{named}`: {about}" if named else f"- {about}"
            yield ""


TITLES = {
    DocstringSectionKind.parameters: "Arguments",
    DocstringSectionKind.attributes: "Attributes",
    DocstringSectionKind.returns: "Returns",
    DocstringSectionKind.raises: "Raises",
}


def _code(text: str) -> str:
    """Put indented lines into fenced code blocks."""
    return re.sub(
        r"(?m)(?:^ {4}.*(?:\n|\Z))+",
        lambda found: "```python\n" + re.sub(r"(?m)^ {4}", "", found[0]).rstrip() + "\n```\n",
        text,
    )


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("|", "\\|")
