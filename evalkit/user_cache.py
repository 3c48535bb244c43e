"""Small JSON files in the user's cache folder: results that are expensive to find again, under a key of their inputs.

The folder is ``$XDG_CACHE_HOME/evalkit``, by default ``~/.cache/evalkit``.  Nothing depends on it: where a file is
missing or corrupt, or the folder cannot be written, the result is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalkit.jsonl import read_json

LARGEST_NUMBER = 400
"""Files of one kind that are kept: the oldest are removed."""


def cache_folder() -> Path:
    """Where results are remembered."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit"


def digest_of_value(value: Any) -> str:
    """A digest of a plain JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class Remembered:
    """Results of one kind.

    Args:
        kind: the folder's name.
    """

    def __init__(self, kind: str) -> None:
        self._folder = cache_folder() / kind

    def get(self, key: Any) -> Any:
        """The result that was put under ``key``, a plain JSON value; None if there is none."""
        path = self._path(key)
        try:
            content = read_json(path, own=True)
            if content["key"] == digest_of_value(key) and content["checksum"] == digest_of_value(content["value"]):
                return content["value"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def put(self, key: Any, value: Any) -> None:
        """Remember ``value``, a plain JSON value, under ``key``."""
        path = self._path(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        content = {"key": digest_of_value(key), "checksum": digest_of_value(value), "value": value}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(content, ensure_ascii=False)
            temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
            temporary.replace(path)
            self._remove_oldest()
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def forget(self, key: Any) -> None:
        """Remove what was put under ``key``."""
        with suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        return self._folder / f"{digest_of_value(key)[:32]}.json"

    def _remove_oldest(self) -> None:
        paths = list(self._folder.glob("*.json"))
        if len(paths) <= LARGEST_NUMBER:
            return
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[: len(paths) - LARGEST_NUMBER]:
            path.unlink(missing_ok=True)
