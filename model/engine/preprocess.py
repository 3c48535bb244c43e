"""Preprocessing of images: resized in threads, kept as bytes, normalized and cut into patches on the device.

Image processors of the Qwen2-VL line resize an image, convert it to floats, normalize it, cut it into patches and
repeat each patch for every frame that the encoder takes together (two, even for a still image): eight times the bytes
of the resized image.  ``BytePreprocessor`` uses the processor for resizing only and does the rest on the device, for a
whole batch of images.  ``BytePreprocessor.supports`` tests whether the result is identical; where it is not, and for
all other processors, ``GenericPreprocessor`` keeps the processor's own output.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .transfer import to_device

# (width, height) of the images that ``supports`` tries: odd, tall, wide, tiny, exact, and one that most limits shrink.
PROBE_SIZES = ((301, 199), (61, 350), (397, 53), (9, 14), (112, 84), (33, 31), (1201, 1103))


@dataclass(frozen=True, eq=False)
class EncoderInput:
    """A preprocessed image, on the CPU.

    Attributes:
        tensors: the processor's output by name; from ``BytePreprocessor`` the image's bytes and its grid.
        size: (width, height) in pixels as the encoder sees it; None if the processor does not say.
    """

    tensors: Mapping[str, Tensor]
    size: tuple[int, int] | None = None

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class BytePreprocessor:
    """Keeps images as bytes, for image processors of the Qwen2-VL line (see ``supports``).

    Args:
        image_processor: its settings are read in each call, so limits may change between calls.
    """

    def __init__(self, image_processor: Any) -> None:
        self.processor = image_processor

    def prepare(self, image: Image.Image) -> EncoderInput:
        """Resize an image as the processor does.  Thread-safe.

        Returns:
            ``pixels``: (blocks, 3, side, side) uint8, the resized image in squares of ``merge_size`` × ``merge_size``
            patches, row by row; and ``image_grid_thw``: (1, 3), its size in patches.

        Raises:
            ValueError: the processor rejects the image (its aspect ratio is above 200).
        """
        processor = self.processor
        merge, side = processor.merge_size, processor.patch_size * processor.merge_size
        # With patches as large as a block, one frame and no arithmetic, the processor only resizes.
        output = processor(
            images=[image], patch_size=side, merge_size=1, temporal_patch_size=1,
            do_rescale=False, do_normalize=False, return_tensors="pt",
        )  # fmt: skip
        pixels = output["pixel_values"].unflatten(-1, (-1, side, side))
        if pixels.dtype != torch.uint8:
            raise TypeError(f"{type(processor).__name__} resizes to {pixels.dtype}, expected torch.uint8")
        time, height, width = output["image_grid_thw"][0].tolist()
        grid = torch.tensor([[time, height * merge, width * merge]])
        return EncoderInput({"pixels": pixels, "image_grid_thw": grid}, (width * side, height * side))

    def collate(
        self, images: Sequence[EncoderInput], device: torch.device | str, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the encoder's inputs for a batch of images.

        Returns:
            ``pixel_values``: (patches, 3 × frames × patch × patch) of ``dtype`` on the device, normalized in fp32; and
            ``image_grid_thw``: (images, 3), on the CPU.
        """
        processor = self.processor
        patch, merge, frames = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        parts = [image.tensors["pixels"] for image in images]
        if torch.device(device).type == "cuda":
            pinned = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=torch.uint8, pin_memory=True)
            pixels = torch.cat(parts, out=pinned)
        else:
            pixels = torch.cat(parts)
        values = normalize(pixels.to(device, non_blocking=True), processor)
        values = values.to(dtype).view(-1, 3, merge, patch, merge, patch).permute(0, 2, 4, 1, 3, 5)
        values = values.unsqueeze(4).expand(-1, -1, -1, -1, frames, -1, -1)
        grids = torch.cat([image.tensors["image_grid_thw"] for image in images])
        return values.reshape(-1, 3 * frames * patch * patch), grids

    @staticmethod
    def supports(image_processor: Any) -> bool:
        """Whether ``prepare`` and ``collate`` are bit-identical to the processor on a few synthetic images."""
        preprocessor = BytePreprocessor(image_processor)
        try:
            for image in _probe_images():
                prepared = preprocessor.prepare(image)
                expected = image_processor(images=[image], return_tensors="pt")
                if set(expected) != {"pixel_values", "image_grid_thw"}:
                    return False
                found = preprocessor.collate([prepared], "cpu", torch.float32)
                if not _identical(found, (expected["pixel_values"], expected["image_grid_thw"])):
                    return False
        except Exception:  # another kind of processor can fail in any way
            return False
        return True


def normalize(pixels: Tensor, processor: Any) -> Tensor:
    """Normalize bytes (…, 3, height, width) to fp32 with the arithmetic of an image or video processor.

    The processor's own function creates tensors on the device from Python numbers, each of which synchronizes.
    """
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return pixels.float() * factor
    mean, std = (torch.tensor(numbers) * (1.0 / factor) for numbers in (processor.image_mean, processor.image_std))
    mean, std = to_device(torch.stack([mean, std])[..., None, None], pixels.device).unbind()
    return pixels.float().sub_(mean).div_(std)


class GenericPreprocessor:
    """Keeps the output of any image processor, image by image.

    Args:
        image_processor: of any kind.
    """

    def __init__(self, image_processor: Any) -> None:
        self.processor = image_processor

    def prepare(self, image: Image.Image) -> EncoderInput:
        """Return the processor's output for an image.

        Raises:
            ValueError: it rejects the image, or returns something other than tensors.
        """
        output = self.processor(images=[image], return_tensors="pt")
        invalid = [name for name, value in output.items() if not isinstance(value, Tensor) or value.ndim == 0]
        if invalid:
            raise ValueError(f"{type(self.processor).__name__} returns no tensor for {', '.join(sorted(invalid))}")
        return EncoderInput(dict(output.items()))

    def collate(
        self, images: Sequence[EncoderInput], device: torch.device | str, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Concatenate the images' tensors along the first dimension, floating-point ones as ``dtype``.

        Raises:
            ValueError: they have different tensors, or tensors of different shapes.
        """
        collated: dict[str, Tensor] = {}
        for name in images[0].tensors:
            if any(set(image.tensors) != set(images[0].tensors) for image in images):
                raise ValueError("the processor returned different tensors for different images")
            parts = [image.tensors[name] for image in images]
            if len({part.shape[1:] for part in parts}) > 1:
                shapes = sorted({tuple(part.shape) for part in parts})
                raise ValueError(f"cannot batch {name} of different shapes: {', '.join(map(str, shapes))}")
            tensor = to_device(torch.cat(parts), torch.device(device))
            collated[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        return collated


def _identical(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def _probe_images() -> list[Image.Image]:
    """Synthetic RGB images, as the loader returns them; some were converted from grey, palette or transparent ones."""
    rng = random.Random(0)
    images: list[Image.Image] = []
    conversions: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: image,
        lambda image: image.convert("L"),
        lambda image: image.convert("P"),
        lambda image: image.convert("RGBA"),
    ]
    for at, (width, height) in enumerate(PROBE_SIZES):
        small = Image.frombytes("RGB", (16, 16), rng.randbytes(16 * 16 * 3))
        # Smooth and rough areas: enlarged noise, and noise in a corner.
        image = small.resize((width, height), Image.Resampling.BICUBIC)
        image.paste(Image.frombytes("RGB", (32, 32), rng.randbytes(32 * 32 * 3)), (0, 0))
        images.append(conversions[at % 4](image).convert("RGB"))
    return images
