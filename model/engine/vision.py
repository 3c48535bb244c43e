"""Image processors: from a decoded image to the vision encoder's inputs and the image's placeholder tokens.

Preprocessing needs the processor only, and runs in threads; encoding is the model's (``encoder_cache.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from evalkit.types import Size

from .preprocess import BytePreprocessor, EncoderInput, GenericPreprocessor


@dataclass(frozen=True)
class ProcessedImage:
    """A preprocessed image.

    Attributes:
        ids: the tokens that replace its placeholder in the prompt.
        tokens: how many of them are visual tokens.
        grid: (rows, columns) of its visual tokens, if the model numbers their positions as a grid.
        encoder_input: for the vision encoder; None once the image is encoded.
        encoded_size: (width, height) at which the encoder sees it, if the processor says so.
    """

    ids: tuple[int, ...]
    tokens: int
    grid: tuple[int, int] | None
    encoder_input: EncoderInput | None
    encoded_size: Size | None


class ImageProcessor(Protocol):
    """Preprocesses the images of one kind of model."""

    def preprocess(self, image: Any) -> ProcessedImage:
        """Resize a decoded image and count its tokens.  Raises ``ValueError`` if the processor rejects it."""
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
        grids_on_cpu: whether the encoder takes images' grids on the CPU (``patches/vision_grids.py``).
    """

    def __init__(self, processor: Any, image_token: int, *, grids_on_cpu: bool = False) -> None:
        image_processor = processor.image_processor
        self.image_token = image_token
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
        if self.bytes is None:
            return self.generic.collate(inputs, device, dtype)
        values, grids = self.bytes.collate(inputs, device, dtype)
        return {"pixel_values": values, "image_grid_thw": grids if self.grids_on_cpu else grids.to(device)}


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

    def collate(
        self, images: Sequence[ProcessedImage], device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, torch.Tensor]:
        preprocessor = GenericPreprocessor(self.processor.image_processor)
        return preprocessor.collate([_encoder_input(image) for image in images], device, dtype)


def _encoder_input(image: ProcessedImage) -> EncoderInput:
    if image.encoder_input is None:
        raise RuntimeError("an image's pixels were freed before it was encoded")
    return image.encoder_input
