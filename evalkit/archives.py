"""Zip archives of videos, read where they lie: a file is unpacked when it is first needed, once, into the user's cache.

The cache folder is ``$XDG_CACHE_HOME/evalkit/videos``.  To read a few frames of a compressed video, all of it must be
decompressed anyway.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

ARCHIVES = ("*.zip", "*/*.zip")
"""Where archives are, below a benchmark's folder."""
CORRUPT = (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error)
"""What reading a corrupt or encrypted archive raises, beside ``OSError``."""


def cache_folder() -> Path:
    """Where videos are unpacked."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit" / "videos"


@dataclass(frozen=True)
class Member:
    """A file in a zip archive."""

    archive: str
    name: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """Its content.  Raises ``OSError`` if it cannot be read."""
        try:
            with zipfile.ZipFile(self.archive) as archive:
                return archive.read(self.name)
        except CORRUPT as error:
            raise OSError(f"{self} cannot be read ({error}); download the archive again") from error

    def unpacked(self) -> Path:
        """The file in the cache folder, unpacked if it is not there.  Raises ``OSError``."""
        status = Path(self.archive).stat()
        key = f"{Path(self.archive).resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{self.name}"
        suffix = Path(self.name).suffix
        target = cache_folder() / f"{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:32]}{suffix}"
        if not target.exists():
            self.unpack(target)
        return target

    def unpack(self, target: Path) -> None:
        """Unpack it to ``target``, which is there only when it is complete.  Raises ``OSError``."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        log.info("unpacking %s to %s", self, target)
        try:
            with zipfile.ZipFile(self.archive) as archive:
                free = shutil.disk_usage(target.parent).free
                if archive.getinfo(self.name).file_size > free:
                    raise OSError(f"{self} has {archive.getinfo(self.name).file_size:,} bytes; {free:,} are free")
                with archive.open(self.name) as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            temporary.replace(target)
        except CORRUPT as error:
            raise OSError(f"{self} cannot be unpacked ({error}); download the archive again") from error
        finally:
            temporary.unlink(missing_ok=True)


def unpacked_folder(members: Sequence[Member]) -> Path:
    """The files of a folder in an archive in one folder of the cache.  Raises ``OSError``."""
    key = "\0".join(sorted(map(str, members)))
    folder = cache_folder() / hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    for member in members:
        target = folder / member.name.rpartition("/")[2]
        if not target.exists():
            member.unpack(target)
    return folder


@cache
def archive_members(root: str) -> Mapping[str, Sequence[Member]]:
    """The files in all zip archives at the root and one folder below, by their last name.

    Raises:
        OSError: an archive cannot be read.
    """
    found: dict[str, list[Member]] = {}
    for path in sorted({path for pattern in ARCHIVES for path in Path(root).glob(pattern)}):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError) as error:
            raise OSError(f"{path} is not a complete zip archive ({error}); download it again") from error
        for name in names:
            if not name.endswith("/") and "__MACOSX" not in name:
                found.setdefault(name.rpartition("/")[2], []).append(Member(str(path), name))
    return found


@cache
def archive_folders(root: str) -> Mapping[str, Sequence[Member]]:
    """The files in all zip archives, as ``archive_members`` has them, by the last name of their folder.

    Raises:
        OSError: an archive cannot be read.
    """
    found: dict[str, list[Member]] = {}
    for members in archive_members(root).values():
        for member in members:
            found.setdefault(member.name.rpartition("/")[0].rpartition("/")[2], []).append(member)
    return found
