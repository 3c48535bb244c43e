"""Where a benchmark's videos and subtitles are: in folders, or in the zip archives as they were downloaded.

A video in an archive is unpacked when it is first needed (``evalkit.archives``).  On the hub, archives and videos are
downloaded when the first of them is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.archives import ARCHIVES, Member, archive_folders, archive_members, unpacked_folder
from evalkit.data import Data, HubData, OfficialData, path_in
from evalkit.errors import UserError
from evalkit.types import FrameSelection, VideoInfo, VideoRef
from evalkit.values import name_inside
from evalkit.video import FrameFolder, VideoFile
from evalkit.video.segments import fragment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov", ".gif")
"""Of video files whose names the annotations give without one, or with another one."""
DOWNLOADED = ("*.zip", "*.srt", *(f"*{suffix}" for suffix in SUFFIXES))


def opened(path: str, start: float | None, end: float | None, fps: float | None) -> VideoRef:
    """The video in a file, or in a folder of frames.  Raises ``OSError`` for a folder that is none."""
    if not Path(path).is_dir():
        return VideoFile(path, start, end)
    if fps is None:
        raise OSError(f"{path} is a folder, not a video")
    return FrameFolder(path, fps, start, end)


@dataclass(frozen=True)
class FoundVideo(VideoRef):
    """A video of a source, which finds it when it is needed.

    Attributes:
        file: its name in the annotations.
        fps: frames per second, if it is a folder of frames.
    """

    source: VideoSource
    file: str
    start: float | None = None
    end: float | None = None
    fps: float | None = None

    @property
    def name(self) -> str:
        """The source and the file, with the segment as ``VideoFile`` has it."""
        return f"{self.source.name}/{self.file}{fragment(self.start, self.end)}"

    @property
    def path(self) -> str:
        """Where it lies, after it was unpacked or downloaded.  Raises ``OSError``."""
        return self.source.path(self.file)

    def check(self) -> int | None:
        self.source.check(self.file)
        return None

    @property
    def _opened(self) -> VideoRef:
        return opened(self.path, self.start, self.end, self.fps)

    @property
    def decoder(self) -> str:
        return self._opened.decoder

    def digest(self) -> str:
        return self._opened.digest()

    def info(self) -> VideoInfo:
        return self._opened.info()

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        return self._opened.frames(selection)


@dataclass(frozen=True)
class VideoSource:
    """The videos of a benchmark.

    Attributes:
        name: for records: the folder, or the data set on the hub.
        root: a local folder; None for the hub.
        folders: below the root, where unpacked videos may be.
        task: for messages.
        suffixes: tried in order for a name without one of them.
    """

    name: str
    root: str | None
    folders: Sequence[str]
    task: str
    suffixes: Sequence[str] = field(default=SUFFIXES)

    def video(
        self, file: str, start: float | None = None, end: float | None = None, *, fps: float | None = None
    ) -> VideoRef:
        """The video that annotations call ``file``, or the part of it between two times in seconds.

        A file that lies in a folder is its path; any other is looked for when it is needed.

        Args:
            fps: frames per second, if it is a folder of frames.

        Raises:
            UserError: the name is invalid, or leads out of the folder.
        """
        file = name_inside(file, self.name, "video", task=self.task)
        found = None if self.root is None else self._lying(Path(self.root), file)
        return FoundVideo(self, file, start, end, fps) if found is None else opened(found, start, end, fps)

    def check(self, file: str) -> None:
        """Raise ``OSError`` if a video is neither in a folder nor in an archive; nothing is downloaded or unpacked."""
        if self.root is None:
            return
        root = Path(self.root)
        if self._lying(root, file) is None and self._member(root, file) is None and not self._frames(root, file):
            raise self._missing(file)

    def path(self, file: str) -> str:
        """Where the video lies, after it was unpacked or downloaded.  Raises ``OSError`` if it is nowhere."""
        root = self._local()
        found = self._lying(root, file)
        if found is not None:
            return found
        member = self._member(root, file)
        if member is None:
            if frames := self._frames(root, file):
                return str(unpacked_folder(frames))
            raise self._missing(file)
        return str(member.unpacked())

    def text(self, file: str) -> str | None:
        """The content of a text file, such as subtitles; None if there is none.  Raises ``OSError``."""
        root = self._local()
        found = self._lying(root, file)
        if found is not None:
            return Path(found).read_bytes().decode("utf-8", errors="replace")
        member = self._member(root, file)
        return None if member is None else member.read().decode("utf-8", errors="replace")

    def _frames(self, root: Path, file: str) -> list[Member]:
        """The frames of a video that is a folder in an archive."""
        inside = archive_folders(str(root)).get(file.rpartition("/")[2], ())
        return [one for one in inside if f"/{file}/" in f"/{one.name}"]

    def _missing(self, file: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"{self.name} has no video {file}, neither in {', '.join(self.folders)} nor in an archive"
        )

    def _local(self) -> Path:
        return Path(self.root) if self.root is not None else downloaded(self.name)

    def _lying(self, root: Path, file: str) -> str | None:
        """The path of a file in one of the folders."""
        for folder in self.folders:
            for name in self._names(file):
                path = path_in(root / folder, name)
                if Path(path).exists():
                    return path
        return None

    def _member(self, root: Path, file: str) -> Member | None:
        """The file in one of the archives, wherever it is in it."""
        names = self._names(file)
        members = archive_members(str(root))
        for name in names:
            for member in members.get(name.rpartition("/")[2], ()):
                if f"/{member.name}".endswith(f"/{name}"):
                    return member
        return None

    def _names(self, file: str) -> list[str]:
        stem, dot, suffix = file.rpartition(".")
        known = dot and f".{suffix}" in (*self.suffixes, ".srt", ".json")
        if known and f".{suffix}" not in self.suffixes:
            return [file]
        return [file, *(f"{stem if known else file}{other}" for other in self.suffixes if not file.endswith(other))]


@cache
def downloaded(repo: str) -> Path:
    """The local copy of the archives and videos of a data set on the hub.  Raises ``OSError``."""
    from huggingface_hub import snapshot_download

    log.info("the videos of %s are downloaded; this can take hours, and continues where it was interrupted", repo)
    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # offline, gated: many exceptions
        raise OSError(f"the videos of {repo} could not be downloaded ({type(error).__name__}: {error})") from error


def video_source(
    data: Data, task: str, folders: Sequence[str], *, places: Sequence[str] = (), hub: str = "", required: bool = True
) -> VideoSource:
    """The videos of a task.

    Args:
        folders: below the benchmark's folder, where unpacked videos may be.
        places: the benchmark's folder in the root of the official downloads, one of several names.
        hub: the data set.
        required: whether it is an error that there are neither such folders nor archives.

    Raises:
        UserError: there are neither.
    """
    if isinstance(data, HubData):
        return VideoSource(hub, None if data.mirror is None else str(data.mirror / hub), tuple(folders), task)
    assert isinstance(data, OfficialData)
    root = next((data.root / place for place in places if (data.root / place).is_dir()), data.root / places[0])
    if required and data.images_required:
        there = any((root / folder).is_dir() for folder in folders)
        if not there and not any(path for pattern in ARCHIVES for path in root.glob(pattern)):
            raise UserError(
                f"{task}: no videos under {root}; expected {' or '.join(f'{folder}/' for folder in folders)}, or the "
                f"zip archives as they were downloaded ('evalkit tasks {task}' shows the layout)."
            )
    return VideoSource(str(root), str(root), tuple(folders), task)
