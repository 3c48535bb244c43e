"""The images of one window of requests: numbered, read once, encoded once, their pixels let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from evalkit.model.hf.continuations import Branch
from evalkit.model.hf.sampler import RandomSampler
from evalkit.types import ImageRef, image_key

from .prefix_tree import Parts
from .vision import Eyes, Features, Feed, Seen


@dataclass(frozen=True)
class Item:
    """One row to answer.

    Attributes:
        planned: what it belongs to (the caller's).
        ids: the prompt's tokens, one for each image's place.
        images: the images, in the order of their places.
        tokens: the prompt's length with all visual tokens, as far as it is known before images are read.
        limit: how many tokens the answer may have, ``least`` how many it must.
        stops: the tokens that end it.
        forced: where continuations are ranked: what is forced upon the row, and the options read off.
        draws, enough: as in ``Row``.
    """

    planned: object
    ids: tuple[int, ...]
    images: tuple[ImageRef, ...]
    tokens: int
    limit: int
    least: int = 0
    stops: tuple[int, ...] = ()
    forced: Branch | None = None
    draws: RandomSampler | None = None
    enough: Callable[[list[int]], bool] | None = None


class Window:
    """Numbers the images of some items, and has them when they are needed.

    An image is the number ``-1 - n`` among an item's tokens (``parts``), the same wherever it stands.

    Args:
        place: the token that stands for an image in ``Item.ids``.

    Attributes:
        feed: where images are read ahead; None where each is read when it is asked for.
    """

    def __init__(self, items: Sequence[Item], place: int) -> None:
        self.feed: Feed | None = None
        self.images: list[ImageRef] = []
        self._keys: list[str] = []
        self._numbers: dict[str, int] = {}
        self._seen: dict[int, Seen] = {}
        self._guess: dict[int, int] = {}
        self.parts: list[Parts] = [self._numbered(item, place) for item in items]
        self._uses = Counter(part for parts in self.parts for part in set(parts) if part < 0)
        company: dict[int, set[tuple[int, ...]]] = {}
        for parts in self.parts:
            together = tuple(part for part in parts if part < 0)
            for part in together:
                company.setdefault(part, set()).add(together)
        # Exemplars: they stand before other images, now and in windows to come.
        self._again = {part for part, found in company.items() if len(found) > 1}

    def _numbered(self, item: Item, place: int) -> Parts:
        images = iter(item.images)
        parts = tuple(-1 - self._number(next(images)) if token == place else token for token in item.ids)
        each = max(1, (item.tokens - len(parts)) // max(1, len(item.images)) + 1)
        for part in parts:
            if part < 0:
                self._guess.setdefault(part, each)
        return parts

    def _number(self, image: ImageRef) -> int:
        key = image_key(image)
        number = self._numbers.setdefault(key, len(self.images))
        if number == len(self.images):
            self.images.append(image)
            self._keys.append(key)
        return number

    def length(self, part: int) -> int:
        """How many tokens it is; a guess for images that were not read yet."""
        if part >= 0:
            return 1
        return len(self._seen[part].ids) if part in self._seen else self._guess[part]

    def tokens(self, parts: Iterable[int]) -> int:
        """How many tokens they are together."""
        return sum(map(self.length, parts))

    def done(self, parts: Iterable[int], features: Features) -> None:
        """Nothing more is to be computed of an item; what only it had needed is let go."""
        for part in set(parts):
            if part < 0:
                self._uses[part] -= 1
                if not self._uses[part] and part not in self._again:
                    features.drop(self._keys[-1 - part])

    def seen(self, part: int) -> Seen:
        """An image that has been looked at."""
        return self._seen[part]

    def look(self, parts: Iterable[int], encode: Iterable[int], eyes: Eyes, features: Features) -> Exception | None:
        """Have images read, those that are to be encoded with their pixels; gives what went wrong."""
        try:
            for part in parts:
                if part < 0 and part not in self._seen:
                    self._seen[part] = self._get(part, eyes)
            for part in encode:
                if part < 0 and self._seen[part].raw is None and self._keys[-1 - part] not in features:
                    self._seen[part] = self._get(part, eyes)
        except (OSError, ValueError) as error:
            return error
        return None

    def _get(self, part: int, eyes: Eyes) -> Seen:
        image = self.images[-1 - part]
        return eyes.look(image.load()) if self.feed is None else self.feed.get(image)

    def features(self, parts: Iterable[int], eyes: Eyes, features: Features, tokens: int) -> dict[int, torch.Tensor]:
        """The features of the images among the parts; about ``tokens`` visual tokens are encoded at once.

        Raises:
            OSError: an image that had been read was forgotten, and cannot be read again.
        """
        wanted = {part: self._keys[-1 - part] for part in parts if part < 0}
        for part, key in wanted.items():
            if key not in features and self._seen[part].raw is None:
                self._seen[part] = self._get(part, eyes)
        found = features.of({key: self._seen[part] for part, key in wanted.items()}, tokens)
        for part in wanted:
            self._seen[part] = replace(self._seen[part], raw=None)
        return {part: found[key] for part, key in wanted.items()}
