"""The NTK factor with which a cache's keys were rotated, kept on the cache.

The factor belongs to the request: it depends on the length of its prompt and is frozen at prefill, since keys are
cached after rotation.  It is therefore stored with the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from . import rotary
from .configuration import QwenVLConfig


class QwenVLCache(DynamicCache):
    """A ``DynamicCache`` whose rows' NTK factors follow the rows.

    Any other transformers cache works too: the factors are written on it, but its row operations
    (``batch_repeat_interleave``, ``batch_select_indices``) leave them as they were; give ``ntk_alpha`` after those.

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
    """Write the factors (batch,) of a cache's rows on it."""
    cache.ntk_alpha = alpha  # type: ignore[attr-defined]


def factors(
    config: QwenVLConfig,
    given: Tensor | None,
    attention_mask: Tensor | None,
    position_ids: Tensor,
    cache: Cache | None,
) -> Tensor:
    """The rows' NTK factors (batch,), fp32: those given, else those of the cache, else by the prompts' lengths.

    Args:
        given: (batch,) or (1,).
        attention_mask: (batch, cached + length), which has the lengths; else the positions have.
        position_ids: (batch, length).
        cache: the keys so far; where it is empty, this is the prefill.

    Raises:
        ValueError: there are factors of a number of rows that is neither 1 nor the batch's, or none in a filled cache
            whose rows may be longer than ``seq_length``.
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
                "one for each row (a cache's own do not follow when the rows of a plain DynamicCache are changed)."
            )
        return given.to(device=device, dtype=torch.float32).expand(batch)
    if not config.use_dynamic_ntk or past + length <= config.seq_length:
        return torch.ones(batch, device=device)
    if past > 0:
        raise ValueError(
            "the cache does not say with which NTK factor its keys were rotated; give ntk_alpha, one for each row."
        )
    if config.original_padding:
        lengths = torch.full((batch,), length, device=device)
    elif attention_mask is not None and attention_mask.ndim == 2:
        lengths = attention_mask.to(device).sum(-1)
    else:
        lengths = position_ids.amax(-1) + 1
    return rotary.ntk_alpha(lengths, config.seq_length)
