"""What of a checkpoint's own generation settings is left aside."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

# What of a generation_config changes a greedy answer.
ALTERING = (
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "exponential_decay_length_penalty", "min_length", "min_new_tokens", "guidance_scale",
)  # fmt: skip


def not_applied(configured: Any, model: str) -> dict[str, Any]:
    """What of a checkpoint's generation settings would change a greedy answer; a warning names it, once."""
    found = {name: getattr(configured, name, None) for name in ALTERING}
    altering = {name: value for name, value in found.items() if value and value != 1}  # a factor of 1 is none
    if altering:
        listed = ", ".join(f"{name}={value}" for name, value in altering.items())
        _say_once(f"{model}: its generation_config.json asks for {listed}")
    return altering


@cache
def _say_once(what: str) -> None:
    log.warning("%s, which is not applied: answers are what the model finds likeliest (VLMEvalKit's are, too; "
                "lmms-eval applies it)", what)  # fmt: skip
