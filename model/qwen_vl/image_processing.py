"""Qwen-VL's image processor: RGB, 448 × 448, normalised by CLIP's mean and standard deviation.

Images are resized to a square with Pillow's bicubic filter: the aspect ratio is not kept, and alpha is dropped.
torch's bicubic filter differs by up to 0.2 in normalised pixels, so there is no tensor backend.

The published checkpoint has no ``preprocessor_config.json``: the side comes from ``visual.image_size`` in its
``config.json``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_transforms import to_pil_image

SIDE = 448
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class QwenVLImageProcessor(BaseImageProcessor):
    """Resizes and normalises images.

    Args:
        size: ``{"height": 448, "width": 448}``, or the side of a square; in pixels.
        image_mean, image_std: per channel, for values between 0 and 1.
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        size: Mapping[str, int] | int | None = None,
        image_mean: Sequence[float] = MEAN,
        image_std: Sequence[float] = STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        side = SIDE if size is None else size
        self.size = {"height": side, "width": side} if isinstance(side, int) else dict(side)
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """``pixel_values`` (images, 3, height, width), float32.

        Args:
            images: one image or (nested) lists of them: Pillow's, arrays or tensors with 0 to 255 in three channels.

        Raises:
            ValueError: an unknown option.
        """
        if unknown := [name for name, value in kwargs.items() if value is not None]:
            raise ValueError(
                f"{unknown[0]} is not supported: Qwen-VL's images are always resized and normalised the same way"
            )
        pixels = [self.pixels(self.fetch_images(image)) for image in flat(images)]
        shape = (0, 3, self.size["height"], self.size["width"])
        values = torch.stack(pixels) if pixels else torch.empty(shape)
        return BatchFeature({"pixel_values": values}, tensor_type=return_tensors)

    def pixels(self, image: Any) -> torch.Tensor:
        """One image as (3, height, width), float32."""
        opened = image if isinstance(image, Image.Image) else to_pil_image(image)
        resized = opened.convert("RGB").resize((self.size["width"], self.size["height"]), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().to(torch.float32).div_(255)
        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.image_mean, self.image_std))
        return values.sub_(mean).div_(std)

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The saved settings; without saved ones, as in the published checkpoint, those of ``config.json``."""
        try:
            found: tuple[dict[str, Any], dict[str, Any]] = super().get_image_processor_dict(
                pretrained_model_name_or_path, **kwargs
            )
            return found
        except OSError:
            config, rest = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
            visual = config.get("visual") or {}
            return {"size": int(visual.get("image_size", SIDE))}, rest


def flat(images: Any) -> list[Any]:
    """The images of nested lists, in order."""
    if isinstance(images, (list, tuple)):
        return [image for nested in images for image in flat(nested)]
    return [] if images is None else [images]
