"""Attention within the segments of a packed sequence, for vision encoders of the Qwen2-VL line.

These encoders get all images as one packed sequence.  Without flash attention transformers splits it in every layer,
which synchronizes each time, and calls attention once per segment (an image, or one of Qwen2.5-VL's windows).  Here the
segments are computed once per forward pass and those of equal length share one call; on CUDA, in half precision, all of
them share torch's variable-length kernel if there is one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.model.engine.transfer import to_device

log = logging.getLogger(__name__)

# Elements that can be moved (four times: queries, keys, values and back) in the time of one more call: measured on a
# CPU; on other devices a launch is expensive and memory is fast.
MOVED_PER_CALL_ON_CPU, MOVED_PER_CALL = 1 << 12, 1 << 22


@dataclass(frozen=True)
class Segments:
    """How a packed sequence is split.

    Attributes:
        longest: length of the longest segment.
        batches: (number, length) of neighbouring segments of equal length.
        order: (tokens,), the order of tokens in which they are neighbours; None for the sequence's own order.
        inverse: (tokens,), the inverse of ``order``.
    """

    longest: int
    batches: tuple[tuple[int, int], ...]
    order: Tensor | None = None
    inverse: Tensor | None = None

    @staticmethod
    def of(boundaries: Tensor, like: Tensor) -> Segments:
        """The segments of ``like``, (tokens, heads, width).

        Synchronizes once per tensor of boundaries, unless ``set_boundaries_on_cpu`` was called for it.
        """
        known: Segments | None = getattr(boundaries, "_evalkit_segments", None)
        if known is None:
            known = _split(boundaries, like)
            # Lives as long as the forward pass. It must not refer to the tensor itself, or both would live longer.
            boundaries._evalkit_segments = known  # type: ignore[attr-defined]
        return known


def _split(boundaries: Tensor, like: Tensor) -> Segments:
    on_cpu: Tensor = getattr(boundaries, "_evalkit_on_cpu", boundaries)
    lengths = [length for length in on_cpu.diff().tolist() if length]
    runs = tuple((len(list(run)), length) for length, run in groupby(lengths))
    saved_calls = len(runs) - len(set(lengths))
    moved = MOVED_PER_CALL_ON_CPU if like.device.type == "cpu" else MOVED_PER_CALL
    if saved_calls * moved <= like.numel():
        return Segments(max(lengths, default=0), runs)
    sizes = torch.tensor(lengths)
    order = sizes.repeat_interleave(sizes).argsort(stable=True)
    batches = tuple((len(list(run)), length) for length, run in groupby(sorted(lengths)))
    return Segments(max(lengths), batches, to_device(order, like.device), to_device(order.argsort(), like.device))


def set_boundaries_on_cpu(boundaries: Tensor, on_cpu: Tensor) -> None:
    """Attach a CPU copy to a tensor of segment boundaries on the device, so that reading it does not synchronize."""
    boundaries._evalkit_on_cpu = on_cpu  # type: ignore[attr-defined]


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int | Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each segment of a packed sequence.

    Args:
        query, key, value: (1, heads, tokens, width).
        attention_mask: must be None.
        cu_seq_lens_q: (segments + 1,), the start of each segment and the end of the last one.
        max_length_q: length of the longest segment; an int, not a tensor, avoids a synchronization.

    Returns:
        (1, tokens, heads, width).

    Raises:
        ValueError: there is a mask, or more than one sequence.
    """
    if attention_mask is not None or query.shape[0] != 1:
        raise ValueError("packed attention takes one sequence without a mask")
    tensors = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # (tokens, heads, width) each
    width = query.shape[-1]
    # Only later versions of torch let the kernel's scale be chosen.
    default_scale = scaling is None or math.isclose(scaling, width**-0.5)
    fast = query.is_cuda and default_scale and not dropout
    if fast and (kernel := varlen_kernel(query.device, query.dtype, width)) is not None:
        boundaries = cu_seq_lens_q.to(query.device, torch.int32)
        longest = max_length_q if isinstance(max_length_q, int) else Segments.of(cu_seq_lens_q, tensors[0]).longest
        return kernel(*tensors, boundaries, boundaries, longest, longest)[None], None
    segments = Segments.of(cu_seq_lens_q, tensors[0])
    if segments.order is not None:
        tensors = [tensor.index_select(0, segments.order) for tensor in tensors]
    out = _batched(tensors, segments.batches, scaling, dropout)
    return (out if segments.inverse is None else out.index_select(0, segments.inverse))[None], None


def _batched(
    tensors: list[Tensor], batches: tuple[tuple[int, int], ...], scaling: float | None, dropout: float
) -> Tensor:
    """(tokens, heads, width), with one attention call per batch."""
    out, start = [], 0
    for number, length in batches:
        end = start + number * length
        q, k, v = (tensor[start:end].view(number, length, *tensor.shape[1:]).transpose(1, 2) for tensor in tensors)
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        out.append(found.transpose(1, 2).flatten(0, 1))
        start = end
    return out[0] if len(out) == 1 else torch.cat(out) if out else torch.empty_like(tensors[2])


@lru_cache(maxsize=32)
def varlen_kernel(device: torch.device, dtype: torch.dtype, width: int) -> Callable[..., Tensor] | None:
    """torch's variable-length attention kernel; None if there is none or it gives wrong results on this device."""
    if dtype not in (torch.float16, torch.bfloat16) or width % 8 or width > 256:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn

        with torch.no_grad():
            lengths = (24, 8, 40)
            numbers = torch.arange(3 * sum(lengths) * 2 * width, device=device, dtype=torch.float32)
            q, k, v = (numbers * 12.9898).sin().to(dtype).view(3, sum(lengths), 2, width).unbind(0)
            boundaries = torch.tensor([0, 24, 32, 72], dtype=torch.int32, device=device)
            expected = _batched([q, k, v], tuple((1, length) for length in lengths), None, 0.0)
            kernel = cast(Callable[..., Tensor], varlen_attn)
            found = kernel(q, k, v, boundaries, boundaries, 40, 40)
            correct = torch.allclose(found.float(), expected.float(), atol=2e-2)
    except Exception as error:  # no such module, an older GPU, a head size that the build lacks
        log.info("no variable-length attention kernel (%s); batching segments of equal length instead", error)
        return None
    return kernel if correct else None
