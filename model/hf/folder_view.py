"""A view of a folder without some of its files, for libraries that read all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def folder_view(
    folder: Path, *, without: Collection[str] = (), replaced: Mapping[str, bytes] | None = None
) -> Iterator[Path]:
    """A temporary folder of links to the entries of ``folder``; the folder itself if nothing changes.

    Args:
        without: names that the view leaves out.
        replaced: new contents by name; the name need not exist in ``folder``.
    """
    replaced = replaced or {}
    if not replaced and not any((folder / name).exists() for name in without):
        yield folder
        return
    with TemporaryDirectory(prefix="evalkit-") as name:
        view = Path(name) / folder.resolve().name  # transformers names modules of remote code after the folder
        view.mkdir()
        for entry in folder.iterdir():
            if entry.name not in without and entry.name not in replaced:
                (view / entry.name).symlink_to(entry.resolve())
        for entry_name, content in replaced.items():
            (view / entry_name).write_bytes(content)
        yield view
