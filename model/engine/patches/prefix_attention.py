"""Attention of rows that share prefixes, on a CPU: a prefix is read once for all rows that follow it, and not copied.

Each row attends to its own tokens, and all rows of a group together to their prefix.  The results are put together by
the sums of their exponentials, whose logarithms torch's kernel for CPUs returns, too (as in FlashAttention's decoding:
Dao et al., https://crfm.stanford.edu/2023/10/12/flashdecoding.html).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..prefix_groups import PrefixLevel

_kernel = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def available() -> bool:
    """Whether this version of torch has the kernel, which is no documented function of it."""
    return _kernel is not None


def prefix_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, *,
    levels: Sequence[PrefixLevel], layer: int,
) -> Tensor:  # fmt: skip
    """Attend to each row's prefixes and own tokens.

    Args:
        query: (rows, groups × kv_heads, q_len, width).
        key, value: (rows, kv_heads, kv_len, width), of the rows' own tokens.
        mask: (rows or 1, 1, q_len, kv_len) for the own tokens, boolean (True: attended to) or additive; None: causal.
        scaling: of the scores; None: the width to the power of -1/2.
        levels: the prefixes.
        layer: number of the layer, which selects their keys and values.

    Returns:
        (rows, q_len, groups × kv_heads, width).
    """
    rows, heads, q_len, width = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    # Heads that share a key are neighbours, so they are further queries of it.
    folded = query.reshape(rows, kv_heads, groups * q_len, width)
    out, sums = _own(query, folded, key, value, mask, scaling)
    for level in levels:
        more, more_sums = torch.empty_like(out), torch.empty_like(sums)
        if not level.covers_all:
            more.zero_()
            more_sums.fill_(-torch.inf)
        for group in level.groups:
            # (1, kv_heads, n × groups × q_len, width)
            asked = folded[group.rows].transpose(0, 1).reshape(1, kv_heads, -1, width)
            keys, values = group.kv[layer, :, None].unbind(0)
            found, found_sums = _attend(asked, keys, values, scaling)
            more[group.rows] = found.view(kv_heads, group.count, -1, width).transpose(0, 1)
            more_sums[group.rows] = found_sums.reshape(kv_heads, group.count, -1).transpose(0, 1)
        total = torch.logaddexp(sums, more_sums)
        out.mul_(sums.sub_(total).exp_()[..., None]).addcmul_(more, more_sums.sub_(total).exp_()[..., None])
        sums = total
    return out.view(rows, heads, q_len, width).transpose(1, 2)


def _own(
    query: Tensor, folded: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Attention to the rows' own tokens: (rows, kv_heads, groups × q_len, width), and the logarithms of the sums."""
    rows, heads, q_len, width = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    bias = mask
    if mask is not None and mask.dtype == torch.bool:
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    if q_len <= kv_heads * width and (mask is not None or q_len == 1):
        if bias is not None:
            bias = bias[:, :, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
        out, sums = _attend(folded, key, value, scaling, bias)
        return out.contiguous(), sums.contiguous()
    # Folding repeats the mask, which pays for short queries only, and is not causal without one.
    key, value = (kv[:, :, None].expand(-1, -1, groups, -1, -1).reshape(rows, heads, -1, width) for kv in (key, value))
    out, sums = _attend(query, key, value, scaling, bias, causal=mask is None)
    return out.reshape(folded.shape), sums.reshape(folded.shape[:-1])


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, bias: Tensor | None = None, *,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The kernel's output, (rows, heads, queries, width), and the logarithms of its sums, (rows, heads, queries)."""
    assert _kernel is not None
    out, sums = _kernel(query, key, value, 0.0, causal, attn_mask=bias, scale=scaling)
    return out, sums
