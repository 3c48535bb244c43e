"""Chat templates as text: their syntax, and what they render, without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _Generation(Extension):
    """The tag ``{% generation %}`` of transformers, which marks what an assistant writes."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """An environment as transformers has it: sandboxed, blocks trimmed."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["strftime_now"] = lambda pattern: ""
    return environment


def syntax_error(template: str) -> str:
    """Why ``template`` is not valid, with the line; empty if it is."""
    try:
        _environment().parse(template)
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {str(error.message).rstrip('.')}"
    except (TemplateError, RecursionError) as error:
        return type(error).__name__
    return ""


def rendered(template: str, variables: Mapping[str, Any]) -> str:
    """The text that ``template`` renders; empty if it fails, for instance because it needs other variables."""
    try:
        return _environment().from_string(template).render(**variables)
    except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError, RecursionError):
        return ""
