"""How this copy of evalkit was installed: its distribution, version and commit, and the command that adds an extra.

The distribution on PyPI is called ``evalkit-vlm``: ``evalkit`` there is another project.  Package and command are
``evalkit``.
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from evalkit.commit import checkout_commit
from evalkit.version import __version__

DISTRIBUTION = "evalkit-vlm"


def install_command(extra: str) -> str:
    """The ``pip`` command that adds ``extra`` to this installation, for messages.

    PEP 610's ``direct_url.json`` says where the copy comes from: a checkout, a repository, a wheel file, or else an
    index.
    """
    source = _direct_url()
    url = str(source.get("url", ""))
    if "dir_info" in source:
        editable = "-e " if source["dir_info"].get("editable") else ""
        return f"pip install {editable}'.[{extra}]' in {_path(url)}"
    if "vcs_info" in source:
        vcs = source["vcs_info"]
        return f"pip install '{DISTRIBUTION}[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}'"
    if url:
        return f"pip install '{DISTRIBUTION}[{extra}] @ {url}'"
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def version_text() -> str:
    """The version, with the commit where it is known: ``0.1.0 (commit 1a2b3c4d5e6f)``."""
    found = commit()
    return f"{__version__} (commit {found})" if found else __version__


def commit() -> str | None:
    """The commit that this copy was built from, or that its checkout is at; ``-dirty`` where files were changed."""
    try:
        written = import_module("evalkit._commit")  # by setup.py, into wheels and source distributions
    except ImportError:
        return checkout_commit(Path(__file__).resolve().parents[1])
    return str(written.COMMIT)


def _direct_url() -> dict[str, Any]:
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
        found = json.loads(text) if text else {}
    except (PackageNotFoundError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _path(url: str) -> str:
    return unquote(urlsplit(url).path)
