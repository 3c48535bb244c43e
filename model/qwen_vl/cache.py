"""The NTK factors of a cache's rows.

Keys are cached after rotation, so the factor of a request, which depends on its prompt's length, must not change after
prefill.  It is therefore stored with the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from . import rotary
from .configuration import QwenVLConfig


class QwenVLCache(DynamicCache):
    """A ``DynamicCache`` that applies its row operations to the NTK factors too.

    Other transformers caches work as well: the factors are set as an attribute, but their row operations
    (``batch_repeat_interleave``, ``batch_select_indices``) do not change it; give ``ntk_alpha`` after those.

    Attributes:
        ntk_alpha: (batch,) fp32, or None before the prefill.
    """

    ntk_alpha: Tensor | None = None

    def reset(self) -> None:
        super().reset()
        self.ntk_alpha = None

    def reorder_cache(self, beam_idx: Any) -> None:
        super().reorder_cache(beam_idx)
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        if self.ntk_alpha is not None:
            self.ntk_alpha = self.ntk_alpha.repeat_interleave(repeats, dim=0)

    def _select(self, rows: Tensor) -> None:
        if self.ntk_alpha is not None:
            self.ntk_alpha = self.ntk_alpha[rows.to(self.ntk_alpha.device)]


def remember(cache: Cache, alpha: Tensor) -> None:
    """Store the NTK factors (batch,) of a cache's rows with it."""
    cache.ntk_alpha = alpha  # type: ignore[attr-defined]


def factors(
    config: QwenVLConfig,
    given: Tensor | None,
    attention_mask: Tensor | None,
    position_ids: Tensor,
    cache: Cache | None,
) -> Tensor:
    """The NTK factors (batch,) of the rows, fp32: those given, else the cache's, else by the prompts' lengths.

    Args:
        given: (batch,) or (1,).
        attention_mask: (batch, cached + length), for the lengths; without it, they come from the positions.
        position_ids: (batch, length).
        cache: an empty one means that this is the prefill.

    Raises:
        ValueError: the number of factors is neither 1 nor the batch size, or a filled cache has none although its rows
            may be longer than ``seq_length``.
    """
    batch, length = position_ids.shape
    device = position_ids.device
    past = 0 if cache is None else cache.get_seq_length()
    if given is None and cache is not None and past > 0:
        given = getattr(cache, "ntk_alpha", None)
    if given is not None:
        if given.shape not in ((1,), (batch,)):
            raise ValueError(
                f"the NTK factors of {batch} rows are needed, and there are {tuple(given.shape)}; give ntk_alpha with "
                "one per row (those of a plain DynamicCache do not change with its rows)."
            )
        return given.to(device=device, dtype=torch.float32).expand(batch)
    if not config.use_dynamic_ntk or past + length <= config.seq_length:
        return torch.ones(batch, device=device)
    if past > 0:
        raise ValueError("the NTK factors of the cached keys are unknown; give ntk_alpha with one factor per row.")
    if config.original_padding:
        lengths = torch.full((batch,), length, device=device)
    elif attention_mask is not None and attention_mask.ndim == 2:
        lengths = attention_mask.to(device).sum(-1)
    else:
        lengths = position_ids.amax(-1) + 1
    return rotary.ntk_alpha(lengths, config.seq_length)
