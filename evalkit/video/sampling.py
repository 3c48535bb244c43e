"""Rules by which frames of a video are chosen and resized, each known by its name.

==========================  ===========================================================================================
``qwen2.5-report``          2 frames per second, at most 768, at most 24,576 tokens (arXiv 2502.13923, table 8)
``qwen3-report``            2 frames per second, at most 2,048, at most 224K tokens (arXiv 2511.21631)
``qwen-vl-utils-0.0.14``    the package's defaults
``lmms-eval-N``             ``qwen2_5_vl`` of lmms-eval (chat) with ``max_num_frames=N``
``lmms-eval-simple-N``      its older model class, ``--force_simple``, which loses the frame rate
``vlmevalkit-N``            ``Qwen2VLChat`` of VLMEvalKit (``-ForVideo``) with a benchmark's variant ``_Nframe``
``transformers``            the checkpoint's video processor, asked for 2 frames per second
``fps=2,max_frames=64``     as described: by frames per second, number of frames, number of tokens
==========================  ===========================================================================================

Rules of a library give the times that it tells the model: the frame's number by the average rate.  That is wrong for a
variable rate; all others give the frames' own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evalkit.errors import UserError
from evalkit.types import FrameSelection, Message, Size, VideoGeometry, VideoInfo, VideoPart, VideoSampling

from .frame_numbers import counted, spread, spread_float32, spread_float64, strided
from .frame_sizes import frame_size, transformers_frame_size, transformers_video_size

FPS, MIN_FRAMES, MAX_FRAMES = 2.0, 4, 768
FRAME_TOKENS = (128, 768)
"""The least and most tokens of a frame, with its neighbour, in qwen-vl-utils."""
LMMS_EVAL_PIXELS = (256 * 28 * 28, 1_605_632)
"""The least and most pixels of a frame in lmms-eval's Qwen models."""


