"""Frames of clips as the checkpoint's video processor prepares them."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import torch
from clips import SIDE, Clip, sampled_times
from PIL import Image
from scenes import Scene, render

FRAME = (SIDE, SIDE)
PATCH = 14
GRID = SIDE // PATCH  # patches per side
SLOTS = (GRID // 2) ** 2  # visual tokens per image or pair of frames


def compressed(image: Image.Image, rng: random.Random) -> Image.Image:
    """``image`` with the artefacts of a compressed file, colours at half of the resolution among them."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(50, 92), subsampling=2)
    return Image.open(file).convert("RGB")


def drawn_pairs(clip: Clip) -> list[tuple[Scene, Scene]]:
    """The scenes of the frames that the model sees, in the pairs that are encoded together."""
    scenes = [clip.at(time) for time in sampled_times(clip)]
    return list(zip(scenes[::2], scenes[1::2], strict=True))


def clip_patches(clip: Clip, image_processor: Any, rng: random.Random) -> torch.Tensor:
    """(pairs of frames, 64, 1176): the patches of the frames that the model sees."""
    scenes = [scene for pair in drawn_pairs(clip) for scene in pair]
    frames = np.stack([np.asarray(compressed(render(scene, *FRAME), rng)) for scene in scenes])
    return patches_of(frames, image_processor)


def patches_of(frames: np.ndarray, image_processor: Any) -> torch.Tensor:
    """Frames (even number, 112, 112, 3) as patches (pairs, 64, 1176) in the order of the processor.

    The order in a row is that of 2 × 2 blocks; in a patch: channel, frame, row, column.
    """
    mean, std = (torch.tensor(getattr(image_processor, name)) for name in ("image_mean", "image_std"))
    pixels = (torch.from_numpy(frames).float() / 255 - mean) / std
    half = GRID // 2
    blocks = pixels.view(-1, 2, half, 2, PATCH, half, 2, PATCH, 3)
    return blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(len(frames) // 2, GRID * GRID, -1)
