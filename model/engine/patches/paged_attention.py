"""Attention of decode steps over the pages of a paged KV cache, which are read in place.

Every page is multiplied with the queries of the rows that contain it: one row for most pages, several for those of a
shared prefix.  The results are partial sums over a page's tokens; those of a row are then combined as in flash
decoding (https://pytorch.org/blog/flash-decoding/), with weights relative to the row's largest score.  The work is that
of the pages in use, whatever the lengths of the rows, and no keys or values are copied except those of shared pages.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..paged_tensors import PagedTensors, StepLayout


def paged_attention(query: Tensor, pages: PagedTensors, layer: int, scaling: float | None) -> Tensor:
    """Attend to all tokens of each row's pages.

    Args:
        query: (rows, groups × kv_heads, 1, width), float32.

    Returns:
        (rows, 1, groups × kv_heads, width).
    """
    layout = pages.layout
    assert layout is not None
    rows, heads, _, width = query.shape
    keys, values = pages.store[layer, :, : len(layout.owners)].unbind(0)
    if rows == 1 and layout.table.shape[1] == len(layout.owners):
        return _alone(query, keys, values, pages.bias, scaling).view(1, 1, heads, width)
    # Heads that share a key are neighbours. The last row is for pages that have no row of their own.
    scaled = query.view(rows, keys.shape[1], -1, width) * (width**-0.5 if scaling is None else scaling)
    queries = F.pad(scaled, (0, 0, 0, 0, 0, 0, 0, 1))
    parts = [_empty(queries)]
    if len(layout.shared_pages):
        parts.append(_shared(queries, keys, values, layout))
    parts.append(_partial(queries[layout.owners], keys, values, pages.bias))
    largest, sums, weighted = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    of_rows = largest[layout.table]  # (rows, entries, kv_heads, groups)
    factors = (of_rows - of_rows.amax(1, keepdim=True)).exp_()
    total = (sums[layout.table] * factors).sum(1)
    found = (weighted[layout.table] * factors[..., None]).sum(1) / total[..., None]
    return found.view(rows, 1, heads, width)


def _alone(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scaling: float | None) -> Tensor:
    """As ``paged_attention`` for a single row, which all pages belong to, in far fewer operations.

    Returns:
        (kv_heads, groups, width).
    """
    width = query.shape[-1]
    queries = query.view(keys.shape[1], -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.matmul(queries, keys.transpose(-1, -2)).add_(bias)  # (pages, kv_heads, groups, tokens)
    scores.sub_(scores.amax((0, 3), keepdim=True)).exp_()
    return torch.matmul(scores, values).sum(0) / scores.sum((0, 3))[..., None]


def _empty(queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    none = torch.zeros_like(queries[:1])
    return none[..., 0] - torch.inf, none[..., 0], none


def _shared(queries: Tensor, keys: Tensor, values: Tensor, layout: StepLayout) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_partial`` for shared pages: one entry for each of a page's rows."""
    sharers = layout.shared_rows.shape[1]
    asked = queries[layout.shared_rows].transpose(1, 2).flatten(2, 3)  # (pages, kv_heads, sharers × groups, width)
    chosen = layout.shared_pages
    found = _partial(asked, keys.index_select(0, chosen), values.index_select(0, chosen), layout.bias(chosen))
    largest, sums, weighted = (part.unflatten(2, (sharers, -1)).transpose(1, 2).flatten(0, 1) for part in found)
    return largest, sums, weighted


def _partial(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each page's largest score, its sum of exponentials relative to that, and the sum of values weighted so.

    Args:
        queries: (pages, kv_heads, n, width), scaled.
        keys, values: (pages, kv_heads, tokens, width).
        bias: (pages, 1, 1, tokens).
    """
    scores = torch.matmul(queries, keys.transpose(-1, -2)).add_(bias)
    largest = scores.amax(-1)
    scores.sub_(largest[..., None]).exp_()
    return largest, scores.sum(-1), torch.matmul(scores, values)
