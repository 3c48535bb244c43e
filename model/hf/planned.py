"""Requests whose prompts are rendered and tokenized, and batches of them with the model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.model.video_frames import FrameImage
from evalkit.model.videos import SelectedVideo
from evalkit.types import ImageRef, Request, Size, image_key

from .continuations import Branch


@dataclass(frozen=True)
class PlannedRequest:
    """A request with its prompt's tokens, or one of the ``parts`` branches of a request with continuations.

    Attributes:
        request: the request; for a model that takes no videos, with their frames as images.
        ids: the prompt's tokens, with one per image and one per frame group of a video.
        tokens: the prompt's length with all visual tokens, as estimated by the processor.
        videos: the request's videos.
        videos_as_images: whether their frames are images of ``request``.
    """

    request: Request
    prompt: str
    ids: tuple[int, ...]
    sizes: tuple[Size, ...]
    tokens: int
    branch: Branch | None = None
    parts: int = 1
    videos: tuple[SelectedVideo, ...] = ()
    videos_as_images: bool = False

    @property
    def encoded_videos(self) -> tuple[SelectedVideo, ...]:
        """The videos that the model is given as such."""
        return () if self.videos_as_images else self.videos

    @property
    def group(self) -> tuple[object, ...]:
        """Key that is equal for all requests of a batch."""
        decoding = self.request.decoding if self.branch is None else None
        return decoding, bool(self.sizes), bool(self.encoded_videos), self.request.messages[0].role == "plain"


@dataclass(frozen=True)
class PreparedBatch:
    """A batch with the model's inputs.

    Attributes:
        failed: requests that failed, with their errors.
        alone: requests to prepare one by one, because the processor refuses them as a batch.
    """

    batch: list[PlannedRequest]
    inputs: Any
    failed: list[tuple[PlannedRequest, BaseException]]
    alone: Sequence[PlannedRequest] = ()


def describe_error(request: Request, error: BaseException) -> str:
    """Type and message of an error, with the names of the request's images and videos."""
    names = dict.fromkeys(
        media.video.video.name if isinstance(media, FrameImage) else media.name
        for media in (*request.images, *request.videos)
    )
    return f"{type(error).__name__}: {error}" + (f" ({', '.join(names)})" if names else "")


def load_once(image: ImageRef, decoded: dict[str, Any]) -> Any:
    """The decoded image, which is added to ``decoded``.  Raises ``OSError`` or ``ValueError`` if it cannot be read."""
    key = image_key(image)
    if key not in decoded:
        decoded[key] = image.load()
    return decoded[key]
