"""Images on their way to the vision encoder: resized in threads, kept as bytes, normalised and cut on the device.

The Qwen2-VL line of image processors resizes an image's bytes, then makes floats of them, normalises, cuts them into
patches and writes each patch once for every frame that the encoder looks at together (two, also of a still image):
eight times the resized image's bytes.  Here the processor itself does the resizing, and the rest is done where the
encoder is, for all images of a batch at once.  ``Pixels.fits`` says whether that is the same; for whatever it is not,
and for every other processor, ``Generic`` keeps what the processor gives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .kv_cache import sent

# (width, height) of the images that ``fits`` tries: odd, tall, wide, tiny, exact, one that most limits shrink.
PROBES = ((301, 199), (61, 350), (397, 53), (9, 14), (112, 84), (33, 31), (1201, 1103))


@dataclass(frozen=True, eq=False)
class Raw:
    """An image ready for the device.

    Attributes:
        tensors: by name, as the processor calls them; for ``Pixels`` its bytes and its grid.
        size: (width, height) in pixels as the encoder sees it; None where the processor does not say.
    """

    tensors: Mapping[str, Tensor]
    size: tuple[int, int] | None = None

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class Pixels:
    """Images as bytes, for image processors of the Qwen2-VL line (see ``fits``).

    Args:
        image_processor: its settings are read at each call, so limits may change between calls.
    """

    def __init__(self, image_processor: Any) -> None:
        self.processor = image_processor

    def prepare(self, image: Image.Image) -> Raw:
        """Resize an image as the processor does; safe in several threads.

        Returns:
            ``pixels``: (blocks, 3, side, side) uint8, the resized image in squares of ``merge_size`` × ``merge_size``
            patches, rows first; and ``image_grid_thw``: (1, 3), its patches.

        Raises:
            ValueError: the processor does not take such an image (more than 200 times as long as wide).
        """
        processor = self.processor
        merge, side = processor.merge_size, processor.patch_size * processor.merge_size
        # Patches of a whole block, one frame, no arithmetic: what is left of the processor's work is the resizing.
        made = processor(
            images=[image], patch_size=side, merge_size=1, temporal_patch_size=1,
            do_rescale=False, do_normalize=False, return_tensors="pt",
        )  # fmt: skip
        pixels = made["pixel_values"].unflatten(-1, (-1, side, side))
        if pixels.dtype != torch.uint8:
            raise TypeError(f"{type(processor).__name__} resizes to {pixels.dtype}, not to bytes")
        time, high, wide = made["image_grid_thw"][0].tolist()
        grid = torch.tensor([[time, high * merge, wide * merge]])
        return Raw({"pixels": pixels, "image_grid_thw": grid}, (wide * side, high * side))

    def finish(self, raws: Sequence[Raw], device: torch.device | str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Images as the encoder takes them.

        Returns:
            ``pixel_values``: (patches, 3 × frames × patch × patch) of ``dtype`` on the device, normalised in fp32; and
            ``image_grid_thw``: (images, 3), on the CPU.
        """
        processor = self.processor
        patch, merge, frames = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        parts = [raw.tensors["pixels"] for raw in raws]
        if torch.device(device).type == "cuda":
            room = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=torch.uint8, pin_memory=True)
            pixels = torch.cat(parts, out=room)
        else:
            pixels = torch.cat(parts)
        values = self._normalised(pixels.to(device, non_blocking=True))
        values = values.to(dtype).view(-1, 3, merge, patch, merge, patch).permute(0, 2, 4, 1, 3, 5)
        values = values.unsqueeze(4).expand(-1, -1, -1, -1, frames, -1, -1)
        grid = torch.cat([raw.tensors["image_grid_thw"] for raw in raws])
        return values.reshape(-1, 3 * frames * patch * patch), grid

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Bytes (blocks, 3, side, side) as the processor makes fp32 of them.

        Its own function makes tensors of its numbers on the device, which waits for it each time.
        """
        processor = self.processor
        factor = processor.rescale_factor if processor.do_rescale else 1.0
        if not processor.do_normalize:
            return pixels.float() * factor
        mean, std = (torch.tensor(numbers) * (1.0 / factor) for numbers in (processor.image_mean, processor.image_std))
        mean, std = sent(torch.stack([mean, std])[..., None, None], pixels.device).unbind()
        return pixels.float().sub_(mean).div_(std)

    @staticmethod
    def fits(image_processor: Any) -> bool:
        """Whether ``prepare`` and ``finish`` give, bit for bit, what the processor gives for a few drawn images."""
        pixels = Pixels(image_processor)
        try:
            raws = []
            for image in _probes():
                raws.append(pixels.prepare(image))
                expected = image_processor(images=[image], return_tensors="pt")
                if set(expected) != {"pixel_values", "image_grid_thw"}:
                    return False
                found = pixels.finish(raws[-1:], "cpu", torch.float32)
                if not _same(found, (expected["pixel_values"], expected["image_grid_thw"])):
                    return False
        except Exception:  # another kind of processor, which may fail at anything
            return False
        return True


class Generic:
    """Images as any image processor gives them, one by one.

    Args:
        image_processor: of any kind.
    """

    def __init__(self, image_processor: Any) -> None:
        self.processor = image_processor

    def prepare(self, image: Image.Image) -> Raw:
        """What the processor makes of an image.

        Raises:
            ValueError: it does not take such an image, or makes something other than tensors of it.
        """
        made = self.processor(images=[image], return_tensors="pt")
        odd = [name for name, value in made.items() if not isinstance(value, Tensor) or value.ndim == 0]
        if odd:
            raise ValueError(f"{type(self.processor).__name__} gives {', '.join(sorted(odd))}, which is no tensor")
        return Raw(dict(made.items()))

    def finish(self, raws: Sequence[Raw], device: torch.device | str, dtype: torch.dtype) -> dict[str, Tensor]:
        """The images' tensors, one after another along the first dimension, floating ones as ``dtype``.

        Raises:
            ValueError: they are not alike: other tensors, or of other shapes.
        """
        made: dict[str, Tensor] = {}
        for name in raws[0].tensors:
            if any(set(raw.tensors) != set(raws[0].tensors) for raw in raws):
                raise ValueError("the processor made different tensors of different images")
            parts = [raw.tensors[name] for raw in raws]
            if len({part.shape[1:] for part in parts}) > 1:
                shapes = sorted({tuple(part.shape) for part in parts})
                raise ValueError(f"{name} cannot be put together: {', '.join(map(str, shapes))}")
            whole = sent(torch.cat(parts), torch.device(device))
            made[name] = whole.to(dtype) if whole.is_floating_point() else whole
        return made


def _same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def _probes() -> list[Image.Image]:
    """Drawn images as the loader gives them (RGB), some of which were grey, had a palette or were transparent."""
    rng = random.Random(0)
    made: list[Image.Image] = []
    convert: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: image,
        lambda image: image.convert("L"),
        lambda image: image.convert("P"),
        lambda image: image.convert("RGBA"),
    ]
    for at, (width, height) in enumerate(PROBES):
        small = Image.frombytes("RGB", (16, 16), rng.randbytes(16 * 16 * 3))
        # Smooth and rough: enlarged noise, with noise in a corner.
        image = small.resize((width, height), Image.Resampling.BICUBIC)
        image.paste(Image.frombytes("RGB", (32, 32), rng.randbytes(32 * 32 * 3)), (0, 0))
        made.append(convert[at % 4](image).convert("RGB"))
    return made
