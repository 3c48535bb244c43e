"""Conversations: messages of texts, images and videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .media import ImageRef
from .videos import VideoRef


@dataclass(frozen=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An image inside a message."""

    image: ImageRef


@dataclass(frozen=True)
class VideoPart:
    """A video inside a message."""

    video: VideoRef


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: its parts in the order that the model sees them.

    The role ``plain`` is raw text without a chat template, for the model to continue; it must be the only message.
    """

    role: Literal["system", "user", "assistant", "plain"]
    content: tuple[TextPart | ImagePart | VideoPart, ...]

    def text(self, image: str = "<image>", video: str = "<video>") -> str:
        """Its text, with these marks in the places of images and videos."""
        marks = {ImagePart: image, VideoPart: video}
        return "".join(part.text if isinstance(part, TextPart) else marks[type(part)] for part in self.content)
