"""The cache of resized frames: its key, its limit, damaged entries, and several processes at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import UserError
from evalkit.types import FrameSelection
from evalkit.video import VideoFile
from evalkit.video.cache import KEPT_SECONDS, FrameCache, entry_key, frame_cache

from .clips import number_in, write_clip

SHAPE = (4, 10, 10, 3)
BYTES = 1200 + 8  # of an entry


def frames(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, np.uint8)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.frames"))


def age(folder: Path, key: str, days: float) -> None:
    then = time.time() - days * KEPT_SECONDS
    os.utime(folder / f"{key}.frames", (then, then))


def test_entries_are_found_again(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "frames", 10**6)
    assert cache.get("a", SHAPE) is None
    cache.put("a", frames(1))
    cache.put("b", frames(2))
    found = FrameCache(tmp_path / "frames", 10**6).get("a", SHAPE)
    assert found is not None
    assert np.array_equal(found, frames(1))
    found[0] = 0  # it can be written to
    assert [path.name for path in (tmp_path / "frames").iterdir() if path.name.startswith(".")] == []


def test_keys_differ_in_every_part() -> None:
    parts = [("d", (1, 2), (8, 9), "PyAV 1"), ("e", (1, 2), (8, 9), "PyAV 1"), ("d", (12,), (8, 9), "PyAV 1")]
    parts += [("d", (1, 2), (9, 8), "PyAV 1"), ("d", (1, 2), (8, 9), "PyAV 2"), ("d", (1, 2, 2), (8, 9), "PyAV 1")]
    assert len({entry_key(*one) for one in parts}) == len(parts)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "checksum", "other shape"])
def test_damaged_entries_are_removed(tmp_path: Path, damage: str) -> None:
    cache = FrameCache(tmp_path, 10**6)
    cache.put("a", frames(1))
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1 if damage == "flip" else 0] ^= 1
    changed = {"truncate": content[:-5], "empty": b"", "other shape": content + b"more"}
    path.write_bytes(changed.get(damage, content))
    assert cache.get("a", SHAPE) is None
    assert entries(tmp_path) == []


def test_the_limit_holds_and_what_was_unused_for_longest_goes_first(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, 3 * BYTES)
    for key in "abc":
        cache.put(key, frames(1))
    for key, days in (("a", 2.0), ("b", 3.0), ("c", 4.0)):
        age(tmp_path, key, days)
    assert cache.get("c", SHAPE) is not None  # used now
    cache.put("d", frames(2))
    assert [path.stem for path in entries(tmp_path)] == ["a", "c", "d"]
    age(tmp_path, "a", 0.5)
    cache.put("e", frames(3))  # the others were used within a day: a larger benchmark does not push them out
    assert [path.stem for path in entries(tmp_path)] == ["a", "c", "d"]
    FrameCache(tmp_path, BYTES - 1).put("f", frames(4))
    assert [path.stem for path in entries(tmp_path)] == ["a", "c", "d"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".old.1.1").write_bytes(b"x" * 5000)
    (tmp_path / ".new.1.1").write_bytes(b"x")
    os.utime(tmp_path / ".old.1.1", (0, 0))
    FrameCache(tmp_path, 10**6).put("a", frames(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.1.1", "a.frames"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = FrameCache(tmp_path / "file" / "frames", 10**6)
    cache.put("a", frames(1))
    assert cache.get("a", SHAPE) is None


def _write_and_read(folder: str, first: int) -> int:
    """Write and read entries that other processes write and damage; returns how many reads found something else."""
    cache, wrong = FrameCache(Path(folder), 6 * BYTES), 0
    for step in range(150):
        number = (first + step) % 8
        cache.put(f"{number}", frames(number))
        found = cache.get(f"{number}", SHAPE)
        wrong += found is not None and not np.array_equal(found, frames(number))
        if step % 20 == first:
            (Path(folder) / f"{number}.frames").write_bytes(b"damaged" * first)
    return wrong


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.starmap(_write_and_read, [(str(tmp_path), first) for first in range(4)]) == [0, 0, 0, 0]
    assert all(not path.name.startswith(".") for path in tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------- of a video


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache that is switched on."""
    monkeypatch.setenv("EVALKIT_VIDEO_CACHE_GB", "0.5")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evalkit" / "frames"


def test_frames_of_videos_are_cached(tmp_path: Path, cached: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 30)
    selection = FrameSelection((3, 9, 9), (0.1, 0.3, 0.3), (80, 60), 2.0)
    first = VideoFile(str(path)).frames(selection)
    (entry,) = entries(cached)
    # Another name and a segment with the same frames: the content is what counts.
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    shifted = FrameSelection((0, 6, 6), (0.1, 0.3, 0.3), (80, 60), 2.0)
    assert np.array_equal(VideoFile(str(copy), 0.1).frames(shifted), first)
    assert entries(cached) == [entry]
    # The entry is what is read.
    marked = np.full_like(first, 7)
    cache = frame_cache()
    assert cache is not None
    cache.put(entry.stem, marked)
    assert np.array_equal(VideoFile(str(path)).frames(selection), marked)
    entry.write_bytes(b"damaged")
    assert np.array_equal(VideoFile(str(path)).frames(selection), first)
    # Another content at the same place.
    write_clip(path, 31)
    assert [number_in(frame) for frame in VideoFile(str(path)).frames(selection)] == [3, 9, 9]
    assert len(entries(cached)) == 2


def test_the_cache_can_be_switched_off(tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_VIDEO_CACHE_GB", "0")
    path = write_clip(tmp_path / "clip.mp4", 5)
    VideoFile(str(path)).frames(FrameSelection((1,), (0.0,), (80, 60), 2.0))
    assert not cached.exists()


@pytest.mark.parametrize("value", ["much", "-1", "nan", "inf"])
def test_wrong_limits_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EVALKIT_VIDEO_CACHE_GB", value)
    with pytest.raises(UserError, match=f"EVALKIT_VIDEO_CACHE_GB={value}: give a number of gigabytes, or 0"):
        frame_cache()
