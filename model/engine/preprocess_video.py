"""Preprocessing of videos: decoded and resized in threads, kept as bytes, normalized and cut on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evalkit.model.videos import frame_groups

from .preprocess import EncoderInput, normalize

FRAMES = "frames"
"""The name of a frame group's pixels among an ``EncoderInput``'s tensors."""


class VideoPreprocessor:
    """Cuts frames as the video processors of the Qwen2-VL line do, which are given frames of the final size.

    Args:
        video_processor: its settings are read in each call.
    """

    def __init__(self, video_processor: Any) -> None:
        self.processor = video_processor

    def prepare(self, frames: NDArray[np.uint8]) -> list[EncoderInput]:
        """Frame groups of a video: ``frames``, (frames of a group, height, width, 3) uint8, views of the argument.

        Args:
            frames: (frames, height, width, 3) uint8.
        """
        size, (height, width) = self.processor.temporal_patch_size, frames.shape[1:3]
        if not frames.flags.writeable:  # a cached file, which torch would warn of
            frames = frames.copy()
        return [
            EncoderInput({FRAMES: torch.from_numpy(group)}, (width, height)) for group in frame_groups(frames, size)
        ]

    def collate(
        self, groups: Sequence[EncoderInput], device: torch.device | str, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the encoder's inputs for a batch of frame groups, which may be of different videos.

        Returns:
            ``pixel_values``: (patches, 3 × frames × patch × patch) of ``dtype`` on the device, normalized in fp32; and
            the grid of each group in patches: (groups, 3), on the CPU.
        """
        patch, merge = self.processor.patch_size, self.processor.merge_size
        values, grids = [], []
        for group in groups:
            pixels = group.tensors[FRAMES].to(device, non_blocking=True)
            frames, height, width, _ = pixels.shape
            grid = 1, height // patch, width // patch
            normal = normalize(pixels.permute(0, 3, 1, 2), self.processor).to(dtype)
            cut = normal.reshape(frames, 3, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch)
            values.append(cut.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(grid[1] * grid[2], -1))
            grids.append(grid)
        return torch.cat(values), torch.tensor(grids)
