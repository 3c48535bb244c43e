"""Where a model's turn ends in a raw answer.

Backends stop at the tokens that end a turn.  Answers from elsewhere may contain such tokens as text, with what the
model wrote behind them: further turns, or the same answer again.
"""

from __future__ import annotations

import re

ENDS = (
    "<|im_end|>", "<|endoftext|>",  # ChatML: Qwen, InternVL, SmolVLM, …
    "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|end_of_text|>",  # Llama 3, Llama 4
    "<end_of_turn>", "<turn|>", "<eos>",  # Gemma, PaliGemma
    "</s>",  # Vicuna, Mistral
    "<|end|>", "<|return|>",  # Phi, harmony (gpt-oss)
    "<end_of_utterance>",  # Idefics, SmolVLM
    "<|END_OF_TURN_TOKEN|>",  # Command, Aya Vision
    "<|end_of_sentence|>", "<｜end▁of▁sentence｜>",  # ERNIE, DeepSeek-VL
)  # fmt: skip
"""Texts of the tokens that end a turn."""
BEGINS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|turn>", "<|user|>", "<|User|>", "<｜User｜>")
"""Texts of the tokens that begin the next one, in case the end is missing."""

_LEADING = re.compile(r"\s*+(?:<s>|<bos>|<\|begin_of_text\|>)?+\s*+(?:(?:<\|im_start\|>|<start_of_turn>)\w*+\n)?+")
"""The beginning of the turn itself, which some tools keep."""
_TURN = re.compile("|".join(map(re.escape, (*ENDS, *BEGINS))))
_IN_HARMONY = "<|channel|>"


def first_turn(text: str) -> str:
    """The raw answer up to the first token that ends a turn or begins the next one; all of it if there is none.

    In harmony's format ``<|end|>`` closes a channel, not the turn, so it does not count there.
    """
    if "<" not in text:
        return text
    leading = _LEADING.match(text)
    for token in _TURN.finditer(text, leading.end() if leading else 0):
        if token[0] != "<|end|>" or _IN_HARMONY not in text:
            return text[: token.start()]
    return text


def ended(text: str, finish: str | None) -> bool | None:
    """Whether the model ended its turn in a raw answer; None if that is unknown.

    Args:
        finish: ``Response.finish``; None for an answer from a file that does not say how it ended.
    """
    if first_turn(text) != text:
        return True
    return None if finish is None else finish == "stop"
