"""Reads, decodes and preprocesses images in threads before their sequences are prefilled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from evalkit.model.hf.threads import threads
from evalkit.types import ImageRef, image_key

from .vision import ImageProcessor, ProcessedImage


class ImagePrefetcher:
    """Prefetches images in the order in which they will be needed.

    Args:
        order: the images, the first needed first.
        workers: number of threads; 0 to read each image when it is needed.
        max_pixels: how many pixels may be ready or in progress (the next image always may).
    """

    def __init__(self, order: Sequence[ImageRef], processor: ImageProcessor, *, workers: int, max_pixels: int) -> None:
        self._processor = processor
        self._order = iter({image_key(image): image for image in order}.values())
        self._next = next(self._order, None)
        self._pool = threads(workers) if workers else None
        self._max_pixels = max_pixels
        self._futures: dict[str, tuple[Future[ProcessedImage], int]] = {}
        self._pixels = 0

    def close(self) -> None:
        """Stop prefetching; ``get`` then reads images itself."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            self._futures.clear()

    def get(self, image: ImageRef) -> ProcessedImage:
        """Return the image.  Raises ``OSError`` or ``ValueError`` if it cannot be read."""
        self._submit()
        future, pixels = self._futures.pop(image_key(image), (None, 0))
        try:
            return self._load(image) if future is None else future.result()
        finally:
            self._pixels -= pixels
            self._submit()

    def _load(self, image: ImageRef) -> ProcessedImage:
        return self._processor.preprocess(image.load())

    def _submit(self) -> None:
        while self._pool is not None and self._next is not None:
            try:
                width, height = self._next.size()
                pixels = width * height
            except (OSError, ValueError):
                pixels = 0  # loading it will raise the error
            if self._futures and self._pixels + pixels > self._max_pixels:
                return
            self._futures[image_key(self._next)] = self._pool.submit(self._load, self._next), pixels
            self._pixels += pixels
            self._next = next(self._order, None)
