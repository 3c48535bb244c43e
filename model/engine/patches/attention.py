"""Attention functions for transformers' models, and their installation in a model.

Vision encoders get ``packed_attention`` (see there).  In the language model several query heads share a key head:
transformers' ``sdpa`` repeats keys and values for them whenever there is a mask (since 5.23 not for a single token),
which costs more than attention itself.  ``grouped_attention`` concatenates the queries that share a key instead, and
reads keys and values in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..paged_tensors import PagedTensors
from ..prefix_groups import PrefixLevel
from .packed_attention import packed_attention
from .paged_attention import paged_attention
from .prefix_attention import prefix_attention

# transformers looks for "flash" in a name before it passes the packed sequence on (5.10 to 5.23).
VISION = "evalkit_flash_varlen"
TEXT = "evalkit_sdpa"
DEFAULT = "sdpa"  # the only implementation that is replaced: any other one was chosen on purpose


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    evalkit_pages: PagedTensors | None = None,
    evalkit_prefixes: Sequence[PrefixLevel] = (),
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers' ``sdpa``, without repeating keys and values for the query heads that share them.

    Args:
        query: (batch, groups × kv_heads, q_len, width).
        key, value: (batch, kv_heads, kv_len, width), of any strides.
        attention_mask: (batch or 1, 1, q_len, kv_len), boolean (True: attended to) or additive; None: causal.
        evalkit_pages: the pages to read instead of keys and values (``PagedTensors``).
        evalkit_prefixes: what rows attend to besides their keys and values.

    Returns:
        (batch, q_len, groups × kv_heads, width).
    """
    layer: Any = module.layer_idx if evalkit_pages is not None or evalkit_prefixes else None
    if evalkit_pages is not None:
        return paged_attention(query, evalkit_pages, layer, scaling), None
    if evalkit_prefixes:
        levels = evalkit_prefixes
        return prefix_attention(query, key, value, attention_mask, scaling, levels=levels, layer=layer), None
    rows, heads, q_len, width = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    unsupported = any(kwargs.get(name) is not None for name in ("position_bias", "cache", "softcap", "s_aux"))
    # Folding repeats the mask instead, which does not pay for long queries. Without a mask, attention is causal, for
    # which sdpa has faster kernels.
    if attention_mask is None:
        folds = q_len == 1
    else:
        folds = attention_mask.ndim == 4 and attention_mask.shape[1] == 1 and q_len <= kv_heads * width
    if unsupported or groups == 1 or not folds:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask,
            dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs,
        )  # fmt: skip
        return out
    if attention_mask is not None and attention_mask.shape[2] > 1:
        attention_mask = attention_mask[:, :, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
    # Heads that share a key are neighbours: head h reads key h // groups.
    found = F.scaled_dot_product_attention(
        query.reshape(rows, kv_heads, groups * q_len, width),
        key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling,
    )  # fmt: skip
    found = found.view(rows, kv_heads, groups, q_len, -1).permute(0, 3, 1, 2, 4)
    return found.reshape(rows, q_len, heads, value.shape[-1]), None


AttentionInterface.register(VISION, packed_attention)
AttentionInterface.register(TEXT, grouped_attention)
AttentionMaskInterface.register(TEXT, sdpa_mask)


def no_cudnn_attention(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA, exclude cuDNN's attention kernels while the context lasts.

    They are planned again for every shape of a batch, which stalls the GPU for 40 to 60 ms each time.
    """
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


# --------------------------------------------------------------------------------------------------------- installing


def install_vision(model: Any) -> bool:
    """Make the vision encoder use ``packed_attention``.  Returns False, and changes nothing, if it cannot."""
    return _install(model, VISION, _takes_packed)


def install_text(model: Any) -> bool:
    """Make the language model use ``grouped_attention``.  Returns False, and changes nothing, if it cannot."""
    return _install(model, TEXT, _takes_grouped)


def is_vision_block(module: Any) -> bool:
    """Whether a module contains an attention module that uses ``packed_attention``."""
    config = getattr(getattr(module, "attn", None), "config", None)
    return getattr(config, "_attn_implementation", None) == VISION


def uninstall(model: Any) -> None:
    """Undo ``install_vision`` and ``install_text``."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) in (VISION, TEXT):
            config._attn_implementation = DEFAULT  # type: ignore[union-attr]


def _install(model: Any, name: str, fits: Callable[[torch.nn.Module], bool]) -> bool:
    """Select an attention function in the configuration of the modules that fit, if no other module depends on it."""
    found = [module for module in model.modules() if fits(module)]
    configs: dict[int, Any] = {id(module.config): module.config for module in found}
    if not configs or any(
        # Setting it would also set it in sub-configurations.
        config._attn_implementation not in (DEFAULT, name) or getattr(config, "sub_configs", None)
        for config in configs.values()
    ):
        return False
    for module in model.modules():
        shares_config = id(getattr(module, "config", None)) in configs
        if (
            shares_config
            and not fits(module)
            and any(word in _names_in(type(module).forward) for word in _dependent_on(name))
        ):
            return False
    for config in configs.values():
        config._attn_implementation = name
    return True


def _dependent_on(name: str) -> Iterator[str]:
    """Names in a module's code that mean that it calls attention, or depends on which implementation is selected."""
    yield "ALL_ATTENTION_FUNCTIONS"
    if name == VISION:
        yield from ("is_flash_attention_requested", "create_bidirectional_mask", "create_causal_mask")


def _takes_packed(module: torch.nn.Module) -> bool:
    """Whether it is an attention module that passes a packed sequence on and has a key per query head."""
    names = _names_in(type(module).forward)
    packed = {"ALL_ATTENTION_FUNCTIONS", "is_flash_attention_requested", "cu_seqlens"} <= names
    return packed and hasattr(module, "config") and getattr(module, "num_key_value_groups", 1) == 1


def _takes_grouped(module: torch.nn.Module) -> bool:
    """Whether it is a causal attention module with grouped queries, and without features that sdpa lacks."""
    names = _names_in(type(module).forward)
    selectable = "ALL_ATTENTION_FUNCTIONS" in names and "cu_seqlens" not in names and hasattr(module, "config")
    unsupported = any(
        getattr(module, field, None) is not None for field in ("sinks", "attn_logit_softcapping", "softcap")
    )
    causal = getattr(module, "is_causal", False) is True
    return selectable and causal and not unsupported and getattr(module, "num_key_value_groups", 1) > 1


@lru_cache(maxsize=1024)
def _names_in(forward: Callable[..., Any]) -> frozenset[str]:
    """The local and global names in the code of a ``forward``."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return frozenset(code.co_names + code.co_varnames) if code is not None else frozenset()
