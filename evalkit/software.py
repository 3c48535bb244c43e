"""The digest of the software that computes results: evalkit's source, its plugins' and the installed packages.

Results that are remembered from one command to the next carry it, so that another version of transformers, or one line
that was edited in an editable installation, is noticed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from evalkit.version import __version__

PARTS = ("evalkit", "evalkit.tasks", "evalkit.metrics", "evalkit.model", "evalkit.results")
"""evalkit's top-level packages: in an editable installation, their folders are not inside one another."""
GROUPS = ("evalkit.tasks", "evalkit.metrics", "evalkit.families", "evalkit.backends")
"""The groups of entry points that plugins register under."""
MEDIA = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm", ".mkv", ".safetensors", ".pyc")
"""Bundled data, whose own digests are compared where they are used."""
INSTALLED = (".dist-info", ".egg-info", ".egg-link")
OWN = ("evalkit_vlm-", "evalkit_vlm.")


def digest_of_software() -> str:
    """The digest of evalkit's and its plugins' source files, and of every installed package's name and version.

    Files are read again only if they have changed: a process may live longer than a version of a plugin.
    """
    return _digest(__version__, tuple(_installed()), tuple(_states()))


def state_of_software() -> str:
    """A digest of what ``digest_of_software`` covers, from the files' sizes and times instead of their contents.

    It is quicker, and also changes when a file is written again with the same content.
    """
    state = hashlib.sha256(_machine().encode())
    for part in (*_installed(), *_states()):
        state.update(f"{part}\0".encode(errors="surrogateescape"))
    return state.hexdigest()


def _states() -> Iterator[tuple[str, int, int, int, int]]:
    for place in _sources():
        for path in sorted(_files(place)):
            try:
                found = Path(path).stat()
            except OSError:  # a link to nothing, such as an editor's lock, or a file that was just removed
                continue
            if stat.S_ISREG(found.st_mode):
                yield path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _machine() -> str:
    return f"{__version__}\0{sys.version}\0{platform.platform()}\0"


@lru_cache(maxsize=4)
def _digest(version: str, installed: tuple[str, ...], files: tuple[tuple[str, int, int, int, int], ...]) -> str:
    state = hashlib.sha256(_machine().encode())
    for name in installed:
        state.update(f"{name}\0".encode(errors="surrogateescape"))
    for path, *_ in files:
        content = Path(path).read_bytes()
        state.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape"))
        state.update(content)
    return state.hexdigest()


def _installed() -> list[str]:
    """Names and versions of installed packages, by the names of their folders of metadata.

    A package's own copies of others do not count: setuptools adds the folder with its copies to the path when it is
    imported, which says nothing about what is installed.  Neither does evalkit itself, whose source is read: of an
    editable installation there is a second folder of metadata, which is found from the folder of its source only.
    """
    found = set()
    for folder in map(Path, sys.path):
        try:
            if not (folder.parent / "__init__.py").is_file():
                found |= {
                    path.name for path in folder.iterdir() if path.suffix in INSTALLED and not path.name.startswith(OWN)
                }
        except OSError:
            continue
    return sorted(found)


def _sources() -> list[str]:
    """The folders, or single files, of evalkit's and its plugins' packages."""
    points = entry_points()
    modules = {point.module.partition(".")[0] for group in GROUPS for point in points.select(group=group)}
    found: set[str] = set()
    for name in (*PARTS, *sorted(modules)):
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):  # the registry reports it where it is used
            continue
        if spec is None:
            continue
        if spec.submodule_search_locations:
            found |= set(spec.submodule_search_locations)
        elif spec.origin is not None:
            found.add(spec.origin)
    return sorted(found)


def _files(place: str) -> Iterator[str]:
    """The files that count, of a folder or a single one.  A link to a folder is not followed."""
    if Path(place).is_file():
        yield place
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if name != "__pycache__"]
        yield from (f"{folder}{os.sep}{name}" for name in names if not name.lower().endswith(MEDIA))
