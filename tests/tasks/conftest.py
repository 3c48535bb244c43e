from __future__ import annotations

from pathlib import Path

import pytest

from ..official_root import write_official_root


@pytest.fixture(scope="session")
def official_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the annotation files of all tasks, and none of their images.  Who changes a file restores it."""
    root = tmp_path_factory.mktemp("official") / "root"
    write_official_root(root)
    return root
