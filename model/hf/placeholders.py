"""What stands for an image in a prompt that no chat template writes."""

from __future__ import annotations

from typing import Any

from evalkit.errors import UserError

# Most processors put what belongs around an image there themselves, in place of their ``image_token``.  Where the chat
# template does it instead (Qwen2-VL, 2.5 and 3), running text has to.
AROUND = {"<|image_pad|>": "<|vision_start|><|image_pad|><|vision_end|>"}


def placeholder(processor: Any) -> str:
    """What an image is in running text.  Raises ``UserError`` where the processor has no token for it."""
    token = getattr(processor, "image_token", None)
    if not isinstance(token, str) or not token:
        raise UserError(
            f"{type(processor).__name__} names no image_token, so images have no place in a prompt without a chat "
            "template; ask this checkpoint in turns (another --family)."
        )
    return AROUND.get(token, token)


def quoted(processor: Any, text: str) -> str:
    """A text as running text takes it: no special token is read in it, where the processor can see to that.

    In turns such a processor (Qwen-VL's) does so itself.
    """
    quote = getattr(processor, "quote", None)
    return str(quote(text)) if callable(quote) else text


def reserved(processor: Any) -> list[str]:
    """Tokens that a question must not contain: they would pair images and positions wrongly."""
    if callable(getattr(processor, "quote", None)):
        return []
    names = ("image_token", "video_token", "boi_token", "eoi_token")
    return [t for t in (getattr(processor, n, None) for n in names) if isinstance(t, str) and t]
