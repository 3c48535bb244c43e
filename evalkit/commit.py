"""The commit of a git checkout.  ``setup.py`` runs this file by its path: it imports nothing of evalkit."""

from __future__ import annotations

import subprocess
from pathlib import Path

GIT_TIMEOUT = 5.0  # seconds; a repository on a network drive may be slow


def checkout_commit(root: Path) -> str | None:
    """The commit of the git checkout at ``root``; None where ``root`` is not the top folder of one."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
