"""Videos for models that take none, or in a way that is not known here: their frames as several images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evalkit.types import ImagePart, ImageRef, Message, Request, VideoPart

from .videos import SelectedVideo

AS_IMAGES = "frames as images"
KEPT = 2
"""Videos whose frames are kept until they are shown: the one that is being read, and the next."""


class DecodedFrames:
    """The frames of the last few videos, so that each video is decoded once for all its frames."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._locks: dict[Hashable, Lock] = {}
        self._frames: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()

    def of(self, video: SelectedVideo) -> NDArray[np.uint8]:
        """Raises ``OSError`` or ``ValueError`` if it cannot be decoded."""
        with self._lock:
            lock = self._locks.setdefault(video.key, Lock())
        with lock:  # several threads want frames of one video
            with self._lock:
                if (found := self._frames.get(video.key)) is not None:
                    self._frames.move_to_end(video.key)
                    return found
            found = video.load()
            with self._lock:
                self._frames[video.key] = found
                while len(self._frames) > KEPT:
                    oldest, _ = self._frames.popitem(last=False)
                    self._locks.pop(oldest, None)
            return found


@dataclass(frozen=True)
class FrameImage(ImageRef):
    """One of the frames of a video that are shown, as an image."""

    video: SelectedVideo
    place: int
    decoded: DecodedFrames = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.video.video.name}, frame {self.video.selection.indices[self.place]}"

    @property
    def key(self) -> str:
        width, height = self.video.selection.size
        return f"{self.video.video.key}, frame {self.video.selection.indices[self.place]}, {width}x{height}"

    def size(self) -> tuple[int, int]:
        return self.video.selection.size

    def load(self) -> Image.Image:
        return Image.fromarray(self.decoded.of(self.video)[self.place])

    def digest(self) -> str:
        return self.video.video.digest()


def with_frames_as_images(request: Request, videos: tuple[SelectedVideo, ...], decoded: DecodedFrames) -> Request:
    """The request with images in place of its videos."""
    following = iter(videos)

    def shown(part: Any) -> tuple[Any, ...]:
        if not isinstance(part, VideoPart):
            return (part,)
        video = next(following)
        return tuple(ImagePart(FrameImage(video, place, decoded)) for place in range(len(video.selection.indices)))

    messages = tuple(
        Message(message.role, tuple(image for part in message.content for image in shown(part)))
        for message in request.messages
    )
    return replace(request, messages=messages)
