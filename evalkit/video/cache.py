"""Resized frames on disk: decoding a video takes much longer than reading what a model sees of it.

An entry is a file of the cache folder: a checksum and the pixels.  Its name is a digest of the video's content, of the
numbers of the frames, of their size and of the decoder.  Any number of processes can use the folder: entries appear
complete, and a damaged one is removed and made again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import UserError
from evalkit.types import Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

LIMIT_VARIABLE = "EVALKIT_VIDEO_CACHE_GB"
DEFAULT_GB = 20.0
KEPT_SECONDS = 24 * 3600.0
"""Entries used within this time are not removed.  A benchmark larger than the cache would otherwise push out each of
its videos before it comes up again in the next run."""
UNFINISHED_SECONDS = 3600.0
"""Temporary files older than this are of processes that were killed."""
SPARE_BYTES = 2**30
"""Left free on the disk."""
VERSION = 1
"""Of the pixels: another way of resizing needs other entries."""
_SUFFIX, _CHECKSUM = ".frames", 8


class FrameCache:
    """Frames in ``folder``, at most ``limit`` bytes of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._bytes: int | None = None  # as of the last scan, with what was written since
        self._lock = threading.Lock()

    def get(self, key: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """The frames of an entry; None if there is none, or it is damaged."""
        import numpy as np
        import xxhash

        path = self._path(key)
        try:
            content = np.fromfile(path, np.uint8)
            if len(content) == _CHECKSUM + prod(shape):
                frames = content[_CHECKSUM:]
                if xxhash.xxh3_64_digest(frames.data) == content[:_CHECKSUM].tobytes():
                    os.utime(path)  # the time of last use
                    return frames.reshape(shape)
            path.unlink(missing_ok=True)
        except OSError:
            pass
        return None

    def put(self, key: str, frames: NDArray[np.uint8]) -> None:
        """Write an entry, if it fits; failures are left to the log, since the frames can be decoded again."""
        import xxhash

        size = frames.nbytes + _CHECKSUM
        temporary = self._folder / f".{key}.{os.getpid()}.{threading.get_ident()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._fits(size):
                return
            with temporary.open("wb") as file:
                file.write(xxhash.xxh3_64_digest(frames.data))
                file.write(frames.data)
            temporary.replace(self._path(key))
        except OSError as error:
            log.info("frames are not cached in %s: %s", self._folder, error)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _fits(self, size: int) -> bool:
        """Whether there is room for ``size`` bytes, once entries are removed that have not been used for long."""
        if size > self._limit or shutil.disk_usage(self._folder).free < size + SPARE_BYTES:
            return False
        with self._lock:
            if self._bytes is None or self._bytes + size > self._limit:
                self._bytes = self._remove_down_to(self._limit - size)
            if self._bytes + size > self._limit:
                return False
            self._bytes += size
            return True

    def _remove_down_to(self, limit: int) -> int:
        """Remove the entries unused for longest, until the others have ``limit`` bytes; returns how many they have."""
        now, entries = time.time(), []
        for file in os.scandir(self._folder):
            with suppress(OSError):  # another process removes entries, too
                status = file.stat(follow_symlinks=False)
                if file.name.endswith(_SUFFIX):
                    entries.append((status.st_mtime, status.st_size, file.path))
                elif file.name.startswith(".") and now - status.st_mtime > UNFINISHED_SECONDS:
                    Path(file.path).unlink(missing_ok=True)
        found = sum(size for _, size, _ in entries)
        for used, size, path in sorted(entries):
            if found <= limit or now - used < KEPT_SECONDS:
                break
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
            found -= size
        return found


def entry_key(digest: str, frames: Sequence[int], size: Size, decoder: str) -> str:
    """The key of an entry; ``digest`` is that of the complete file, in which ``frames`` are counted."""
    parts = f"{VERSION}\0{digest}\0{','.join(map(str, frames))}\0{size[0]}x{size[1]}\0{decoder}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def frame_cache() -> FrameCache | None:
    """The cache of this user; None if it is switched off.

    Raises:
        UserError: the environment variable with its size is no number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        gigabytes = float(text) if text.strip() else DEFAULT_GB
    except ValueError:
        gigabytes = -1.0
    if not isfinite(gigabytes) or gigabytes < 0:
        raise UserError(f"{LIMIT_VARIABLE}={text}: give a number of gigabytes, or 0 for no cache.")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return _opened(root / "evalkit" / "frames", int(gigabytes * 1e9)) if gigabytes else None


@cache
def _opened(folder: Path, limit: int) -> FrameCache:
    return FrameCache(folder, limit)
