"""The images and videos of one window of requests: each is loaded and encoded once, then freed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from evalkit.model.videos import SelectedVideo
from evalkit.types import ImageRef

from .encoder_cache import EncoderCache
from .image_prefetcher import ImagePrefetcher, media_key
from .prefix_tree import Elements
from .preprocess import EncoderInput
from .vision import ImageProcessor, ProcessedImage


@dataclass(frozen=True)
class Placeholders:
    """The tokens that stand for an image, and for a frame group of a video (None if there are no videos)."""

    image: int
    video: int | None = None


class ImageTable:
    """Numbers a window's images and frame groups, and loads and encodes them when they are needed.

    In the elements of a sequence (``Elements``) an image is a negative number, the same in all sequences, and so is
    each frame group of a video.

    Attributes:
        prefetcher: None to read each image and video when it is needed.
        media: the images and videos.
    """

    def __init__(self, placeholders: Placeholders, processor: ImageProcessor, cache: EncoderCache) -> None:
        self.placeholders = placeholders
        self.processor = processor
        self.cache = cache
        self.prefetcher: ImagePrefetcher | None = None
        self.media: list[ImageRef | SelectedVideo] = []
        self._keys: list[str] = []
        self._numbers: dict[str, int] = {}
        self._first: list[int] = []  # of each medium: its first element, counted from 0
        self._media_of: list[int] = []  # of each element
        self._images: dict[int, ProcessedImage] = {}
        self._estimates: dict[int, int] = {}
        self._groups: dict[int, Sequence[ProcessedImage]] = {}  # by medium, without pixels
        self._pixels: dict[int, list[EncoderInput | None]] = {}  # by medium, None for those that are encoded
        self._uses: Counter[int] = Counter()
        self._contexts: dict[int, set[tuple[int, ...]]] = {}

    def add(
        self,
        prompt: Iterable[int],
        images: Iterable[ImageRef],
        videos: Iterable[SelectedVideo],
        estimated_tokens: int,
    ) -> Elements:
        """Number the images and frame groups of a prompt.

        Args:
            prompt: its tokens, with one placeholder per image and per frame group.
            images, videos: in the order of the placeholders.
            estimated_tokens: its length with all visual tokens, as far as known before images are read.

        Returns:
            its elements.
        """
        numbers, videos = [self._number(image) for image in images], list(videos)
        following = {
            self.placeholders.image: iter([-1 - self._first[number] for number in numbers]),
            self.placeholders.video: iter(
                [-1 - one for video in videos for one in self._elements(self._number(video))]
            ),
        }
        elements = tuple(next(following[token]) if token in following else token for token in prompt)
        in_videos = sum(video.groups * (video.tokens_per_group - 1) for video in videos)
        per_image = max(1, (estimated_tokens - in_videos - len(elements)) // max(1, len(numbers)) + 1)
        for number in numbers:
            self._estimates.setdefault(number, per_image)
        context = self._used(elements)
        for medium in context:
            self._contexts.setdefault(medium, set()).add(context)
            self._uses[medium] += 1
        return elements

    def length(self, element: int) -> int:
        """The number of tokens of an element; an estimate for images that are not loaded yet."""
        if element >= 0:
            return 1
        medium = self._media_of[-1 - element]
        one = self.media[medium]
        if isinstance(one, SelectedVideo):
            return one.tokens_per_group
        return len(self._images[medium].ids) if medium in self._images else self._estimates[medium]

    def tokens(self, elements: Iterable[int]) -> int:
        """The number of tokens of several elements."""
        return sum(map(self.length, elements))

    def load(self, elements: Iterable[int], to_encode: Iterable[int]) -> None:
        """Load the images among the elements; those to encode with their pixels, unless their features are cached.

        Raises:
            OSError, ValueError: an image or a video cannot be read.
        """
        for medium in self._used(elements):
            if medium not in self._images and not isinstance(self.media[medium], SelectedVideo):
                self._images[medium] = self._read_image(medium)
        for element in to_encode:
            if element < 0 and self._key(element) not in self.cache:
                self._load_pixels(element)

    def processed(self, element: int) -> ProcessedImage:
        """An image that has been loaded, or a frame group without its pixels."""
        medium = self._media_of[-1 - element]
        if isinstance(self.media[medium], SelectedVideo):
            return self._frame_groups(medium)[self._place(element)]
        return self._images[medium]

    def images_in(self, elements: Iterable[int]) -> tuple[ProcessedImage, ...]:
        """The images among the elements, in order."""
        media = [self._media_of[-1 - element] for element in elements if element < 0]
        return tuple(self._images[medium] for medium in media if not isinstance(self.media[medium], SelectedVideo))

    def features(self, elements: Iterable[int], max_tokens: int) -> dict[int, torch.Tensor]:
        """Return the features of the visual elements, encoding about ``max_tokens`` tokens at a time.

        Raises:
            OSError: an image or a video was evicted from the cache and cannot be read again.
        """
        keys = {element: self._key(element) for element in elements if element < 0}
        for element, key in keys.items():
            if key not in self.cache:
                self._load_pixels(element)
        loaded = {key: self._with_pixels(element) for element, key in keys.items()}
        features = self.cache.features(loaded, max_tokens)
        for element in keys:
            self._free_pixels(element)
        return {element: features[key] for element, key in keys.items()}

    def pixels_to_read(self, elements: Iterable[int]) -> dict[int, int]:
        """The number of pixels of each video, by a number of its own, that ``load`` would decode for the elements."""
        found = {}
        for element in elements:
            if element < 0 and (medium := self._media_of[-1 - element]) not in found and medium not in self._pixels:
                one = self.media[medium]
                if isinstance(one, SelectedVideo) and self._key(element) not in self.cache:
                    found[medium] = one.pixels
        return found

    def release(self, elements: Iterable[int]) -> None:
        """Free what only this sequence needed, once it is prefilled."""
        for medium in self._used(elements):
            self._uses[medium] -= 1
            if self._uses[medium]:
                continue
            self._pixels.pop(medium, None)
            self._groups.pop(medium, None)
            # Images of few-shot examples come with various other images, and may come again in later windows.
            if len(self._contexts[medium]) == 1:
                for element in self._elements(medium):
                    self.cache.drop(self._key(-1 - element))

    def retain(self, elements: Iterable[int]) -> None:
        """Count a sequence again that was released."""
        for medium in self._used(elements):
            self._uses[medium] += 1

    def _number(self, medium: ImageRef | SelectedVideo) -> int:
        key = media_key(medium)
        number = self._numbers.setdefault(key, len(self.media))
        if number == len(self.media):
            self.media.append(medium)
            self._keys.append(key)
            self._first.append(len(self._media_of))
            self._media_of += [number] * (medium.groups if isinstance(medium, SelectedVideo) else 1)
        return number

    def _video(self, medium: int) -> SelectedVideo:
        one = self.media[medium]
        assert isinstance(one, SelectedVideo)
        return one

    def _used(self, elements: Iterable[int]) -> tuple[int, ...]:
        """The media among the elements, each once, in order."""
        return tuple(dict.fromkeys(self._media_of[-1 - element] for element in elements if element < 0))

    def _elements(self, medium: int) -> range:
        """Its elements, counted from 0."""
        one, first = self.media[medium], self._first[medium]
        return range(first, first + (one.groups if isinstance(one, SelectedVideo) else 1))

    def _place(self, element: int) -> int:
        """Of a frame group in its video."""
        return -1 - element - self._first[self._media_of[-1 - element]]

    def _key(self, element: int) -> Hashable:
        medium = self._media_of[-1 - element]
        key = self._keys[medium]
        return (key, self._place(element)) if isinstance(self.media[medium], SelectedVideo) else key

    def _frame_groups(self, medium: int) -> Sequence[ProcessedImage]:
        if medium not in self._groups:
            self._groups[medium] = self.processor.frame_groups(self._video(medium))
        return self._groups[medium]

    def _load_pixels(self, element: int) -> None:
        medium = self._media_of[-1 - element]
        if not isinstance(self.media[medium], SelectedVideo):
            if self._images[medium].encoder_input is None:
                self._images[medium] = self._read_image(medium)
        elif self._pixels.get(medium, [None] * (1 + self._place(element)))[self._place(element)] is None:
            self._pixels[medium] = self._read_video(medium)

    def _with_pixels(self, element: int) -> ProcessedImage:
        medium = self._media_of[-1 - element]
        if not isinstance(self.media[medium], SelectedVideo):
            return self._images[medium]
        pixels = self._pixels.get(medium)
        group = self._frame_groups(medium)[self._place(element)]
        return group if pixels is None else replace(group, encoder_input=pixels[self._place(element)])

    def _free_pixels(self, element: int) -> None:
        medium = self._media_of[-1 - element]
        if not isinstance(self.media[medium], SelectedVideo):
            self._images[medium] = replace(self._images[medium], encoder_input=None)
        elif (pixels := self._pixels.get(medium)) is not None:
            pixels[self._place(element)] = None
            if not any(pixels):
                del self._pixels[medium]

    def _read_image(self, medium: int) -> ProcessedImage:
        image = self.media[medium]
        assert not isinstance(image, SelectedVideo)
        return self.processor.preprocess(image.load()) if self.prefetcher is None else self.prefetcher.image(image)

    def _read_video(self, medium: int) -> list[EncoderInput | None]:
        video = self._video(medium)
        read = self.processor.preprocess_video if self.prefetcher is None else self.prefetcher.video
        return list(read(video))
