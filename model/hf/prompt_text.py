"""The parts of a processor that make the text of prompts: chat template, placeholders of images, special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.errors import UserError

NOT_FOR_IMAGES = "the checkpoint's chat template has no place for images"
OTHER_TEMPLATE = (
    "it may be a text model's; take the template of the checkpoint that it was trained from (copy its files, or name "
    "that checkpoint with --processor)."
)

# Most processors expand their ``image_token`` themselves.  Where the chat template adds the tokens around an image
# instead (Qwen2-VL, 2.5 and 3), raw text has to contain them.
WITH_DELIMITERS = {"<|image_pad|>": "<|vision_start|><|image_pad|><|vision_end|>"}

# These put the image before a raw text themselves.
PLACE_IMAGES_THEMSELVES = ("Florence2Processor", "Kosmos2Processor")


def image_placeholder(processor: Any) -> str:
    """The text that stands for an image in raw text.  Raises ``UserError`` if the processor has no token for it."""
    if type(processor).__name__ in PLACE_IMAGES_THEMSELVES:
        return ""
    token = getattr(processor, "image_token", None)
    if not isinstance(token, str) or not token:
        raise UserError(
            f"{type(processor).__name__} names no image_token, so a prompt without a chat template cannot contain "
            "images; use another --family, whose prompts are conversations."
        )
    return WITH_DELIMITERS.get(token, token)


def video_placeholder(processor: Any) -> str:
    """The text that stands for a video in raw text.  Raises ``UserError`` if the processor has no token for it."""
    token = getattr(processor, "video_token", None)
    if not isinstance(token, str) or not token:
        raise UserError(f"{type(processor).__name__} names no video_token, so a raw prompt cannot contain videos.")
    return f"<|vision_start|>{token}<|vision_end|>"


def escaped(processor: Any, text: str) -> str:
    """A text for a raw prompt with its special tokens escaped, if the processor can do so.

    In conversations such a processor (Qwen-VL's) escapes them itself.
    """
    quote = getattr(processor, "quote", None)
    return str(quote(text)) if callable(quote) else text


def reserved_tokens(processor: Any) -> list[str]:
    """Tokens that a question must not contain: images would be matched to the wrong positions."""
    if callable(getattr(processor, "quote", None)):
        return []
    names = ("image_token", "video_token", "boi_token", "eoi_token")
    return [t for t in (getattr(processor, n, None) for n in names) if isinstance(t, str) and t]


def chat_template(processor: Any) -> str | None:
    """The processor's chat template, else its tokenizer's; of several named ones, ``default``."""
    for owner in (processor, processor.tokenizer):
        found = getattr(owner, "chat_template", None)
        if isinstance(found, Mapping):
            found = found.get("default")
        if found:
            return str(found)
    return None
