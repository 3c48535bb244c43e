"""Videos in prompts: which frames a model is shown, and the text that stands for them.

Frames are chosen and resized here, once per video (``Request.video_sampling``); no processor samples or resizes them
again.  A *frame group* is what the encoder takes together: two consecutive frames, the last one repeated if it is
alone.  It has one placeholder token in a planned prompt, and as many in the model's input as it has visual tokens.

Qwen2-VL and Qwen2.5-VL have one run of placeholders per video.  Qwen3-VL has the time before each group as text:
``<0.5 seconds><|vision_start|>…<|vision_end|>``, in place of the delimiters that the chat template writes, as
transformers 4.57 and vLLM do.  (transformers 5.23 keeps these around the whole, so its processor is not asked.)
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor

from evalkit.types import FrameSelection, Request, VideoGeometry, VideoInput, VideoRef, VideoSampling

NO_PLACE = "the checkpoint's chat template has no place for videos"
REMEMBERED = 256
"""Selections that are kept, so that a video's packets are read once for all its questions."""


@dataclass(frozen=True)
class SelectedVideo:
    """A video and the frames of it that are shown.

    Attributes:
        sampling: the name of the rule that chose them.
        geometry: how the encoder cuts them.
    """

    video: VideoRef
    selection: FrameSelection
    sampling: str
    geometry: VideoGeometry

    @cached_property
    def key(self) -> str:
        """Equal for equal frames of equal content, in one process."""
        return f"{self.video.key}#{hash((self.selection.indices, self.selection.size)):x}"

    @property
    def groups(self) -> int:
        """The number of frame groups."""
        return -(-len(self.selection.indices) // self.geometry.frames)

    @property
    def rows(self) -> int:
        """Of visual tokens in a group."""
        return self.selection.size[1] // self.geometry.factor

    @property
    def columns(self) -> int:
        """Of visual tokens in a group."""
        return self.selection.size[0] // self.geometry.factor

    @property
    def tokens_per_group(self) -> int:
        """Visual tokens."""
        return self.rows * self.columns

    @property
    def seconds_per_group(self) -> float:
        """The time between two groups."""
        return self.geometry.frames / self.selection.fps

    @property
    def pixels(self) -> int:
        """Of all its frames."""
        width, height = self.selection.size
        return len(self.selection.indices) * width * height

    @property
    def times(self) -> list[float]:
        """Seconds: of each group, the mean of its first and its last frame."""
        shown, frames = self.selection.timestamps, self.geometry.frames
        starts = range(0, len(shown), frames)
        return [(shown[start] + shown[min(start + frames, len(shown)) - 1]) / 2 for start in starts]

    def load(self) -> NDArray[np.uint8]:
        """Decode the frames: (frames, height, width, 3), RGB.

        Raises:
            OSError, ValueError: it cannot be decoded, or not to what was selected.
        """
        found = self.video.frames(self.selection)
        width, height = self.selection.size
        expected = (len(self.selection.indices), height, width, 3)
        if found.shape != expected or found.dtype != np.uint8:
            raise ValueError(f"{self.video.name}: decoded to {found.shape} {found.dtype}, expected {expected} uint8")
        return found

    @property
    def input(self) -> VideoInput:
        """For the record of an answer."""
        return VideoInput(self.video.name, self.selection, self.sampling, self.video.decoder)


class VideoFormat:
    """How a checkpoint is given videos.

    Attributes:
        processor: the video processor.
        token, image_token: the placeholders of a visual token in a video and in an image.
        with_times: whether each frame group has its time before it, as text (Qwen3-VL).
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor.video_processor
        self.image_processor, self.tokenizer = processor.image_processor, processor.tokenizer
        self.input_names = frozenset(processor.model_input_names)
        self.token, self.image_token = str(processor.video_token), str(processor.image_token)
        self.with_times = isinstance(processor, Qwen3VLProcessor)
        self.start, self.end = "<|vision_start|>", "<|vision_end|>"

    @staticmethod
    def of(processor: Any) -> VideoFormat | None:
        """The format of a checkpoint's processor; None if it takes no videos, or in a way that is not known here."""
        known = isinstance(processor, (Qwen2VLProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor))
        return VideoFormat(processor) if known and getattr(processor, "video_processor", None) is not None else None

    @property
    def geometry(self) -> VideoGeometry:
        """As the processor's configuration has it."""
        processor, size = self.processor, self.processor.size
        return VideoGeometry(
            patch=int(processor.patch_size),
            merge=int(processor.merge_size),
            frames=int(processor.temporal_patch_size),
            whole_video=self.with_times,
            min_pixels=int(size["shortest_edge"]),
            max_pixels=int(size["longest_edge"]),
        )

    def with_groups(self, prompt: str, videos: Sequence[SelectedVideo]) -> str:
        """A rendered prompt with a placeholder for each frame group in place of each video's.

        Raises:
            ValueError: it does not have one for every video.
        """
        marked = f"{self.start}{self.token}{self.end}" if self.with_times else self.token
        pieces = prompt.split(marked)
        if len(pieces) != len(videos) + 1:
            raise ValueError(f"{NO_PLACE}: it writes {len(pieces) - 1} times {marked} for {len(videos)} videos")
        texts = [pieces[0]]
        for video, piece in zip(videos, pieces[1:], strict=True):
            texts += [self._groups(video), piece]
        return "".join(texts)

    def _groups(self, video: SelectedVideo) -> str:
        if not self.with_times:
            return self.token * video.groups
        return "".join(f"<{time:.1f} seconds>{self.start}{self.token}{self.end}" for time in video.times)

    def inputs(
        self, prompts: Sequence[str], images: Sequence[Any], videos: Sequence[SelectedVideo], **special: bool
    ) -> dict[str, Any]:
        """The model's inputs of a batch but ``encoder_inputs``.  (transformers' processor expands videos only itself.)

        Args:
            prompts: with a placeholder for each image and, from ``with_groups``, for each frame group.
            images: of all prompts, in order.
            videos: likewise.
            special: options of the tokenizer.

        Raises:
            ValueError: the image processor rejects an image.
        """
        data: dict[str, Any] = {}
        groups = [video.tokens_per_group for video in videos for _ in range(video.groups)]
        counts = {self.token: iter(groups), self.image_token: iter(())}
        if images:
            data |= self.image_processor(images=list(images), return_tensors="pt")
            merged = self.image_processor.merge_size**2
            counts[self.image_token] = iter((data["image_grid_thw"].prod(-1) // merged).tolist())
        places = re.compile("|".join(map(re.escape, counts)))
        texts = [places.sub(lambda found: found[0] * next(counts[found[0]]), prompt) for prompt in prompts]
        data |= self.tokenizer(texts, padding=True, return_tensors="pt", **special)
        if "mm_token_type_ids" in self.input_names:
            image, video = (self.tokenizer.convert_tokens_to_ids(token) for token in (self.image_token, self.token))
            data["mm_token_type_ids"] = (data["input_ids"] == image).int() + 2 * (data["input_ids"] == video).int()
        if "second_per_grid_ts" in self.input_names:  # Qwen2.5-VL; no tensor, which would be cast with the pixels
            data["second_per_grid_ts"] = [video.seconds_per_group for video in videos]
        return data

    def encoder_inputs(self, videos: Sequence[SelectedVideo]) -> dict[str, Any]:
        """``pixel_values_videos`` and ``video_grid_thw`` from transformers' video processor.

        Raises:
            OSError, ValueError: a video cannot be decoded.
        """
        output = self.processor(
            [np.moveaxis(video.load(), -1, 1) for video in videos],
            do_sample_frames=False,
            do_resize=False,
            cap_pixels_per_frame=False,
            return_metadata=False,
            return_tensors="pt",
        )
        return {name: output[name] for name in ("pixel_values_videos", "video_grid_thw")}


class VideoSelector:
    """Selects frames by the requests' rules, and remembers what it selected."""

    def __init__(self, geometry: VideoGeometry) -> None:
        self.geometry = geometry
        self._lock = Lock()
        self._selected: OrderedDict[Hashable, SelectedVideo] = OrderedDict()

    def of(self, request: Request) -> tuple[SelectedVideo, ...]:
        """The videos of a request.

        Raises:
            OSError, ValueError: one cannot be read, or the rule cannot be applied to it.
        """
        if not request.videos:
            return ()
        if request.video_sampling is None:
            raise ValueError("it has a video and no rule for the choice of frames")
        return tuple(self._one(video, request.video_sampling) for video in request.videos)

    def _one(self, video: VideoRef, sampling: VideoSampling) -> SelectedVideo:
        key = video.key, video.start, video.end, sampling.name
        with self._lock:
            if (found := self._selected.get(key)) is not None:
                self._selected.move_to_end(key)
                return found
        selection = sampling.select(video.info(), self.geometry)
        width, height = selection.size
        factor = self.geometry.factor
        if not selection.indices or width % factor or height % factor or min(width, height) < factor:
            raise ValueError(
                f"{video.name}: {sampling.name} selects {len(selection.indices)} frames of {width} × {height} pixels; "
                f"expected at least one, with sides that are multiples of {factor}"
            )
        found = SelectedVideo(video, selection, sampling.name, self.geometry)
        with self._lock:
            self._selected[key] = found
            while len(self._selected) > REMEMBERED:
                self._selected.popitem(last=False)
        return found


def frame_groups(frames: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Views of ``size`` consecutive frames each; the last frame is repeated to fill the last one."""
    for start in range(0, len(frames), size):
        group = frames[start : start + size]
        missing = size - len(group)
        yield np.concatenate([group, *[group[-1:]] * missing]) if missing else group
