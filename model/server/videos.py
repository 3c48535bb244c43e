"""Videos for servers: the frames that evalkit chose, as a video whose times the server is told, or as images.

vLLM takes frames as a ``video/jpeg`` data URL (each frame in any image format: here PNG, which is lossless), and their
times in ``media_io_kwargs``, if it was started with ``--trust-request-mm-kwargs``.  Its fields are whole numbers of
frames and a rate; with a rate of 1,000 they are milliseconds.  There is one ``media_io_kwargs`` per request, so that a
request with several videos has their frames as images.

What a server does with them is not documented by it, so it is tried (``probe``): the same frames at other times have to
give other log-probabilities.  Where they do not, or it refuses them, frames are sent as images.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from evalkit.checkpoint import Checkpoint, local_processor
from evalkit.interfaces import Family
from evalkit.model.synthetic_video import EveryFrame, SyntheticVideo
from evalkit.model.video_frames import AS_IMAGES, DecodedFrames, with_frames_as_images
from evalkit.model.video_processor_file import read_geometry
from evalkit.model.videos import SelectedVideo, VideoSelector
from evalkit.types import Request, VideoGeometry, VideoInput

from .errors import BadRequest, FatalError, RequestFailed
from .http import Connection
from .probing import Seen

MEDIA_IO = "media_io_kwargs"
TICKS = 1000
"""Ticks per second: the unit of times."""
CACHE_BYTES = 256 * 2**20
NOISE = 1e-3
"""Log-probabilities that differ by less may be of equal inputs, computed in another batch."""
EXTRA_TOKENS = 200
"""The most tokens that the probe's text and the chat template have."""


@dataclass(frozen=True)
class PreparedRequest:
    """A request as it is sent, and how its videos are shown.

    Attributes:
        visual_tokens: of a video that is sent as one.
    """

    request: Request
    videos: tuple[VideoInput, ...] = ()
    visual_tokens: int = 0

    def mismatch(self, prompt_tokens: int) -> str | None:
        """Why a prompt of this length cannot have the frames as they were sent; None if it can, or is not known."""
        if not prompt_tokens or prompt_tokens >= self.visual_tokens:
            return None
        return f"it counts {prompt_tokens:,} tokens, but the frames alone are {self.visual_tokens:,}"


