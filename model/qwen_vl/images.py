"""Images in token sequences: spans of ``<img>``, 256 placeholders, ``</img>``."""

from __future__ import annotations

import torch
from torch import Tensor

from .configuration import QwenVLConfig


def image_spans(input_ids: Tensor, config: QwenVLConfig) -> tuple[Tensor, Tensor]:
    """Rows and columns (images,) of the start tokens of all complete spans, in order of appearance, row by row.

    The placeholders can be any tokens: the original code writes the image's path there.
    """
    reach = config.vision.n_queries + 1
    starts = input_ids[:, :-reach] == config.image_start_id
    rows, columns = (starts & (input_ids[:, reach:] == config.image_end_id)).nonzero(as_tuple=True)
    return rows, columns


def images_per_row(input_ids: Tensor, config: QwenVLConfig) -> list[int]:
    """The number of complete image spans in each row of ``input_ids`` (batch, length)."""
    rows, _ = image_spans(input_ids, config)
    return torch.bincount(rows, minlength=input_ids.shape[0]).tolist()


def put_images(inputs_embeds: Tensor, input_ids: Tensor, features: Tensor, config: QwenVLConfig) -> Tensor:
    """``inputs_embeds`` (batch, length, hidden) with ``features`` (images, n_queries, hidden) in the image spans.

    Raises:
        ValueError: the numbers of spans and images differ.
    """
    rows, columns = image_spans(input_ids, config)
    _check(len(rows), len(features))
    places = columns[:, None] + torch.arange(1, features.shape[1] + 1, device=columns.device)
    return inputs_embeds.index_put((rows[:, None], places), features.to(inputs_embeds))


def check_no_images(input_ids: Tensor, config: QwenVLConfig) -> None:
    """Raise ``ValueError`` if ``input_ids`` has image spans, although there are no images."""
    if input_ids.shape[1] > config.vision.n_queries + 1:
        _check(len(image_spans(input_ids, config)[0]), 0)


def _check(spans: int, images: int) -> None:
    if spans != images:
        raise ValueError(
            f"input_ids has {spans} image spans, but pixel_values has {images} images; give all images of the "
            "batch, in order of appearance."
        )
