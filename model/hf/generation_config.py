"""Fields of a checkpoint's generation_config.json that are ignored."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

# Fields that would change a greedy answer.
ALTERING = (
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "exponential_decay_length_penalty", "min_length", "min_new_tokens", "guidance_scale",
)  # fmt: skip


def not_applied(configured: Any, model: str) -> dict[str, Any]:
    """The fields of a generation config that would change a greedy answer; logs a warning once."""
    found = {name: getattr(configured, name, None) for name in ALTERING}
    altering = {name: value for name, value in found.items() if value and value != 1}  # a factor of 1 has no effect
    if altering:
        listed = ", ".join(f"{name}={value}" for name, value in altering.items())
        _warn_once(f"{model}: its generation_config.json sets {listed}")
    return altering


@cache
def _warn_once(message: str) -> None:
    log.warning(
        "%s, which is ignored: decoding is plain greedy search (as in VLMEvalKit; lmms-eval applies it)", message
    )
