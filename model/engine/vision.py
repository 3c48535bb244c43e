"""Image processors: from a decoded image to the vision encoder's inputs and the image's placeholder tokens.

The frame groups of a video (``model/hf/videos.py``) are processed as images with several frames: encoders of the
Qwen2-VL line attend within a group only, so that a group's features do not depend on the others.

Preprocessing needs the processor only, and runs in threads; encoding is the model's (``encoder_cache.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch

from evalkit.model.hf.positions import group_times
from evalkit.model.hf.videos import VideoFormat
from evalkit.model.videos import SelectedVideo
from evalkit.types import Size

from .preprocess import BytePreprocessor, EncoderInput, GenericPreprocessor
from .preprocess_video import FRAMES, VideoPreprocessor


@dataclass(frozen=True)
class ProcessedImage:
    """A preprocessed image, or a frame group of a video.

    Attributes:
        ids: the tokens that replace its placeholder in the prompt.
        tokens: how many of them are visual tokens.
        grid: (rows, columns) of its visual tokens, if the model numbers their positions as a grid.
        encoder_input: for the vision encoder; None once the image is encoded.
        encoded_size: (width, height) at which the encoder sees it, if the processor says so.
        offset: of a frame group: how far the next position is from the video's own start, before this group.
        time: its position in time, from the video's own start.
    """

    ids: tuple[int, ...]
    tokens: int
    grid: tuple[int, int] | None
    encoder_input: EncoderInput | None
    encoded_size: Size | None
    offset: int = 0
    time: int = 0


class ImageProcessor(Protocol):
    """Preprocesses the images and videos of one kind of model."""

    def preprocess(self, image: Any) -> ProcessedImage:
        """Resize a decoded image and count its tokens.  Raises ``ValueError`` if the processor rejects it."""
        ...

    def frame_groups(self, video: SelectedVideo) -> Sequence[ProcessedImage]:
        """A video's frame groups, without their pixels."""
        ...

    def preprocess_video(self, video: SelectedVideo) -> Sequence[EncoderInput]:
        """Decode a video: the pixels of each of its frame groups.  Raises ``OSError`` or ``ValueError``."""
        ...

    def collate(
        self, images: Sequence[ProcessedImage], device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, torch.Tensor]:
        """Return the vision encoder's inputs.  Raises ``ValueError`` if these images cannot be batched."""
        ...


