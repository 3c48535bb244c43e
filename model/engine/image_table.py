"""The images of one window of requests: each is loaded and encoded once, then freed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import torch

from evalkit.types import ImageRef, image_key

from .encoder_cache import EncoderCache
from .image_prefetcher import ImagePrefetcher
from .prefix_tree import Elements
from .vision import ImageProcessor, ProcessedImage


class ImageTable:
    """Numbers a window's images, and loads and encodes them when they are needed.

    In the elements of a sequence (``Elements``) image n is the number ``-1 - n``, the same in all sequences.

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
        self._contexts: dict[int, set[Elements]] = {}

    def add(self, prompt: Iterable[int], images: Iterable[ImageRef], estimated_tokens: int) -> Elements:
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
        elements = tuple(next(numbers) if token == self.placeholder else token for token in prompt)
        per_image = max(1, (estimated_tokens - len(elements)) // max(1, len(images)) + 1)
        context = tuple(element for element in elements if element < 0)
        for element in set(context):
            self._estimates.setdefault(element, per_image)
            self._contexts.setdefault(element, set()).add(context)
            self._uses[element] += 1
        return elements

    def length(self, element: int) -> int:
        """The number of tokens of an element; an estimate for images that are not loaded yet."""
        if element >= 0:
            return 1
        return len(self._processed[element].ids) if element in self._processed else self._estimates[element]

    def tokens(self, elements: Iterable[int]) -> int:
        """The number of tokens of several elements."""
        return sum(map(self.length, elements))

    def load(self, elements: Iterable[int], to_encode: Iterable[int]) -> None:
        """Load the images among the elements; those to encode with their pixels, unless their features are cached.

        Raises:
            OSError, ValueError: an image cannot be read.
        """
        for element in elements:
            if element < 0 and element not in self._processed:
                self._processed[element] = self._read(element)
        for element in to_encode:
            if element < 0 and self._key(element) not in self.cache:
                self._load_pixels(element)

    def processed(self, element: int) -> ProcessedImage:
        """An image that has been loaded."""
        return self._processed[element]

    def features(self, elements: Iterable[int], max_tokens: int) -> dict[int, torch.Tensor]:
        """Return the features of the images among the elements, encoding about ``max_tokens`` tokens at a time.

        Raises:
            OSError: an image was evicted from the cache and cannot be read again.
        """
        keys = {element: self._key(element) for element in elements if element < 0}
        for element, key in keys.items():
            if key not in self.cache:
                self._load_pixels(element)
        features = self.cache.features({key: self._processed[element] for element, key in keys.items()}, max_tokens)
        for element in keys:
            self._processed[element] = replace(self._processed[element], encoder_input=None)
        return {element: features[key] for element, key in keys.items()}

    def release(self, elements: Iterable[int]) -> None:
        """Free what only this sequence needed, once it is prefilled."""
        for element in set(elements):
            if element < 0:
                self._uses[element] -= 1
                # Images of few-shot examples come with various other images, and may come again in later windows.
                if not self._uses[element] and len(self._contexts[element]) == 1:
                    self.cache.drop(self._key(element))

    def retain(self, elements: Iterable[int]) -> None:
        """Count a sequence again that was released."""
        for element in set(elements):
            if element < 0:
                self._uses[element] += 1

    def _number(self, image: ImageRef) -> int:
        key = image_key(image)
        number = self._numbers.setdefault(key, len(self.images))
        if number == len(self.images):
            self.images.append(image)
            self._keys.append(key)
        return number

    def _key(self, element: int) -> str:
        return self._keys[-1 - element]

    def _load_pixels(self, element: int) -> None:
        if self._processed[element].encoder_input is None:
            self._processed[element] = self._read(element)

    def _read(self, element: int) -> ProcessedImage:
        image = self.images[-1 - element]
        return self.processor.preprocess(image.load()) if self.prefetcher is None else self.prefetcher.get(image)
