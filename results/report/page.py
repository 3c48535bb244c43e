"""A report's page: its content before any script runs, and the data for the scripts.

Everything that comes from a model, a data set or a user is escaped: here by the template (``results/html.py``); in the
scripts' data by ``script_json``, which cannot close a script element; in the scripts by writing text, never
markup.  A content security policy allows the report's own scripts only, and nothing from any network.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from evalkit.results.compare.comparison import Comparison
from evalkit.results.compare.tables import letter, refusals, tables_of
from evalkit.results.html import template
from evalkit.results.leaderboard.rows import Entry, reasoning_text, truncated_text
from evalkit.results.store.files import to_json
from evalkit.results.store.scored_run import ScoredRun
from evalkit.task_groups import MEANS

SCRIPTS = ("text", "dom", "data", "charts", "images", "gallery", "sample", "main")
MARK = '<meta name="generator" content="evalkit report">'
"""Marks a page that evalkit wrote and may overwrite."""
_IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def script_json(content: Any) -> str:
    """JSON that is valid JavaScript and cannot close a script element."""
    return to_json(content).translate(_IN_SCRIPT)


def asset(name: str) -> str:
    """A file of ``assets``."""
    return (files("evalkit.results.report") / "assets" / name).read_text(encoding="utf-8")


def script() -> str:
    """The report's script: its modules concatenated in one scope."""
    parts = "\n".join(asset(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def page(
    runs: Sequence[ScoredRun],
    names: Sequence[str],
    found: Comparison | None,
    notes: Sequence[str],
    index: Mapping[str, Any],
    inline: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The page as pieces of HTML.

    Args:
        index: the data that the script needs from the start.
        inline: texts by the id of the element they go into, where all is in this one file.
    """
    single = inline is not None
    style, code = asset("report.css"), script()
    if single:
        allowed = f"script-src {_sha(code)}; style-src {_sha(style)}; img-src data:"
        head, tail = f"<style>{style}</style>", f"<script>{code}</script>"
    else:
        allowed = "script-src 'self' file:; style-src 'self' file:; img-src 'self' file:"
        head, tail = '<link rel="stylesheet" href="report.css">', '<script src="report.js"></script>'
    letters = [letter(place) if len(runs) > 1 else "" for place in range(len(runs))]
    yield from template("report.html").generate(
        mark=Markup(MARK),
        policy=Markup(f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"),
        title=" and ".join(dict.fromkeys(run.model for run in runs)),
        head=Markup(head),
        runs=[
            {"letter": name, "facts": _facts(run), "command": _command(run.manifest.command)}
            for run, name in zip(runs, letters, strict=True)
        ],
        score_columns=letters if len(runs) > 1 else ["score"],
        count_columns=["n", "unparsed", "truncated", "errors", *(["reasoning tokens"] if has_reasoning(runs) else [])],
        scores=_scores(runs, names),
        notes=notes,
        comparison=None if found is None else _comparison(found),
        index=Markup(script_json(index)),
        inline={key: Markup(text) for key, text in (inline or {}).items()},
        tail=Markup(tail),
    )


def _sha(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(run: ScoredRun) -> dict[str, object]:
    """The run's settings, as terms and values."""
    manifest = run.manifest
    backend = manifest.backend
    backend = backend if isinstance(backend, Mapping) else {}
    settings = manifest.settings
    prompting = {key: value for row in run.rows.values() for key, value in row.parsed_signature.prompting.items()}
    rows = {
        "run": run.name,
        "model": run.model,
        "prompts": ", ".join(f"{key} {value}" for key, value in prompting.items())
        or "unknown (answers from a predictions file)",
        "data": settings.get("data"),
        "backend": ", ".join(str(backend[key]) for key in ("backend", "device_name", "dtype") if backend.get(key)),
        "started": (manifest.created or "").replace("T", " ")[:16],
        "rescored": str((manifest.rescored or {}).get("at", "")).replace("T", " ")[:16],
        "state": "" if manifest.state in (None, "complete") else manifest.state,
        "evalkit": manifest.evalkit,
    }
    return {term: value for term, value in rows.items() if value}


def _command(command: object) -> str:
    if not isinstance(command, list) or not command:
        return ""
    first, *rest = map(str, command)
    return shlex.join([first.rsplit("/", 1)[-1], *rest])


def anchor(name: str) -> str:
    """The section of a split."""
    return "#" + quote(name, safe="/+")


def has_reasoning(runs: Sequence[ScoredRun]) -> bool:
    """Whether a run has scores of answers with reasoning."""
    return any(row.reasoning_tokens is not None for run in runs for row in run.rows.values())


def _scores(runs: Sequence[ScoredRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """The scores of each split with intervals, counts and signatures."""
    found = []
    reasons = has_reasoning(runs)
    for name in dict.fromkeys([*names, *(name for run in runs for name in run.rows)]):
        rows = [run.rows.get(name) for run in runs]
        there = [row for row in rows if row is not None]
        columns = [
            [f"{row.n:,}" for row in there], [f"{row.unparsed:,}" for row in there], list(map(truncated_text, there)),
            [f"{row.errors:,}" for row in there], *([list(map(reasoning_text, there))] if reasons else []),
        ]  # fmt: skip
        found.append(
            {
                "task": name,
                "anchor": "" if there[0].task in MEANS else anchor(name),
                "metric": there[0].metric,
                "cells": ["" if row is None else Entry("", "", row).cell for row in rows],
                "counts": [" · ".join(each if len(set(each)) > 1 else each[:1]) for each in columns],
                "signatures": list(dict.fromkeys(row.signature for row in there)),
            }
        )
    return found


def _comparison(found: Comparison) -> dict[str, Any]:
    """The paired differences, with notes on how to interpret them."""
    tables = tables_of(found)
    return {
        "tables": tables,
        "refused": [f"Not compared: {sentence}" for sentence in refusals(found)],
        "notes": [note for table in tables for note in table.notes],
    }
