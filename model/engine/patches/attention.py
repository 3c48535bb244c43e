"""Attention functions put into transformers' models: images in few calls, grouped queries without copies.

The vision encoders of the Qwen2-VL line get all images as one packed sequence.  Without flash attention transformers
cuts it up in every layer, waiting for the device each time, and calls attention once for each segment (an image, or
one of Qwen2.5-VL's windows).  Here the cuts are worked out once for a forward pass and segments of one length go
through one call; on CUDA, in half precision, all of them go through torch's variable-length kernel where there is one.

In the language model several queries share a key.  transformers' ``sdpa`` repeats keys and values for them whenever
there is a mask (since 5.23 not for a single token), which costs more than the attention itself; here the queries that
share a key are laid one after another instead, and keys and values are read where they lie.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from evalkit.model.engine.kv_cache import sent

log = logging.getLogger(__name__)

# "flash" is what transformers looks for in a name before it hands the packed sequence over (5.10 to 5.23).
VISION = "evalkit_flash_varlen"
TEXT = "evalkit_sdpa"
# What is replaced, and put back.  Whoever chose another implementation had a reason.
DEFAULT = "sdpa"

# Elements that are moved (four times: queries, keys, values and back) in the time that one call more costs: measured
# on CPU; elsewhere a launch is dear and memory is fast.
MOVED_CPU, MOVED = 1 << 12, 1 << 22


# ------------------------------------------------------------------------------------------------------------- vision


@dataclass(frozen=True)
class Segments:
    """How a packed sequence is cut up.

    Attributes:
        longest: tokens of the longest.
        batches: (number, length) of segments of one length that lie one after another.
        order: (tokens,), the order in which they do; None for the sequence's own.
        back: (tokens,), its inverse.
    """

    longest: int
    batches: tuple[tuple[int, int], ...]
    order: Tensor | None = None
    back: Tensor | None = None

    @staticmethod
    def of(cumulative: Tensor, like: Tensor) -> Segments:
        """The segments of ``like``, (tokens, heads, width).

        Once for each tensor of them it waits for the device, unless its numbers were told (``tell``).
        """
        known: Segments | None = getattr(cumulative, "_evalkit_segments", None)
        if known is None:
            known = _cut(cumulative, like)
            # Lives as long as the forward pass; must not hold the tensor itself, or it would live longer.
            cumulative._evalkit_segments = known  # type: ignore[attr-defined]
        return known


def _cut(cumulative: Tensor, like: Tensor) -> Segments:
    told: Tensor = getattr(cumulative, "_evalkit_told", cumulative)
    lengths = [length for length in told.diff().tolist() if length]
    runs = tuple((len(list(run)), length) for length, run in groupby(lengths))
    saved = len(runs) - len(set(lengths))
    if saved * (MOVED_CPU if like.device.type == "cpu" else MOVED) <= like.numel():
        return Segments(max(lengths, default=0), runs)
    sizes = torch.tensor(lengths)
    order = sizes.repeat_interleave(sizes).argsort(stable=True)
    batches = tuple((len(list(run)), length) for length, run in groupby(sorted(lengths)))
    return Segments(max(lengths), batches, sent(order, like.device), sent(order.argsort(), like.device))


def tell(cumulative: Tensor, known: Tensor) -> None:
    """Say which numbers a tensor of segments on the device has, by one of the CPU."""
    cumulative._evalkit_told = known  # type: ignore[attr-defined]


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
        cu_seq_lens_q: (segments + 1,), where each begins and the last ends.
        max_length_q: the longest's tokens; a number, not a tensor, saves waiting for the device.

    Returns:
        (1, tokens, heads, width).

    Raises:
        ValueError: there is a mask, or more than one sequence.
    """
    if attention_mask is not None or query.shape[0] != 1:
        raise ValueError("packed attention takes one sequence without a mask")
    parts = [part[0].transpose(0, 1) for part in (query, key, value)]  # (tokens, heads, width) each
    width = query.shape[-1]
    # The kernel's scale can be chosen only in later versions of torch.
    usual = scaling is None or math.isclose(scaling, width**-0.5)
    if query.is_cuda and usual and not dropout and (kernel := _varlen(query.device, query.dtype, width)) is not None:
        where = cu_seq_lens_q.to(query.device, torch.int32)
        longest = max_length_q if isinstance(max_length_q, int) else Segments.of(cu_seq_lens_q, parts[0]).longest
        return kernel(*parts, where, where, longest, longest)[None], None
    segments = Segments.of(cu_seq_lens_q, parts[0])
    if segments.order is not None:
        parts = [part.index_select(0, segments.order) for part in parts]
    out = _batched(parts, segments.batches, scaling, dropout)
    return (out if segments.back is None else out.index_select(0, segments.back))[None], None


def _batched(
    parts: list[Tensor], batches: tuple[tuple[int, int], ...], scaling: float | None, dropout: float
) -> Tensor:
    """(tokens, heads, width), a call for each batch; they are views."""
    out, at = [], 0
    for number, length in batches:
        end = at + number * length
        q, k, v = (part[at:end].view(number, length, *part.shape[1:]).transpose(1, 2) for part in parts)
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        out.append(found.transpose(1, 2).flatten(0, 1))
        at = end
    return out[0] if len(out) == 1 else torch.cat(out) if out else torch.empty_like(parts[2])