class ServerVideos:
    """Prepares the videos of requests for a server.

    Args:
        geometry: how the family's encoder cuts frames; None if its models are given frames as images.
        timed: whether the family's models are told the times of frames.

    Attributes:
        problem: why frames are sent as images; empty if they are sent as videos, None before ``probe``.
    """

    def __init__(self, geometry: VideoGeometry | None, *, timed: bool) -> None:
        self.geometry = geometry
        self.timed = timed
        self.problem: str | None = None
        self._selector = VideoSelector(geometry or VideoGeometry())
        self._decoded = DecodedFrames()
        self._urls: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @classmethod
    def of(cls, checkpoint: Checkpoint, family: Family) -> ServerVideos:
        """For a served checkpoint: by its processor's files, if they are known, else as the released processor is."""
        assert checkpoint.served is not None
        geometry, given = family.video_geometry, checkpoint.served.endpoint.processor
        folder = checkpoint.served.folder if given is None else local_processor(given)
        if geometry is not None and folder is not None:
            geometry = read_geometry(Path(folder), geometry)
        return cls(geometry, timed=family.timed_videos)

    @property
    def how(self) -> str:
        """In a few words, for the record of a run."""
        return "as videos" if self.problem == "" else AS_IMAGES if self.problem is not None else "none so far"

    def prepare(self, request: Request) -> PreparedRequest:
        """The request as it is sent.

        Raises:
            OSError, ValueError: a video cannot be read, or the rule cannot be applied to it.
        """
        if not request.videos:
            return PreparedRequest(request)
        videos = self._selector.of(request)
        whole = self.problem == "" and len(videos) == 1
        shown = tuple(replace(video.input, sent="video" if whole else "images") for video in videos)
        if whole:
            return PreparedRequest(request, shown, videos[0].groups * videos[0].tokens_per_group)
        if request.times:
            raise ValueError("it has several videos, and a server can be told the times of one only")
        return PreparedRequest(with_frames_as_images(request, videos, self._decoded), shown)

    def fields(self, request: Request) -> dict[str, Any]:
        """The fields that tell the server the times of a prepared request's video."""
        return {MEDIA_IO: {"video": times(self._selector.of(request)[0])}} if request.videos else {}

    def url(self, request: Request) -> bytes:
        """The ``data:`` URL of a prepared request's only video, in ASCII.  Raises ``OSError`` or ``ValueError``."""
        video = self._selector.of(request)[0]
        with self._lock:
            if (found := self._urls.get(video.key)) is not None:
                self._urls.move_to_end(video.key)
                return found
        found = data_url(video).encode()
        with self._lock:
            if video.key not in self._urls:
                self._bytes += len(found)
            self._urls[video.key] = found
            while self._bytes > CACHE_BYTES and len(self._urls) > 1:
                _, oldest = self._urls.popitem(last=False)
                self._bytes -= len(oldest)
        return found

    async def probe(self, connection: Connection, model: str) -> str:
        """Find out whether the server keeps the times of frames, and set ``problem``.

        Raises:
            RateLimited, ServerUnavailable: it did not answer.
        """
        self.problem = await self._tried(connection, model)
        return self.problem

    async def _tried(self, connection: Connection, model: str) -> str:
        if self.geometry is None:
            return "this family's models are given videos as images"
        rule, replies = EveryFrame(columns=4, rows=4), []
        for rate in (2.0, 2.0, 0.125):
            clip = SyntheticVideo("probe", 8, 112, 112, rate)
            video = SelectedVideo(clip, rule.select(clip.info(), self.geometry), rule.name, self.geometry)
            try:
                async with connection.client() as client:
                    reply = await connection.post(client, "/chat/completions", _probe_body(model, video))
                replies.append(Seen.of(reply))
            except (BadRequest, FatalError, RequestFailed) as error:
                return f"the server refuses them: {connection.masked(str(error)).rstrip('.')}"
        visual = video.groups * video.tokens_per_group
        if not visual <= replies[0].tokens <= visual + EXTRA_TOKENS + 12 * video.groups:
            return f"the server counts {replies[0].tokens} tokens for a video of {visual}"
        if not self.timed:
            return ""
        noise, effect = replies[0].distance(replies[1]), replies[0].distance(replies[2])
        if math.isnan(effect):
            return "the server gives no log-probabilities, by which that could be checked"
        return "" if effect > max(NOISE, 3 * noise) else "the server ignores the times of frames"


def times(video: SelectedVideo) -> dict[str, Any]:
    """vLLM's description of frames that are not to be sampled again, in ticks.

    The rate after sampling, which Qwen2.5-VL needs, is the number of frames by the duration.
    """
    frames = len(video.selection.indices)
    ticks = [round(time * TICKS) for time in video.selection.timestamps]
    return {
        "num_frames": -1,
        "fps": TICKS,
        "frames_indices": ticks,
        "total_num_frames": max(frames, round(frames * TICKS / video.selection.fps)),
        "do_sample_frames": False,
    }


def data_url(video: SelectedVideo) -> str:
    """Its frames as PNG.  Raises ``OSError`` or ``ValueError`` if it cannot be decoded."""
    frames = []
    for frame in video.load():
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "PNG", compress_level=1)
        frames.append(base64.b64encode(out.getvalue()).decode("ascii"))
    return f"data:video/jpeg;base64,{','.join(frames)}"


def _probe_body(model: str, video: SelectedVideo) -> bytes:
    shown = {"type": "video_url", "video_url": {"url": data_url(video)}}
    content = [shown, {"type": "text", "text": "When does the disc reach the right?"}]
    return json.dumps(
        {
            "model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 1, "temperature": 0.0,
            "logprobs": True, "top_logprobs": 5, MEDIA_IO: {"video": times(video)},
        }
    ).encode()  # fmt: skip
