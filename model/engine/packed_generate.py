"""Packed weights (``patches/packed_linear.py``) for models that run through their own ``generate``."""

from __future__ import annotations

import logging
from typing import Any

import torch

from evalkit.model.hf.processor import Inputs

from .language_model import TOLERANCE, relative_error
from .patches import packed_linear
from .reference import reference_answer, reference_requests

log = logging.getLogger(__name__)


def pack_weights(model: Any, inputs: Inputs) -> bool:
    """Pack the weights of a model's linear layers, if its logits stay the same but for rounding.

    Returns whether they are packed; ``unpack_weights`` restores them.  They are left alone where the model has an
    encoder for prompts, none of its layers can be packed, or it fails on a small image.
    """
    if not isinstance(model, torch.nn.Module) or getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    if not any(packed_linear.can_pack(module, packed_linear.MIN_NUMBERS) for module in model.modules()):
        return False
    try:
        before = _logits(model, inputs)
        if not packed_linear.install(model):
            return False
        after = _logits(model, inputs)
        if all(relative_error(*pair) <= TOLERANCE[torch.float32] for pair in zip(before, after, strict=True)):
            return True
    except Exception as error:  # whatever a model or its processor raises: generate answers without packed weights
        log.info("the weights of %s are not packed: %s: %s", type(model).__name__, type(error).__name__, error)
    else:
        log.info("the weights of %s are not packed: its logits would differ", type(model).__name__)
    unpack_weights(model)
    return False


def unpack_weights(model: Any) -> None:
    """Undo ``pack_weights``; the weights are the same bits as before."""
    packed_linear.uninstall(model)


def _logits(model: Any, inputs: Inputs) -> list[torch.Tensor]:
    """The model's own logits for two questions about an image, and for several images if it takes them."""
    found: list[torch.Tensor] = []
    for request in reference_requests(plain=not inputs.has_chat_template):
        try:
            found.extend(reference_answer(model, inputs, request).logits)
        except Exception:
            if len(request.images) == 1:
                raise
    return found
