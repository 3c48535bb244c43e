"""Videos as values: references, what is known of a file, and which of its frames a model sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .media import Media, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


TimeSpan = tuple[float, float]
"""(start, end) in seconds from the beginning of the video, or of its segment if the sample is one."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video, or of a segment of it, without decoding.

    Attributes:
        timestamps: of every frame that a player shows, in order of presentation; seconds from the first of the whole
            file, so that those of a segment begin at about its start.
        fps: the average number of frames per second.
        size: (width, height) in pixels as shown, after the rotation that the file asks for.
    """

    timestamps: Sequence[float]
    fps: float
    size: Size

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.timestamps)

    @property
    def duration(self) -> float:
        """In seconds: the frames by their average rate."""
        return self.frames / self.fps


@dataclass(frozen=True)
class VideoGeometry:
    """How a checkpoint's vision encoder cuts frames; from its processor's configuration.

    Attributes:
        patch: side of a patch in pixels.
        merge: patches in a row that become one visual token.
        frames: consecutive frames that are encoded together (``temporal_patch_size``).
        whole_video: whether the processor's limits are of the whole video (Qwen3-VL) rather than of a frame.
        min_pixels, max_pixels: the processor's limits, in pixels of a frame or of the whole video.
    """

    patch: int = 14
    merge: int = 2
    frames: int = 2
    whole_video: bool = False
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 768 * 28 * 28

    @property
    def factor(self) -> int:
        """Sides of resized frames are multiples of this number of pixels."""
        return self.patch * self.merge


@dataclass(frozen=True)
class FrameSelection:
    """The frames of a video that a model sees.

    Attributes:
        indices: into ``VideoInfo.timestamps``, in order; a frame may occur twice.
        timestamps: of these frames, in seconds.
        size: (width, height) in pixels to which they are resized.
        fps: frames per second after sampling, by which Qwen2.5-VL places them in time.
    """

    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    size: Size
    fps: float


class VideoSampling(ABC):
    """A rule for the choice of frames and of their size, known by its name.

    Attributes:
        name: part of signatures: ``qwen2.5-report``, or ``fps=2,max_frames=64`` for one that the user described.
    """

    name: str

    @abstractmethod
    def select(self, info: VideoInfo, geometry: VideoGeometry) -> FrameSelection:
        """The frames of a video.  Raises ``ValueError`` if the rule cannot be applied to it."""


class VideoRef(Media):
    """A reference to a video, or to a segment of one; decoded when needed.

    Attributes:
        start, end: of the segment, in seconds; None for the beginning or end of the file.
    """

    start: float | None
    end: float | None

    @property
    @abstractmethod
    def decoder(self) -> str:
        """The library that decodes it, with its version: ``PyAV 18.1.0``."""

    def check(self) -> int | None:
        """Look at its header, before anything is computed; the number of frames there, 0 or None if unknown.

        Raises:
            OSError, ValueError: it is missing or unreadable.
        """
        return None

    @abstractmethod
    def info(self) -> VideoInfo:
        """From the file's packets, of the segment.

        Raises:
            OSError, ValueError: it cannot be read, has no video stream, or the segment has no frame.
        """

    @abstractmethod
    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        """The selected frames, resized: (frames, height, width, 3), RGB.

        Raises:
            OSError, ValueError: it cannot be decoded.
        """


@dataclass(frozen=True, slots=True)
class VideoInput:
    """How a video was shown to the model: recorded with each answer.

    Attributes:
        name: of the reference.
        selection: the frames.
        sampling: the name of the rule.
        decoder: library and version (``PyAV 18.1.0``).
        sent: as what a server was sent it, which the server decides: other input, so other answers.  None for models
            in process, whose family decides it, and in records of before.
    """

    name: str
    selection: FrameSelection
    sampling: str
    decoder: str
    sent: Literal["video", "images"] | None = None
