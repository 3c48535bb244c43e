"""A vision encoder that encodes equal images of a batch once, and copies its output.

Encoders take the images of a batch in one of three ways, which are told apart by the shapes of their arguments:

- a row for each image, tile or crop (SigLIP, CLIP, Llama 4, Molmo 2, Florence-2), with other tensors of as many rows;
- rows of images, each with its tiles (Llama 3.2 Vision);
- the patches of all images one after another, and a tensor of the images' grids (Qwen, MiniCPM-V).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
Key = int | str  # of an argument: its position or name


class UnknownLayoutError(Exception):
    """Arguments or an output in which an image's part cannot be told."""


class EncodeOnce:
    """Gives a vision encoder each of several equal images once.

    Images are equal if all of their numbers are: pixels, and what else the encoder is given with them.

    Args:
        encoder: a module whose first argument is the pixels of all images.

    Attributes:
        given: images (tiles, crops) that the encoder was called with.
        encoded: those that it encoded.
        problem: why it was called with all images after all; None if it never was.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self.given = self.encoded = 0
        self.problem: str | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Replace the encoder's ``forward`` meanwhile."""
        own, forward = vars(self.encoder).get("forward"), self.encoder.forward
        self.encoder.forward = functools.wraps(forward)(functools.partial(self._forward, forward))
        try:
            yield
        finally:
            del self.encoder.forward
            if own is not None:  # such as a hook that moves a part of the model between devices
                self.encoder.forward = own

    def _forward(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            layout = _layout(forward, args, kwargs)
            first, places = distinct(layout.images())
            self.given += len(places)
            if len(first) < len(places):
                chosen = layout.chosen(first)
                positional = [chosen.get(at, value) for at, value in enumerate(args)]
                out = forward(*positional, **{name: chosen.get(name, value) for name, value in kwargs.items()})
                copied = _mapped(out, functools.partial(layout.copied, first=first, places=places))
                self.encoded += len(first)
                return copied
            self.encoded += len(places)
        except UnknownLayoutError as error:
            self.problem = str(error)
        return forward(*args, **kwargs)


def distinct(images: Sequence[Sequence[Tensor]]) -> tuple[list[int], list[int]]:
    """The first of each group of equal images, and for every image the place of its equal among these."""
    if len(images) < 2:
        return list(range(len(images))), list(range(len(images)))
    # Checksums tell which images may be equal; all numbers are compared only for those.
    sums = torch.stack([_checksum(part) for image in images for part in image]).view(len(images), -1).tolist()
    first: list[int] = []
    places: list[int] = []
    alike: dict[tuple[object, ...], list[int]] = {}
    for at, image in enumerate(images):
        candidates = alike.setdefault((*sums[at], *(part.shape for part in image)), [])
        place = next((place for place in candidates if all(map(torch.equal, images[first[place]], image))), None)
        if place is None:
            place = len(first)
            first.append(at)
            candidates.append(place)
        places.append(place)
    return first, places


def _checksum(tensor: Tensor) -> Tensor:
    """The sum of a tensor's bits, read as integers."""
    numbers = tensor.contiguous()
    if numbers.dtype.is_floating_point:
        numbers = numbers.view(INTEGERS[numbers.element_size()])
    return numbers.sum(dtype=torch.int64)


class _Layout(Protocol):
    """Where each image is in an encoder's arguments and output."""

    def images(self) -> list[tuple[Tensor, ...]]:
        """The parts of each image in the arguments."""

    def chosen(self, first: Sequence[int]) -> Mapping[Key, Tensor]:
        """The arguments for some of the images."""

    def copied(self, out: Tensor, *, first: Sequence[int], places: Sequence[int]) -> Tensor:
        """The output for all images, from that for the chosen ones.  Raises ``UnknownLayoutError``."""


def _layout(forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Layout:
    """How the images lie in a call's arguments.  Raises ``UnknownLayoutError``."""
    given: dict[Key, Any] = dict(enumerate(args))
    given.update(kwargs)
    pixels: Key = 0 if args else next(iter(inspect.signature(forward).parameters), "")
    tensors: dict[Key, Tensor] = {key: value for key, value in given.items() if isinstance(value, Tensor)}
    for key, value in given.items():
        if key not in tensors and not (value is None or isinstance(value, (bool, int, float, str))):
            raise UnknownLayoutError(f"its encoder is given a {type(value).__name__}")
    if pixels not in tensors or not tensors[pixels].ndim:
        raise UnknownLayoutError("its encoder is given no pixels")
    others = [key for key in tensors if key != pixels]
    if len(others) == 1 and (packed := _Packed.of(tensors, pixels, others[0])) is not None:
        return packed
    leading = 2 if tensors[pixels].ndim >= 6 else 1  # (rows, images, tiles, channels, height, width)
    shape = tensors[pixels].shape[:leading]
    if any(tensor.shape[:leading] != shape for tensor in tensors.values()):
        raise UnknownLayoutError("its encoder is given tensors of different lengths")
    return _Rows(tensors, shape)


class _Rows:
    """An image is an index of the first dimensions of all tensors, which have the sizes ``shape`` there."""

    def __init__(self, tensors: Mapping[Key, Tensor], shape: torch.Size) -> None:
        self.shape = shape
        self.tensors = {key: tensor.flatten(0, len(shape) - 1) for key, tensor in tensors.items()}

    def images(self) -> list[tuple[Tensor, ...]]:
        return list(zip(*self.tensors.values(), strict=True))

    def chosen(self, first: Sequence[int]) -> Mapping[Key, Tensor]:
        return {key: self._one_a_row(_at(tensor, first)) for key, tensor in self.tensors.items()}

    def copied(self, out: Tensor, *, first: Sequence[int], places: Sequence[int]) -> Tensor:
        ones = (1,) * (len(self.shape) - 1)
        if out.shape[: len(self.shape)] != (len(first), *ones):
            raise UnknownLayoutError(f"its encoder's output for {len(first)} images has shape {tuple(out.shape)}")
        return _at(out, places).reshape(*self.shape, *out.shape[len(self.shape) :])

    def _one_a_row(self, tensor: Tensor) -> Tensor:
        return tensor if len(self.shape) == 1 else tensor.unsqueeze(1)


class _Packed:
    """An image is a piece of the pixels, as long as the product of its grid times ``pixels_per_patch``.

    Args:
        axis: the pixels' dimension in which the images follow each other.
    """

    def __init__(self, tensors: Mapping[Key, Tensor], pixels: Key, grids: Key, lengths: list[int], axis: int) -> None:
        self.pixels, self.grids, self.lengths, self.axis = pixels, grids, lengths, axis
        scale = tensors[pixels].shape[axis] // sum(lengths)
        self.pieces = tensors[pixels].split([length * scale for length in lengths], axis)
        self.sizes = tensors[grids]

    @classmethod
    def of(cls, tensors: Mapping[Key, Tensor], pixels: Key, grids: Key) -> _Packed | None:
        """The layout, if the grids' sizes add up to the number of patches."""
        shape, sizes = tensors[pixels].shape, tensors[grids]
        if sizes.dtype.is_floating_point or sizes.ndim != 2 or sizes.shape[1] not in (2, 3):
            return None
        lengths = sizes.prod(-1).tolist()
        patches = sum(lengths)
        if patches < 1 or min(lengths) < 1:
            return None
        if shape[0] == patches:
            return cls(tensors, pixels, grids, lengths, 0)
        if len(shape) > 1 and shape[0] == 1 and shape[-1] % patches == 0:
            return cls(tensors, pixels, grids, lengths, len(shape) - 1)
        return None

    def images(self) -> list[tuple[Tensor, ...]]:
        return list(zip(self.pieces, self.sizes, strict=True))

    def chosen(self, first: Sequence[int]) -> Mapping[Key, Tensor]:
        pieces = torch.cat([self.pieces[at] for at in first], self.axis)
        return {self.pixels: pieces, self.grids: _at(self.sizes, first)}

    def copied(self, out: Tensor, *, first: Sequence[int], places: Sequence[int]) -> Tensor:
        axis = 0 if self.axis == 0 else 1
        patches = [self.lengths[at] for at in first]
        length = out.shape[axis] if out.ndim > axis else 0
        if not length or any(count * length % sum(patches) for count in patches):
            raise UnknownLayoutError(f"its encoder's output for {sum(patches)} patches has shape {tuple(out.shape)}")
        pieces = out.split([count * length // sum(patches) for count in patches], axis)
        return torch.cat([pieces[place] for place in places], axis)


def _at(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    return tensor.index_select(0, torch.tensor(indices, device=tensor.device))


def _mapped(out: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """An output with every tensor replaced.  Raises ``UnknownLayoutError`` if it has other parts."""
    if out is None:
        return None
    if isinstance(out, Tensor):
        return function(out)
    if type(out) in (tuple, list):
        return type(out)(_mapped(part, function) for part in out)
    if isinstance(out, ModelOutput):
        return type(out)(**{name: _mapped(part, function) for name, part in out.items()})
    raise UnknownLayoutError(f"its encoder returns a {type(out).__name__}")
