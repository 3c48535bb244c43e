"""Image embeddings, for finding similar images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from evalkit.errors import UserError
from evalkit.types import ImageRef

from .processor import Inputs
from .threads import threads


def embed(model: Any, inputs: Inputs, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
    """The mean of each image's visual tokens, as the language model gets them, scaled to unit length.

    Images are encoded one by one, so that the result does not depend on the batch; the next one is decoded meanwhile.

    Raises:
        OSError: an image cannot be read.
        UserError: the model has no ``get_image_features``.
    """
    owners = (model, getattr(model, "model", None))
    found = (getattr(owner, "get_image_features", None) for owner in owners)
    encode = next((method for method in found if method is not None), None)
    if encode is None:
        raise UserError(
            f"{type(model).__name__} cannot embed images (no get_image_features); use --shots-by random or fixed."
        )
    return _embed(model, inputs, images, encode)


def _embed(
    model: Any, inputs: Inputs, images: Sequence[ImageRef], encode: Callable[..., Any]
) -> Iterator[tuple[float, ...]]:
    accepted = inspect.signature(encode).parameters
    with threads(1) as thread:
        coming = thread.submit(inputs.pixels, images[0]) if images else None
        for following in (*images[1:], None):
            if coming is None:
                return
            pixels = coming.result()
            coming = None if following is None else thread.submit(inputs.pixels, following)
            pixels = pixels.to(model.device, dtype=model.dtype)
            with torch.inference_mode():
                found = encode(**{name: value for name, value in pixels.items() if name in accepted})
                mean = _visual_tokens(found).float().mean(0)
                yield tuple((mean / mean.norm()).tolist())


def _visual_tokens(found: Any) -> torch.Tensor:
    """(tokens, width) from the result of ``get_image_features``: a tensor, or one per image or tile."""
    found = getattr(found, "pooler_output", found)
    parts = found if isinstance(found, (tuple, list)) else [found]
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
