"""Paths of images are spelled as pathlib spells them, since records and identities hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.data import path_in


@pytest.mark.parametrize("folder", [".", "data", "/data/vlm", "/", "../data"])
@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "b/a.jpg",
        "./a.jpg",
        "b/./a.jpg",
        "b//a.jpg",
        "b/../a.jpg",
        "../a.jpg",
        ".hidden",
        "/x/a.jpg",
        "b/",
        "a b",
    ],
)
def test_spelling_is_that_of_pathlib(folder: str, name: str) -> None:
    assert path_in(Path(folder), name) == str(Path(folder) / name)