class PatchImageProcessor:
    """For the Qwen2-VL line: images of any size, one token per square of ``merge_size`` × ``merge_size`` patches.

    Args:
        image_token: the token of a visual token's place.
        videos: how videos are given; None if they are not.
        video_token: the token of a visual token's place in a video.
        tokens_per_second: the scale of time of a video's positions; None to count frame groups.
        grids_on_cpu: whether the encoder takes images' grids on the CPU (``patches/vision_grids.py``).
    """

    def __init__(
        self,
        processor: Any,
        image_token: int,
        *,
        videos: VideoFormat | None = None,
        video_token: int | None = None,
        tokens_per_second: float | None = None,
        grids_on_cpu: bool = False,
    ) -> None:
        image_processor = processor.image_processor
        self.image_token = image_token
        self.videos = None if videos is None else VideoPreprocessor(videos.processor)
        self.with_times = videos is not None and videos.with_times
        self.video_token = video_token
        self.tokens_per_second = tokens_per_second
        self.grids_on_cpu = grids_on_cpu
        self.merge_size = int(image_processor.merge_size)
        self.patch_size = int(image_processor.patch_size)
        self.bytes = BytePreprocessor(image_processor) if BytePreprocessor.supports(image_processor) else None
        self.generic = GenericPreprocessor(image_processor)

    def preprocess(self, image: Any) -> ProcessedImage:
        prepared = self.generic.prepare(image) if self.bytes is None else self.bytes.prepare(image)
        ((_, height, width),) = prepared.tensors["image_grid_thw"].tolist()
        grid = (height // self.merge_size, width // self.merge_size)
        tokens = grid[0] * grid[1]
        size = (width * self.patch_size, height * self.patch_size)
        return ProcessedImage((self.image_token,) * tokens, tokens, grid, prepared, size)

    def collate(
        self, images: Sequence[ProcessedImage], device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, torch.Tensor]:
        inputs = [_encoder_input(image) for image in images]
        if self.bytes is None and not any(FRAMES in one.tensors for one in inputs):
            return self.generic.collate(inputs, device, dtype)
        found = []
        for is_video, run in groupby(inputs, key=lambda one: FRAMES in one.tensors):
            found.append((self._collate_videos if is_video else self._collate_images)(list(run), device, dtype))
        values, grids = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*found, strict=True))
        return {"pixel_values": values, "image_grid_thw": grids if self.grids_on_cpu else grids.to(device)}

    def frame_groups(self, video: SelectedVideo) -> Sequence[ProcessedImage]:
        assert self.video_token is not None
        count, grid = video.groups, (video.rows, video.columns)
        times = [0] * count if self.with_times else group_times(count, video.seconds_per_group, self.tokens_per_second)
        ids = (self.video_token,) * video.tokens_per_group  # one tuple for all groups
        offset = 0
        found = []
        for time in times:
            found.append(ProcessedImage(ids, len(ids), grid, None, video.selection.size, offset, time))
            offset = 0 if self.with_times else max(time + 1, *grid)
        return found

    def preprocess_video(self, video: SelectedVideo) -> Sequence[EncoderInput]:
        assert self.videos is not None
        return self.videos.prepare(video.load())

    def _collate_images(
        self, inputs: Sequence[EncoderInput], device: torch.device, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.bytes is not None:
            return self.bytes.collate(inputs, device, dtype)
        collated = self.generic.collate(inputs, device, dtype)
        return collated["pixel_values"], collated["image_grid_thw"].cpu()

    def _collate_videos(
        self, inputs: Sequence[EncoderInput], device: torch.device, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.videos is not None
        return self.videos.collate(inputs, device, dtype)


class GenericImageProcessor:
    """For any processor: it is given one image at a time, with no text but the image's placeholder.

    Args:
        image_token: the token of a visual token's place.
        placeholder: the text that stands for an image in a prompt.
    """

    def __init__(self, processor: Any, image_token: int, placeholder: str) -> None:
        self.processor = processor
        self.image_token = image_token
        self.placeholder = placeholder

    def preprocess(self, image: Any) -> ProcessedImage:
        outputs = dict(self.processor(text=[self.placeholder], images=[[image]], return_tensors="pt"))
        ids = outputs.pop("input_ids")[0].tolist()
        mask = outputs.pop("attention_mask", None)
        if mask is not None:
            ids = [token for token, attended in zip(ids, mask[0].tolist(), strict=True) if attended]
        tokenizer = self.processor.tokenizer
        special = set(tokenizer.all_special_ids) - {self.image_token}
        while ids and ids[0] in special and ids[0] == tokenizer.bos_token_id:
            ids = ids[1:]  # the tokenizer begins every text with it
        for name in ("mm_token_type_ids", "token_type_ids", "labels"):
            outputs.pop(name, None)
        tensors = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
        size = getattr(self.processor, "image_size", None)
        return ProcessedImage(tuple(ids), ids.count(self.image_token), None, EncoderInput(tensors), size)

    def frame_groups(self, video: SelectedVideo) -> Sequence[ProcessedImage]:
        raise TypeError("this model is given the frames of a video as images")

    def preprocess_video(self, video: SelectedVideo) -> Sequence[EncoderInput]:
        raise TypeError("this model is given the frames of a video as images")

    def collate(
        self, images: Sequence[ProcessedImage], device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, torch.Tensor]:
        preprocessor = GenericPreprocessor(self.processor.image_processor)
        return preprocessor.collate([_encoder_input(image) for image in images], device, dtype)


def _encoder_input(image: ProcessedImage) -> EncoderInput:
    if image.encoder_input is None:
        raise RuntimeError("an image's pixels were freed before it was encoded")
    return image.encoder_input
