"""HTML pages from the templates of ``results/templates`` (jinja2).

Whatever a template prints is escaped, and put on one line without control characters, unless it is ``Markup``: text
from models, data sets and run folders may say anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from .tables import Table, cells_of, flat


def template(name: str) -> Template:
    """A template of ``results/templates``."""
    return _environment().get_template(name)


def page(tables: Sequence[Table], title: str) -> str:
    """Tables as a page that fetches nothing from elsewhere."""
    tables = [replace(table, rows=[cells_of(row) for row in table.rows]) for table in tables]
    return template("tables.html").render(tables=tables, title=title)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: (files("evalkit.results") / "templates" / name).read_text(encoding="utf-8")),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else flat(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
