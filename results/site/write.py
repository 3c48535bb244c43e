"""The folder of a site.

site/
    index.html               the leaderboard; opens in a browser without server or network
    site.css, site.js
    reports.json             which reports are of which scores, so that they are not made twice
    reports/RUN/             a report on each run (``evalkit report``)

Reports are written from the runs' records and never copied: a received run folder may contain any page.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evalkit.errors import RunFailed, UserError
from evalkit.jsonl import read_json
from evalkit.results.html import template
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import models_table
from evalkit.results.report.page import MARK as REPORT_MARK
from evalkit.results.report.page import asset as report_asset
from evalkit.results.report.page import script_json
from evalkit.results.report.write import write_report
from evalkit.results.samples.context import context_of
from evalkit.results.samples.join import check_runs
from evalkit.results.store.files import inside, make_folder, to_json, write_atomically
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.store.seal import digest_of_file
from evalkit.results.tables import cells_of
from evalkit.version import __version__

from .content import site_content

MARK = '<meta name="generator" content="evalkit leaderboard">'
"""Marks a page that evalkit wrote and may overwrite."""
PAGE, REPORTS, KNOWN = "index.html", "reports", "reports.json"
SCRIPTS = ("state", "table", "details", "main")
SAMPLES = 200
"""Samples per split in a report of a site by default: a site has many."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}-[0-9a-f]{8}")


def asset(name: str) -> str:
    """A file of ``assets``."""
    return (files("evalkit.results.site") / "assets" / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class SiteOptions:
    """What a site contains.

    Attributes:
        samples: the number of samples per split in the reports; 0 for no reports.
        sort: the column by which the runs are sorted at first.
    """

    title: str = "Leaderboard"
    samples: int = SAMPLES
    means: bool = False
    sort: str | None = None


def write_site(
    entries: Sequence[Entry],
    folders: Mapping[str, Path],
    out: Path,
    options: SiteOptions,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Path:
    """Write the site of these runs into the folder ``out``; returns its page.

    Args:
        folders: the run folders by the runs' names.
        tell: is called with what the user should know.

    Raises:
        UserError: ``out`` contains something else, or ``options.sort`` is not a column.
        RunFailed: a file cannot be written.
    """
    page = inside(out, PAGE)
    if page.is_file() and MARK.encode() not in page.read_bytes()[:2000]:
        raise UserError(f"{page} exists and is not a site written by evalkit; give another --site, or delete it.")
    if out.is_dir() and not page.is_file() and any(out.iterdir()):
        raise UserError(f"--site {out} contains other files; give an empty or new folder.")
    table = models_table(entries, sort=options.sort, means=options.means)
    make_folder(out)
    manifests = {run: _manifest(folder, tell) for run, folder in folders.items()}
    reports = _reports(folders, out, options.samples, tell) if options.samples else {}
    if not options.samples:
        _remove(out, set())
    content = site_content(entries, manifests, reports, means=options.means, sort=options.sort)
    # The page looks like a report, and makes its elements as one does.
    write_atomically(out / "site.css", report_asset("report.css") + asset("site.css"))
    modules = [report_asset("dom.js"), *(asset(f"{name}.js") for name in SCRIPTS)]
    write_atomically(out / "site.js", '"use strict";\n(() => {\n' + "\n".join(modules) + "})();\n")
    allowed = "script-src 'self' file:; style-src 'self' file:; img-src 'self' file:"
    html = template("site.html").render(
        mark=Markup(MARK),
        policy=Markup(f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"),
        title=options.title,
        header=table.header,
        rows=[cells_of(row) for row in table.rows],
        notes=table.notes,
        version=__version__,
        content=Markup(script_json(content)),
    )
    write_atomically(page, html.encode(errors="replace"))
    return page


def _manifest(folder: Path, tell: Callable[[str], None]) -> Manifest | None:
    try:
        return RunFolder.existing(folder).read_manifest()
    except UserError as error:
        tell(f"note: {error}")
        return None


# ------------------------------------------------------------------------------------------------------------- reports


def _reports(folders: Mapping[str, Path], out: Path, samples: int, tell: Callable[[str], None]) -> dict[str, str]:
    """Write the reports that are missing or of other scores; returns their addresses by run."""
    known = _known(out)
    named = {run: folder_name(run) for run in folders}
    _remove(out, set(named.values()))
    make_folder(inside(out, REPORTS))
    found, digests = {}, {}
    for run, folder in folders.items():
        name = named[run]
        target = inside(out, REPORTS, name)
        try:
            digest = digest_of_run(folder, samples)
            if known.get(name) != digest or not (target / PAGE).is_file():
                if target.is_dir() and not _is_report(target):
                    raise UserError(f"{target} is not a report written by evalkit; delete it.")
                scored = ScoredRun.open(folder)
                contexts = {split: context_of([scored], split, None) for split in check_runs([scored])}
                written = write_report([folder], contexts, target, most=samples)
                tell(f"{run}: a report on {written.samples:,} samples, {written.bytes / 1e6:.1f} MB")
        except (UserError, RunFailed) as error:
            tell(f"note: {run} has no report in the site: {error}")
            continue
        found[run] = f"{REPORTS}/{name}/{PAGE}"
        digests[name] = digest
        write_atomically(inside(out, KNOWN), to_json(digests | {k: v for k, v in known.items() if k not in digests}))
    write_atomically(inside(out, KNOWN), to_json(digests, indent=1) + "\n")
    return found


def folder_name(run: str) -> str:
    """A name for a run's folder in the site: plain letters, and a digest of the run's name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", run).strip(".-_")[:60] or "run"
    return f"{plain}-{blake2b(run.encode(errors='surrogatepass'), digest_size=4).hexdigest()}"


def digest_of_run(folder: Path, samples: int) -> str:
    """A digest of what a report is made of: scores, answers and the version of evalkit; not of the data."""
    files = sorted(path for path in folder.glob("*.json*") if path.is_file() and not path.is_symlink())
    parts = [__version__, str(samples), *(f"{path.name} {digest_of_file(path)}" for path in files)]
    return blake2b("\n".join(parts).encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _known(out: Path) -> dict[str, str]:
    """The digests of the reports that are there, by folder; nothing if they are not known."""
    try:
        content: Any = read_json(out / KNOWN)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: digest for name, digest in content.items() if _NAME.fullmatch(name) and isinstance(digest, str)}


def _remove(out: Path, kept: set[str]) -> None:
    """Remove the reports that an earlier call wrote on runs that are no longer in the site."""
    for name in _known(out):
        target = out / REPORTS / name
        if name not in kept and not (out / REPORTS).is_symlink() and not target.is_symlink() and _is_report(target):
            shutil.rmtree(target, ignore_errors=True)
    if not kept:
        (out / KNOWN).unlink(missing_ok=True)
        with suppress(OSError):
            (out / REPORTS).rmdir()


def _is_report(folder: Path) -> bool:
    try:
        return REPORT_MARK.encode() in (folder / PAGE).read_bytes()[:2000]
    except OSError:
        return False
