"""Encodes images and frame groups with the model's vision encoder, and caches their features."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch

from .vision import ImageProcessor, ProcessedImage


class EncoderCache:
    """The features of images and of videos' frame groups, least recently used first.

    An image's features have shape (1 + deep layers, tokens, width): the embeddings of its tokens and, for Qwen3-VL's
    deepstack features, added to the output of the first layers.

    Args:
        model: has ``get_image_features``.
        max_bytes: size of the cache (the latest image is always kept).
    """

    def __init__(
        self, model: Any, processor: ImageProcessor, *, device: torch.device, dtype: torch.dtype, max_bytes: int
    ) -> None:
        self.encoder = model.get_image_features
        self.encoder_arguments = set(inspect.signature(self.encoder).parameters)
        self.processor = processor
        self.device = device
        self.dtype = dtype
        self.max_bytes = max_bytes
        self.bytes = 0
        self._features: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._features

    def features(self, images: Mapping[Hashable, ProcessedImage], max_tokens: int) -> dict[Hashable, torch.Tensor]:
        """Return the features of images by key; missing ones are encoded, about ``max_tokens`` tokens at a time."""
        found = {}
        missing = []
        for key, image in images.items():
            if key in self._features:
                self._features.move_to_end(key)
                found[key] = self._features[key]
            else:
                missing.append((key, image))
        for batch in _batches(missing, max_tokens):
            for (key, _), features in zip(batch, self._encode([image for _, image in batch]), strict=True):
                found[key] = features
                self._add(key, features)
        return found

    def drop(self, key: Hashable) -> None:
        """Remove one image."""
        if (features := self._features.pop(key, None)) is not None:
            self.bytes -= features.nbytes

    def clear(self) -> None:
        """Remove all images."""
        self._features.clear()
        self.bytes = 0

    def _encode(self, images: Sequence[ProcessedImage]) -> list[torch.Tensor]:
        try:
            inputs = self.processor.collate(images, self.device, self.dtype)
        except ValueError:  # they cannot be batched
            return [self._encode([image])[0] for image in images]
        out = self.encoder(**{name: value for name, value in inputs.items() if name in self.encoder_arguments})
        layers = [_flatten(getattr(out, "pooler_output", out))]
        layers += [_flatten(layer) for layer in getattr(out, "deepstack_features", None) or ()]
        features = torch.stack([layer.to(self.device) for layer in layers])
        counts = [image.tokens for image in images]
        if sum(counts) != features.shape[1]:
            raise RuntimeError(
                f"the vision encoder returned {features.shape[1]} tokens for images with {sum(counts)} placeholders"
            )
        # Cloned: a view would keep the whole batch's features alive.
        return [part.clone() if len(images) > 1 else part for part in features.split(counts, dim=1)]

    def _add(self, key: Hashable, features: torch.Tensor) -> None:
        self._features[key] = features
        self.bytes += features.nbytes
        while self.bytes > self.max_bytes and len(self._features) > 1:
            _, oldest = self._features.popitem(last=False)
            self.bytes -= oldest.nbytes


def _flatten(features: Any) -> torch.Tensor:
    """Return (tokens, width) from one tensor or from one per image or tile."""
    parts = features if isinstance(features, (tuple, list)) else [features]
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _batches(
    images: Sequence[tuple[Hashable, ProcessedImage]], max_tokens: int
) -> Iterator[list[tuple[Hashable, ProcessedImage]]]:
    batch: list[tuple[Hashable, ProcessedImage]] = []
    room = max_tokens
    for key, image in images:
        if batch and image.tokens > room:
            yield batch
            batch, room = [], max_tokens
        batch.append((key, image))
        room -= image.tokens
    if batch:
        yield batch
