"""How long the prompts of a run are at most, so that servers are started with room for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import Family
from evalkit.model.server.image_sizes import TEMPLATE_TOKENS, ResizeRule, resize_rule
from evalkit.model.server.videos import ServerVideos
from evalkit.model.videos import VideoSelector
from evalkit.types import Request, Size, TextPart, VideoGeometry

ROUNDED_TO = 256
TURN_TOKENS = 8
"""The most tokens that a chat template adds to a turn."""
TIME_TOKENS = 16
"""The most tokens of a time stamp before a group of frames."""


@dataclass(frozen=True)
class PromptLimits:
    """What servers need room for.

    Attributes:
        tokens: of a prompt with its answer; None if it is not known how many an image has.
        images, videos: in a prompt; frames that may be sent as images count as such.
    """

    tokens: int | None
    images: int
    videos: int


def prompt_limits(
    checkpoint: Checkpoint, family: Family, requests: Iterable[Request], sizes: Mapping[str, Size]
) -> PromptLimits:
    """The limits that all requests fit into.

    A text has at most as many tokens as bytes, since nothing is tokenized here.

    Args:
        checkpoint: a served one.
        sizes: (width, height) of images by name, as far as known.
    """
    measure = Measure(resize_rule(checkpoint), family.video_geometry, ServerVideos.of(checkpoint, family), sizes)
    tokens = images = videos = 0
    for request in requests:
        found = measure.of(request)
        tokens, images = max(tokens, found.tokens or 0), max(images, found.images)
        videos = max(videos, found.videos)
    if measure.unknown:
        return PromptLimits(None, images, videos)
    tokens = -(-tokens // ROUNDED_TO) * ROUNDED_TO
    return PromptLimits(min(tokens, checkpoint.positions or tokens), images, videos)


class Measure:
    """Measures requests.

    Attributes:
        unknown: whether there was an image or a video whose number of tokens is not known.
    """

    def __init__(
        self, rule: ResizeRule, geometry: VideoGeometry | None, videos: ServerVideos, sizes: Mapping[str, Size]
    ) -> None:
        self.unknown = False
        self._rule = rule
        self._selector = VideoSelector(geometry or VideoGeometry())
        self._times = videos.timed
        self._sizes = dict(sizes)

    def of(self, request: Request) -> PromptLimits:
        """Upper bounds for one request."""
        texts = [part.text for message in request.messages for part in message.content if isinstance(part, TextPart)]
        tokens = TEMPLATE_TOKENS + TURN_TOKENS * len(request.messages) + request.decoding.max_new_tokens
        tokens += sum(len(text.encode(errors="replace")) for text in texts)
        tokens += max((len(text.encode(errors="replace")) for text in request.continuations), default=0)
        for image in request.images:
            try:
                size = self._sizes.get(image.name) or self._sizes.setdefault(image.name, image.size())
            except (OSError, ValueError):
                continue  # its sample fails when it is to be sent
            tokens += self._image(size)
        frames = 0
        if request.videos:
            try:
                selected = self._selector.of(request)
            except (OSError, ValueError):
                selected = ()
            for video in selected:
                count = len(video.selection.indices)
                frames += count
                # As images, frames are not merged in pairs.
                tokens += count * (max(self._image(video.selection.size), video.tokens_per_group) + TIME_TOKENS)
        return PromptLimits(tokens, len(request.images) + frames, len(request.videos))

    def _image(self, size: Size) -> int:
        if self._rule.token_side is None:
            self.unknown = True
            return 0
        return self._rule.tokens(size) + 2  # the markers around it