@dataclass(frozen=True)
class Budgeted(VideoSampling):
    """Evenly spaced frames, the first and the last included; a budget of tokens for the whole video.

    Unlike in qwen-vl-utils the budget always holds, and a video of one frame shows it twice.  Where a checkpoint's
    processor makes frames smaller than the package ever does, as that of a small model, its limits hold.

    Attributes:
        max_tokens: of the whole video; None for no budget.
    """

    name: str
    fps: float = FPS
    max_frames: int = MAX_FRAMES
    max_tokens: int | None = None

    def select(self, info: VideoInfo, geometry: VideoGeometry) -> FrameSelection:
        together = geometry.frames
        wanted = info.frames / info.fps * self.fps
        number = round(min(max(wanted, MIN_FRAMES), self.max_frames) / together) * together
        number = max(together, min(number, info.frames // together * together, self.max_frames // together * together))
        indices = spread(info.frames, number)
        least, most = (tokens * geometry.factor**2 for tokens in FRAME_TOKENS)
        if not geometry.whole_video and geometry.max_pixels < least:
            least, most = geometry.min_pixels, geometry.max_pixels
        if self.max_tokens is not None:
            most = min(most, self.max_tokens * geometry.factor**2 * together // number)
        size = frame_size(info.size, geometry.factor, min(least, most), most)
        if self.max_tokens is not None and (tokens := number // together * _tokens(size, geometry)) > self.max_tokens:
            raise ValueError(f"{number} frames are {tokens} tokens at least, more than the {self.max_tokens} allowed")
        times = tuple(info.timestamps[index] for index in indices)
        return FrameSelection(indices, times, size, number / info.frames * info.fps)


@dataclass(frozen=True)
class QwenVLUtils(VideoSampling):
    """``fetch_video`` of qwen-vl-utils 0.0.14.

    Attributes:
        number: of frames (``nframes``), fewer for a shorter video; None for 2 per second.
        frame_pixels: the least and most pixels of a frame; None for the package's.
        total_tokens: of the whole video, from which the most pixels of a frame follow.
    """

    name: str
    number: int | None = None
    frame_pixels: tuple[int, int] | None = None
    total_tokens: float = 128_000 * 0.9

    def select(self, info: VideoInfo, geometry: VideoGeometry) -> FrameSelection:
        total = info.frames
        if self.number is None:
            number = counted(info, geometry.frames, FPS, MIN_FRAMES, MAX_FRAMES)
        else:
            number = min(self.number, total) // 2 * 2
        if number < 2:
            raise ValueError(f"{self.name} needs 2 frames at least; this has {total}")
        area = geometry.factor**2
        least, most = self.frame_pixels or (FRAME_TOKENS[0] * area, FRAME_TOKENS[1] * area)
        limit = max(min(FRAME_TOKENS[1] * area, self.total_tokens * area / number * 2), int(least * 1.05))
        size = frame_size(info.size, geometry.factor, least, min(most, limit))
        return _by_rate(info, spread_float32(total, number), size, number / total * info.fps)


@dataclass(frozen=True)
class Thinned(VideoSampling):
    """``simple/qwen2_5_vl.py`` of lmms-eval: some frames of those that qwen-vl-utils chooses, and the last of them.

    The frame rate is lost on the way to the processor of transformers 5, which then assumes 24.

    Attributes:
        number: of frames, without the last one.
    """

    name: str
    number: int

    def select(self, info: VideoInfo, geometry: VideoGeometry) -> FrameSelection:
        before = QwenVLUtils(self.name, frame_pixels=LMMS_EVAL_PIXELS).select(info, geometry)
        last = len(before.indices) - 1
        places = sorted({*(place * last // max(1, self.number - 1) for place in range(self.number)), last})
        indices = tuple(before.indices[place] for place in places)
        return FrameSelection(indices, tuple(place / 24 for place in range(len(places))), before.size, 24.0)


@dataclass(frozen=True)
class Transformers(VideoSampling):
    """The video processor of transformers 5.23 with ``do_sample_frames=True, fps=2``."""

    name: str = "transformers"

    def select(self, info: VideoInfo, geometry: VideoGeometry) -> FrameSelection:
        total = info.frames
        if geometry.whole_video:
            number = min(max(int(total / info.fps * FPS), MIN_FRAMES), MAX_FRAMES, total)
        else:
            number = counted(info, geometry.frames, FPS, MIN_FRAMES, MAX_FRAMES)
        if number < 2:
            raise ValueError(f"{self.name} needs 2 frames at least; this has {total}")
        limits = geometry.factor, geometry.min_pixels, geometry.max_pixels
        if geometry.whole_video:
            indices = spread_float64(total, number)
            size = transformers_video_size(info.size, number, geometry.frames, *limits)
        else:
            indices = strided(total, number)
            size = transformers_frame_size(info.size, *limits)
        return _by_rate(info, indices, size, len(indices) / total * info.fps)


def described(
    fps: float | None = None, max_frames: int | None = None, max_video_tokens: int | None = None
) -> VideoSampling:
    """The rule that the arguments describe, with 2 frames per second, 768 frames and no budget as defaults."""
    given = {"fps": fps, "max_frames": max_frames, "max_video_tokens": max_video_tokens}
    name = ",".join(f"{key}={value:.10g}" for key, value in given.items() if value is not None)
    return Budgeted(name, FPS if fps is None else fps, max_frames or MAX_FRAMES, max_video_tokens)


def sampling_name(
    name: str | None, fps: float | None, max_frames: int | None, max_video_tokens: int | None
) -> str | None:
    """The name of the rule that the options give; None if none is given.

    Raises:
        UserError: there is no such rule, or it is both named and described.
    """
    if fps is max_frames is max_video_tokens is None:
        return None if name is None else video_sampling(name).name
    described_by = described(fps, max_frames, max_video_tokens).name
    if name is not None:
        raise UserError(f"--video-sampling {name} sets what {described_by} sets, too; give one of the two.")
    return described_by


SAMPLING_RULES: Mapping[str, VideoSampling] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Budgeted("qwen2.5-report", max_tokens=24_576),
            Budgeted("qwen3-report", max_frames=2_048, max_tokens=224 * 1_024),
            QwenVLUtils("qwen-vl-utils-0.0.14"),
            Transformers(),
        )
    }
)
"""The rules without a number in their names."""

_BY_NUMBER: Mapping[str, Callable[[str, int], VideoSampling]] = {
    "lmms-eval": lambda name, n: QwenVLUtils(name, n, LMMS_EVAL_PIXELS),
    "lmms-eval-simple": Thinned,
    "vlmevalkit": lambda name, n: QwenVLUtils(name, n, (128 * 28 * 28, 768 * 28 * 28), 24_576.0),
}
_EXAMPLES = (*SAMPLING_RULES, "lmms-eval-32", "lmms-eval-simple-32", "vlmevalkit-64", "fps=2,max_frames=64")


def video_sampling(name: str) -> VideoSampling:
    """The rule of this name, or the one that a text such as ``fps=2,max_frames=64`` describes.

    Raises:
        UserError: there is none.
    """
    if name in SAMPLING_RULES:
        return SAMPLING_RULES[name]
    if (found := re.fullmatch(r"(lmms-eval|lmms-eval-simple|vlmevalkit)-([1-9]\d{0,4})", name, re.ASCII)) is not None:
        return _BY_NUMBER[found[1]](name, int(found[2]))
    if "=" in name:
        return _described_by(name)
    raise UserError(f"--video-sampling {name}: unknown; use {', '.join(_EXAMPLES[:-1])} or {_EXAMPLES[-1]}.")


def sampling_of(messages: Iterable[Message], name: str) -> VideoSampling | None:
    """The rule called ``name`` for a conversation with videos; None for one without.  Raises ``UserError``."""
    videos = any(isinstance(part, VideoPart) for message in messages for part in message.content)
    return video_sampling(name) if videos else None


def _described_by(text: str) -> VideoSampling:
    given: dict[str, float] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(fps)=(\d+(?:\.\d+)?)|(max_frames|max_video_tokens)=(\d+)", part, re.ASCII)
        if found is None or float(found[2] or found[4]) <= 0:
            raise UserError(
                f"--video-sampling {text}: {part!r} is not fps=NUMBER, max_frames=NUMBER or max_video_tokens=NUMBER."
            )
        given[found[1] or found[3]] = float(found[2] or found[4])
    whole = {key: int(given[key]) for key in ("max_frames", "max_video_tokens") if key in given}
    return described(fps=given.get("fps"), **whole)


def _tokens(size: Size, geometry: VideoGeometry) -> int:
    return size[0] * size[1] // geometry.factor**2


def _by_rate(info: VideoInfo, indices: tuple[int, ...], size: Size, fps: float) -> FrameSelection:
    """The selection with times by the average rate."""
    times = tuple(info.timestamps[0] + index / info.fps for index in indices)
    return FrameSelection(indices, times, size, fps)
