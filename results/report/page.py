"""A report's page: what stands in it before any script runs, and how data are put where scripts find them.

Everything that comes from a model, a data set or a user is escaped: here by ``html.escape``; in the scripts' data by
``script_json``, in which nothing can end a script element; in the scripts by writing text, never markup.  What is let
in and run is also fenced by a content security policy: the report's own scripts and nothing from any network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import quote

from evalkit.results.compare.comparison import Comparison
from evalkit.results.compare.tables import letter, refusals, tables_of
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.store.files import to_json
from evalkit.results.store.scored_run import ScoredRun, how_asked
from evalkit.results.tables import Table, flat
from evalkit.task_groups import MEANS

SCRIPTS = ("text", "dom", "data", "charts", "images", "gallery", "sample", "main")
MARK = '<meta name="generator" content="evalkit report">'
"""By which a page is known that may be written anew."""
_IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def script_json(content: Any) -> str:
    """JSON that is JavaScript too, and that ends no script element whatever it says."""
    return to_json(content).translate(_IN_SCRIPT)


def asset(name: str) -> str:
    """A file of ``assets``."""
    return (files("evalkit.results.report") / "assets" / name).read_text(encoding="utf-8")


def script() -> str:
    """The report's script: its parts one after the other in a scope of their own."""
    parts = "\n".join(asset(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def esc(text: object) -> str:
    return html.escape(flat(str(text)))


# ------------------------------------------------------------------------------------------------------------ the page


def page(
    runs: Sequence[ScoredRun],
    names: Sequence[str],
    found: Comparison | None,
    notes: Sequence[str],
    index: Mapping[str, Any],
    inline: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The page in pieces.

    Args:
        index: what the script must know at once.
        inline: texts by the id of the element they go into, where all is in this one file.
    """
    single = inline is not None
    style, code, said = asset("report.css"), script(), script_json(index)
    title = " and ".join(dict.fromkeys(run.model for run in runs))
    if single:
        allowed = f"script-src {_sha(code)}; style-src {_sha(style)}; img-src data:"
        head, tail = f"<style>{style}</style>", f"<script>{code}</script>"
    else:
        allowed = "script-src 'self' file:; style-src 'self' file:; img-src 'self' file:"
        head, tail = '<link rel="stylesheet" href="report.css">', '<script src="report.js"></script>'
    before, after = (
        Template(asset("page.html"))
        .substitute(
            mark=MARK,
            policy=f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'",
            title=f"{esc(title)} · evalkit report",
            heading=esc(title),
            head=head,
            facts="".join(_facts(run, letter(place) if len(runs) > 1 else "") for place, run in enumerate(runs)),
            scores=_scores(runs, names),
            comparison="" if found is None else _comparison(found),
            notes=_notes(notes),
            index=said,
            tail=tail,
            data="\0",
        )
        .split("\0")
    )
    yield before
    for key, text in (inline or {}).items():
        yield f'<script type="text/plain" id="{key}">{text}</script>\n'
    yield after


def _sha(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(run: ScoredRun, name: str) -> str:
    """What ran, as a list of terms."""
    manifest = run.manifest
    backend = manifest.get("backend")
    backend = backend if isinstance(backend, Mapping) else {}
    settings = manifest["settings"]
    asked = {key: value for row in run.rows.values() for key, value in how_asked(str(row["signature"])).items()}
    rows = {
        "run": run.name,
        "model": run.model,
        "prompts": ", ".join(f"{key} {value}" for key, value in asked.items())
        or "not known: the answers came from a file",
        "data": settings.get("data"),
        "on": ", ".join(str(backend[key]) for key in ("backend", "device_name", "dtype") if backend.get(key)),
        "started": str(manifest.get("created", "")).replace("T", " ")[:16],
        "scored again": str((manifest.get("rescored") or {}).get("at", "")).replace("T", " ")[:16],
        "state": "" if manifest.get("state") in (None, "complete") else manifest["state"],
        "evalkit": manifest.get("evalkit"),
    }
    terms = "".join(f"<div><dt>{key}</dt><dd>{esc(value)}</dd></div>" for key, value in rows.items() if value)
    command = _command(manifest.get("command"))
    told = f'<details><summary>command</summary><p class="code">{esc(command)}</p></details>' if command else ""
    label = f'<h2 class="run run-{name.lower()}">{name}</h2>' if name else ""
    return f'<section class="facts" aria-label="run {name}">{label}<div><dl>{terms}</dl>{told}</div></section>'


def _command(command: object) -> str:
    if not isinstance(command, list) or not command:
        return ""
    first, *rest = map(str, command)
    return shlex.join([first.rsplit("/", 1)[-1], *rest])


def anchor(name: str) -> str:
    """A split's place in the page."""
    return "#" + quote(name, safe="/+")


def _scores(runs: Sequence[ScoredRun], names: Sequence[str]) -> str:
    """Each split's scores with intervals, counts and signature."""
    every = list(dict.fromkeys([*names, *(name for run in runs for name in run.rows)]))
    several = len(runs) > 1
    head = ["task", "metric", *([letter(place) for place in range(len(runs))] if several else ["score"])]
    lines = ["<thead><tr>"]
    lines += [f'<th scope="col"{_number(place >= 2)}>{esc(name)}</th>' for place, name in enumerate(head)]
    lines += [f'<th scope="col" class="number">{name}</th>' for name in ("n", "unparsed", "cut off", "errors")]
    lines.append('<th scope="col">signature</th></tr></thead><tbody>')
    for name in every:
        rows = [run.rows.get(name) for run in runs]
        there = [row for row in rows if row is not None]
        label = esc(name) if there[0]["task"] in MEANS else f'<a href="{esc(anchor(name))}">{esc(name)}</a>'
        lines.append(f'<tr><th scope="row">{label}</th><td>{esc(there[0]["metric"])}</td>')
        cells = ["" if row is None else Entry("", "", dict(row)).cell for row in rows]
        lines += [f'<td class="number score">{esc(cell) or "–"}</td>' for cell in cells]
        for key in ("n", "unparsed", "truncated", "errors"):
            counts = [f"{row.get(key, 0):,}" for row in there]
            lines.append(f'<td class="number">{" · ".join(counts if len(set(counts)) > 1 else counts[:1])}</td>')
        signatures = dict.fromkeys(str(row["signature"]) for row in there)
        told = "<br>".join(f"<code>{esc(signature)}</code>" for signature in signatures)
        lines.append(f'<td class="signature">{told}</td></tr>')
    scroll = '<div class="scroll" tabindex="0" role="group" aria-label="scores">'
    return f"{scroll}<table>{''.join(lines)}</tbody></table></div>"


def _number(yes: bool) -> str:
    return ' class="number"' if yes else ""


def _comparison(found: Comparison) -> str:
    """The paired differences, and what must be known to read them."""
    tables = tables_of(found)
    notes = [note for table in tables for note in table.notes]
    refused = [f"Not compared: {sentence}" for sentence in refusals(found)]
    return (
        f'<section class="comparison" aria-labelledby="comparison-heading"><h2 id="comparison-heading">B against A</h2>'
        f'<div class="beside">{"".join(map(_table, tables))}</div>{_notes(refused, "refused")}'
        f"<details><summary>How to read these tables</summary>{_notes(notes)}</details></section>"
    )


def _table(table: Table) -> str:
    names = list(map(esc, table.header))
    head = "".join(f'<th scope="col"{_number(i >= table.left)}>{name}</th>' for i, name in enumerate(names))
    rows = [
        "".join(f"<td{_number(i >= table.left)}>{esc(cell)}</td>" for i, cell in enumerate(row)) for row in table.rows
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    title = esc(table.title)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{title}"><table><caption>{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _notes(notes: Sequence[str], kind: str = "notes") -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{esc(note)}</li>" for note in notes)}</ul>' if notes else ""
