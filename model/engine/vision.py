"""Images on their way into the model: what stands for them among the tokens, and their features.

Reading and resizing needs the processor only and runs in threads; encoding is the model's.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from evalkit.model.hf.threads import threads
from evalkit.types import ImageRef, Size, image_key

from .preprocess import Generic, Pixels, Raw


@dataclass(frozen=True)
class Seen:
    """An image as the model takes it.

    Attributes:
        ids: the tokens that stand in its place; ``tokens`` of them are visual.
        grid: (rows, columns) of its visual tokens, where positions are those of a grid.
        raw: what the vision encoder is given.
        resized: (width, height) at which the encoder sees it, where the processor says so.
    """

    ids: tuple[int, ...]
    tokens: int
    grid: tuple[int, int] | None
    raw: Raw | None
    resized: Size | None


class Eyes(Protocol):
    """How one kind of processor takes images."""

    def look(self, image: Any) -> Seen:
        """A decoded image, resized and counted.  Raises ``ValueError`` for one that it does not take."""
        ...

    def stack(self, seen: Sequence[Seen], device: torch.device, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
        """The vision encoder's inputs.  Raises ``ValueError`` where these images cannot go together."""
        ...


class PatchEyes:
    """The Qwen2-VL line: any size, one token for each square of ``merge_size`` patches.

    Args:
        stay: whether the encoder takes images' grids where they are (``grids.py``), or wants them on the device.
    """

    def __init__(self, processor: Any, token: int, *, stay: bool = False) -> None:
        self.stay = stay
        image_processor = processor.image_processor
        self.merge = int(image_processor.merge_size)
        self.patch = int(image_processor.patch_size)
        self.token = token
        self.pixels = Pixels(image_processor) if Pixels.fits(image_processor) else None
        self.other = Generic(image_processor)

    def look(self, image: Any) -> Seen:
        raw = self.other.prepare(image) if self.pixels is None else self.pixels.prepare(image)
        ((_, h, w),) = raw.tensors["image_grid_thw"].tolist()
        grid = (h // self.merge, w // self.merge)
        tokens = grid[0] * grid[1]
        return Seen((self.token,) * tokens, tokens, grid, raw, (w * self.patch, h * self.patch))

    def stack(self, seen: Sequence[Seen], device: torch.device, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
        raws = [_raw(s) for s in seen]
        if self.pixels is None:
            return self.other.finish(raws, device, dtype)
        values, grids = self.pixels.finish(raws, device, dtype)
        return {"pixel_values": values, "image_grid_thw": grids if self.stay else grids.to(device)}


class AnyEyes:
    """Any processor: it is shown one image at a time, between nothing."""

    def __init__(self, processor: Any, token: int, placeholder: str) -> None:
        self.processor = processor
        self.token = token
        self.placeholder = placeholder

    def look(self, image: Any) -> Seen:
        found = dict(self.processor(text=[self.placeholder], images=[[image]], return_tensors="pt"))
        ids = found.pop("input_ids")[0].tolist()
        mask = found.pop("attention_mask", None)
        if mask is not None:
            ids = [token for token, there in zip(ids, mask[0].tolist(), strict=True) if there]
        special = set(self.processor.tokenizer.all_special_ids) - {self.token}
        while ids and ids[0] in special and ids[0] == self.processor.tokenizer.bos_token_id:
            ids = ids[1:]  # what begins every text of this tokenizer
        for name in ("mm_token_type_ids", "token_type_ids", "labels"):
            found.pop(name, None)
        raw = Raw({name: value for name, value in found.items() if isinstance(value, torch.Tensor)})
        return Seen(tuple(ids), ids.count(self.token), None, raw, getattr(self.processor, "image_size", None))

    def stack(self, seen: Sequence[Seen], device: torch.device, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
        return Generic(self.processor.image_processor).finish([_raw(s) for s in seen], device, dtype)


class Features:
    """Encodes images with a model's ``get_image_features``, and keeps the latest.

    An image's features are (1 + deep, tokens, width): what stands in its tokens' place, and, in Qwen3-VL's deepstack,
    what is added to the first layers' output there.
    """

    def __init__(self, owner: Any, eyes: Eyes, *, device: torch.device, dtype: torch.dtype, limit: int) -> None:
        self.encode = owner.get_image_features
        self.takes = set(inspect.signature(self.encode).parameters)
        self.eyes = eyes
        self.device = device
        self.dtype = dtype
        self.limit = limit
        self.kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.size = 0

    def __contains__(self, name: str) -> bool:
        return name in self.kept

    def of(self, wanted: Mapping[str, Seen], tokens: int) -> dict[str, torch.Tensor]:
        """The features of each image, by its key; about ``tokens`` visual tokens go through the encoder at once."""
        found = {}
        missing = []
        for name, seen in wanted.items():
            if name in self.kept:
                self.kept.move_to_end(name)
                found[name] = self.kept[name]
            else:
                missing.append((name, seen))
        for batch in _batches(missing, tokens):
            for (name, _), features in zip(batch, self._encoded([seen for _, seen in batch]), strict=True):
                found[name] = features
                self._keep(name, features)
        return found

    def _encoded(self, seen: Sequence[Seen]) -> list[torch.Tensor]:
        try:
            inputs = self.eyes.stack(seen, self.device, self.dtype)
        except ValueError:
            return [self._encoded([one])[0] for one in seen]
        out = self.encode(**{name: value for name, value in inputs.items() if name in self.takes})
        parts = [_flat(getattr(out, "pooler_output", out))]
        parts += [_flat(layer) for layer in getattr(out, "deepstack_features", None) or ()]
        whole = torch.stack([part.to(self.device) for part in parts])
        counts = [s.tokens for s in seen]
        if sum(counts) != whole.shape[1]:
            raise RuntimeError(f"the vision encoder gave {whole.shape[1]} tokens where {sum(counts)} have a place")
        return [part.clone() if len(seen) > 1 else part for part in whole.split(counts, dim=1)]

    def _keep(self, name: str, features: torch.Tensor) -> None:
        self.kept[name] = features
        self.size += features.nbytes
        while self.size > self.limit and len(self.kept) > 1:
            _, old = self.kept.popitem(last=False)
            self.size -= old.nbytes

    def drop(self, name: str) -> None:
        """Forget one image."""
        if (old := self.kept.pop(name, None)) is not None:
            self.size -= old.nbytes

    def clear(self) -> None:
        """Forget all."""
        self.kept.clear()
        self.size = 0


def _raw(seen: Seen) -> Raw:
    if seen.raw is None:
        raise RuntimeError("an image's pixels were let go before it was encoded")
    return seen.raw


def _flat(found: Any) -> torch.Tensor:
    """(tokens, width), of one tensor or of one for each image or tile."""
    parts = found if isinstance(found, (tuple, list)) else [found]
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _batches(items: Sequence[tuple[str, Seen]], tokens: int) -> Iterator[list[tuple[str, Seen]]]:
    batch: list[tuple[str, Seen]] = []
    room = tokens
    for item in items:
        if batch and item[1].tokens > room:
            yield batch
            batch, room = [], tokens
        batch.append(item)
        room -= item[1].tokens
    if batch:
        yield batch


class Feed:
    """Reads, decodes and resizes images ahead, in the order in which they will be asked for.

    Args:
        ahead: how many pixels may lie ready at most (the next image always may).
    """

    def __init__(self, order: Sequence[ImageRef], eyes: Eyes, *, workers: int, ahead: int) -> None:
        self._eyes = eyes
        self._order = iter({image_key(image): image for image in order}.values())
        self._next = next(self._order, None)
        self._pool = threads(workers) if workers else None
        self._ahead = ahead
        self._coming: dict[str, tuple[Future[Seen], int]] = {}
        self._lying = 0

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        """Read nothing more ahead; what is still asked for is read then."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            self._coming.clear()

    def _look(self, image: ImageRef) -> Seen:
        return self._eyes.look(image.load())

    def _go_on(self) -> None:
        while self._pool is not None and self._next is not None:
            try:
                width, height = self._next.size()
                pixels = width * height
            except (OSError, ValueError):
                pixels = 0  # its turn will say what is wrong
            if self._coming and self._lying + pixels > self._ahead:
                return
            self._coming[image_key(self._next)] = self._pool.submit(self._look, self._next), pixels
            self._lying += pixels
            self._next = next(self._order, None)

    def get(self, image: ImageRef) -> Seen:
        """The image.  Raises ``OSError`` or ``ValueError`` when it cannot be read."""
        self._go_on()
        future, pixels = self._coming.pop(image_key(image), (None, 0))
        try:
            return self._look(image) if future is None else future.result()
        finally:
            self._lying -= pixels
            self._go_on()
