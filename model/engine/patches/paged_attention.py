"""Attention of decode steps over the pages of a paged KV cache, which are read in place.

Every page is multiplied with the queries of the rows that contain it: one row for most pages, several for those of a
shared prefix (``PageGroup``).  The scores are put together row by row for the softmax, and taken apart again.  The work
is that of the pages in use, whatever the lengths of the rows, and no keys or values are copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..paged_tensors import PagedTensors


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
    keys, values = pages.store[layer].unbind(0)
    kv_heads, slots = keys.shape[1:3]
    groups = heads // kv_heads
    space = pages.workspace(groups)
    # Heads that share a key are neighbours.
    queries = (query * (width**-0.5 if scaling is None else scaling)).view(rows, kv_heads, groups, width)
    start = 0
    for group, bias in zip(layout.groups, space.biases, strict=True):
        asked = _by_page(queries.index_select(0, group.rows), group.width)
        # Keys on the left: libraries multiply faster this way round.
        found = torch.baddbmm(bias, group.select(keys), asked.transpose(1, 2))  # (n × kv_heads, slots, width × groups)
        found = found.view(-1, kv_heads, slots, group.width, groups).permute(0, 3, 1, 4, 2)
        space.scores[start : start + len(group)].view(found.shape).copy_(found)
        start += len(group)
    weights = space.scores.index_select(0, space.table).view(rows, -1, kv_heads, groups, slots)
    weights.sub_(weights.amax((1, 4), keepdim=True)).exp_()
    total = weights.sum((1, 4))
    weights = weights.view(-1, kv_heads, groups, slots)
    start = 0
    for group in layout.groups:
        given = _by_page(weights.index_select(0, group.places), group.width)
        part = space.parts[start : start + len(group)]
        if group.width == 1:
            torch.bmm(given, group.select(values), out=part.view(len(given), groups, width))
        else:
            found = torch.bmm(given, group.select(values)).view(-1, kv_heads, group.width, groups, width)
            part.view(-1, group.width, kv_heads, groups, width).copy_(found.transpose(1, 2))
        start += len(group)
    found = space.parts.index_select(0, space.table).view(rows, -1, kv_heads, groups, width).sum(1)
    return found.div_(total[..., None]).view(rows, 1, heads, width)


def _by_page(entries: Tensor, width: int) -> Tensor:
    """(n × width, kv_heads, groups, m) → (n × kv_heads, width × groups, m)."""
    _, kv_heads, groups, last = entries.shape
    if width > 1:
        entries = entries.view(-1, width, kv_heads, groups, last).transpose(1, 2)
    return entries.reshape(-1, width * groups, last)
