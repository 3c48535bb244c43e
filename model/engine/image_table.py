"""The images of one window of requests: each is loaded and encoded once, then freed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import torch

from evalkit.types import ImageRef, image_key

from .encoder_cache import EncoderCache
from .image_prefetcher import ImagePrefetcher
from .prefix_tree import Parts
from .vision import ImageProcessor, ProcessedImage


class ImageTable:
    """Numbers a window's images, and loads and encodes them when they are needed.

    In the elements of a sequence (``Parts``) image n is the number ``-1 - n``, the same in all sequences.

    Args:
        placeholder: the token that stands for an image in a prompt.

    Attributes:
        prefetcher: None to read each image when it is needed.
    """

    def __init__(self, placeholder: int, processor: ImageProcessor, cache: EncoderCache) -> None:
        self.placeholder = placeholder
        self.processor = processor
        self.cache = cache
        self.prefetcher: ImagePrefetcher | None = None
        self.images: list[ImageRef] = []
        self._keys: list[str] = []
        self._numbers: dict[str, int] = {}
        self._processed: dict[int, ProcessedImage] = {}
        self._estimates: dict[int, int] = {}
        self._uses: Counter[int] = Counter()
        self._contexts: dict[int, set[Parts]] = {}

    def add(self, prompt: Iterable[int], images: Iterable[ImageRef], estimated_tokens: int) -> Parts:
        """Number the images of a prompt.

        Args:
            prompt: its tokens, with one placeholder per image.
            images: its images, in the order of the placeholders.
            estimated_tokens: its length with all visual tokens, as far as known before images are read.

        Returns:
            its elements.
        """
        images = list(images)
        numbers = iter([-1 - self._number(image) for image in images])
        parts = tuple(next(numbers) if token == self.placeholder else token for token in prompt)
        per_image = max(1, (estimated_tokens - len(parts)) // max(1, len(images)) + 1)
        context = tuple(part for part in parts if part < 0)
        for part in set(context):
            self._estimates.setdefault(part, per_image)
            self._contexts.setdefault(part, set()).add(context)
            self._uses[part] += 1
        return parts

    def length(self, part: int) -> int:
        """The number of tokens of an element; an estimate for images that are not loaded yet."""
        if part >= 0:
            return 1
        return len(self._processed[part].ids) if part in self._processed else self._estimates[part]

    def tokens(self, parts: Iterable[int]) -> int:
        """The number of tokens of several elements."""
        return sum(map(self.length, parts))

    def load(self, parts: Iterable[int], to_encode: Iterable[int]) -> None:
        """Load the images among the parts; those to encode with their pixels, unless their features are cached.

        Raises:
            OSError, ValueError: an image cannot be read.
        """
        for part in parts:
            if part < 0 and part not in self._processed:
                self._processed[part] = self._read(part)
        for part in to_encode:
            if part < 0 and self._key(part) not in self.cache:
                self._load_pixels(part)

    def processed(self, part: int) -> ProcessedImage:
        """An image that has been loaded."""
        return self._processed[part]

    def features(self, parts: Iterable[int], max_tokens: int) -> dict[int, torch.Tensor]:
        """Return the features of the images among the parts, encoding about ``max_tokens`` tokens at a time.

        Raises:
            OSError: an image was evicted from the cache and cannot be read again.
        """
        keys = {part: self._key(part) for part in parts if part < 0}
        for part, key in keys.items():
            if key not in self.cache:
                self._load_pixels(part)
        features = self.cache.features({key: self._processed[part] for part, key in keys.items()}, max_tokens)
        for part in keys:
            self._processed[part] = replace(self._processed[part], encoder_input=None)
        return {part: features[key] for part, key in keys.items()}

    def release(self, parts: Iterable[int]) -> None:
        """Free what only this sequence needed, once it is prefilled."""
        for part in set(parts):
            if part < 0:
                self._uses[part] -= 1
                # Images of few-shot examples come with various other images, and may come again in later windows.
                if not self._uses[part] and len(self._contexts[part]) == 1:
                    self.cache.drop(self._key(part))

    def _number(self, image: ImageRef) -> int:
        key = image_key(image)
        number = self._numbers.setdefault(key, len(self.images))
        if number == len(self.images):
            self.images.append(image)
            self._keys.append(key)
        return number

    def _key(self, part: int) -> str:
        return self._keys[-1 - part]

    def _load_pixels(self, part: int) -> None:
        if self._processed[part].encoder_input is None:
            self._processed[part] = self._read(part)

    def _read(self, part: int) -> ProcessedImage:
        image = self.images[-1 - part]
        return self.processor.preprocess(image.load()) if self.prefetcher is None else self.prefetcher.get(image)
