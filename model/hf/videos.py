"""Videos in prompts of models in this process: the text that stands for them, and the model's inputs.

A frame group (``model/videos.py``) has one placeholder token in a planned prompt, and as many in the model's input as
it has visual tokens.

Qwen2-VL and Qwen2.5-VL have one run of placeholders per video.  Qwen3-VL has the time before each group as text:
``<0.5 seconds><|vision_start|>…<|vision_end|>``, in place of the delimiters that the chat template writes, as
transformers 4.57 and vLLM do.  (transformers 5.23 keeps these around the whole, so its processor is not asked.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor

from evalkit.model.videos import SelectedVideo
from evalkit.types import VideoGeometry

NO_PLACE = "the checkpoint's chat template has no place for videos"


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