@lru_cache(maxsize=32)
def _varlen(device: torch.device, dtype: torch.dtype, width: int) -> Callable[..., Tensor] | None:
    """torch's variable-length kernel, where it exists and gives the right answer here."""
    if dtype not in (torch.float16, torch.bfloat16) or width % 8 or width > 256:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn

        with torch.no_grad():
            lengths = (24, 8, 40)
            numbers = torch.arange(3 * sum(lengths) * 2 * width, device=device, dtype=torch.float32)
            q, k, v = (numbers * 12.9898).sin().to(dtype).view(3, sum(lengths), 2, width).unbind(0)
            where = torch.tensor([0, 24, 32, 72], dtype=torch.int32, device=device)
            expected = _batched([q, k, v], tuple((1, length) for length in lengths), None, 0.0)
            kernel = cast(Callable[..., Tensor], varlen_attn)
            found = kernel(q, k, v, where, where, 40, 40)
            right = torch.allclose(found.float(), expected.float(), atol=2e-2)
    except Exception as error:  # no such module, an older GPU, a head size that the build lacks
        log.info("no variable-length attention kernel (%s): segments of one length go together", error)
        return None
    return kernel if right else None


# --------------------------------------------------------------------------------------------------------------- text


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers' ``sdpa`` gives, without repeating keys and values for the queries that share them.

    Args:
        query: (batch, groups × kv_heads, q_len, width).
        key, value: (batch, kv_heads, kv_len, width), views of anything.
        attention_mask: (batch or 1, 1, q_len, kv_len), boolean (True: seen) or added; None: causal.

    Returns:
        (batch, q_len, groups × kv_heads, width).
    """
    rows, heads, q_len, width = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    special = any(kwargs.get(name) is not None for name in ("position_bias", "cache", "softcap", "s_aux"))
    # The mask is repeated instead, so a long query with a mask is better left as it is; and where there is none, a
    # causal one is implied, which the kernels know.
    if attention_mask is None:
        folds = q_len == 1
    else:
        folds = attention_mask.ndim == 4 and attention_mask.shape[1] == 1 and q_len <= kv_heads * width
    if special or groups == 1 or not folds:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask,
            dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs,
        )  # fmt: skip
        return out
    if attention_mask is not None and attention_mask.shape[2] > 1:
        attention_mask = attention_mask[:, :, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
    # Heads that share a key lie together: head h reads key h // groups.
    found = F.scaled_dot_product_attention(
        query.reshape(rows, kv_heads, groups * q_len, width),
        key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling,
    )  # fmt: skip
    found = found.view(rows, kv_heads, groups, q_len, -1).permute(0, 3, 1, 2, 4)
    return found.reshape(rows, q_len, heads, value.shape[-1]), None


AttentionInterface.register(VISION, packed_attention)
AttentionInterface.register(TEXT, grouped_attention)
AttentionMaskInterface.register(TEXT, sdpa_mask)


def kernels(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA, attention without cuDNN's kernels while the context lasts.

    They are planned anew for every number of rows and columns, which keeps the GPU waiting for 40 to 60 ms each time.
    """
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


# --------------------------------------------------------------------------------------------------------- installing


def install_vision(model: Any) -> bool:
    """Have the model's vision encoder use ``packed_attention``; False (and nothing changed) where it cannot."""
    return _install(model, VISION, _packs)


def install_text(model: Any) -> bool:
    """Have the model's language model use ``grouped_attention``; False (and nothing changed) where it cannot."""
    return _install(model, TEXT, _groups)


def uninstall(model: Any) -> None:
    """Put back what ``install_vision`` and ``install_text`` replaced."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) in (VISION, TEXT):
            config._attn_implementation = DEFAULT  # type: ignore[union-attr]


def _install(model: Any, name: str, fits: Callable[[torch.nn.Module], bool]) -> bool:
    """Name the function in the configuration that the fitting modules share, if no other module depends on it."""
    found = [module for module in model.modules() if fits(module)]
    configs: dict[int, Any] = {id(module.config): module.config for module in found}
    if not configs or any(
        # A configuration hands the name on to its parts.
        config._attn_implementation not in (DEFAULT, name) or getattr(config, "sub_configs", None)
        for config in configs.values()
    ):
        return False
    for module in model.modules():
        mine = id(getattr(module, "config", None)) in configs
        if mine and not fits(module) and any(word in _words(type(module).forward) for word in _depends(name)):
            return False
    for config in configs.values():
        config._attn_implementation = name
    return True


def _depends(name: str) -> Iterator[str]:
    """What the code of a module mentions that calls attention, or goes another way for the name's sake."""
    yield "ALL_ATTENTION_FUNCTIONS"
    if name == VISION:
        yield from ("is_flash_attention_requested", "create_bidirectional_mask", "create_causal_mask")


def _packs(module: torch.nn.Module) -> bool:
    """Whether it is an attention that can hand over a packed sequence, each head with keys of its own."""
    words = _words(type(module).forward)
    asks = {"ALL_ATTENTION_FUNCTIONS", "is_flash_attention_requested", "cu_seqlens"} <= words
    return asks and hasattr(module, "config") and getattr(module, "num_key_value_groups", 1) == 1


def _groups(module: torch.nn.Module) -> bool:
    """Whether it is a causal attention with fewer keys than queries and nothing that sdpa cannot do."""
    words = _words(type(module).forward)
    asks = "ALL_ATTENTION_FUNCTIONS" in words and "cu_seqlens" not in words and hasattr(module, "config")
    odd = any(getattr(module, name, None) is not None for name in ("sinks", "attn_logit_softcapping", "softcap"))
    causal = getattr(module, "is_causal", False) is True
    return asks and causal and not odd and getattr(module, "num_key_value_groups", 1) > 1


@lru_cache(maxsize=1024)
def _words(forward: Callable[..., Any]) -> frozenset[str]:
    """The names in the code of a ``forward``, its own and those it takes from its module."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return frozenset(code.co_names + code.co_varnames) if code is not None else frozenset()
