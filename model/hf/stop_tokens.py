"""The tokens at which an answer ends: all that the checkpoint's files name.

The files often disagree: ``generation_config.json`` of a fine-tuned model names the token that ends a text, while its
chat template ends turns with another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalkit.data import shown
from evalkit.errors import UserError

from .processor import Inputs

PROBE = "evalkit-answer"


def stop_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The ids that the generation config, the configuration and the tokenizer name, without duplicates.

    Raises:
        UserError: the generation config names something else than ids.
    """
    config = getattr(model, "config", None)
    text_config = getattr(config, "text_config", None)
    found = [
        *_ids(model.generation_config),
        # Classes of configurations have defaults that belong to another vocabulary.
        *(token for part in (config, text_config) for token in _ids(part) if is_special(tokenizer, token)),
        *([] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]),
    ]
    return tuple(dict.fromkeys(found))


def turn_end_token(inputs: Inputs) -> int | None:
    """The id of the special token that the chat template writes after an answer; None if there is none."""
    if not inputs.has_chat_template:
        return None
    turns = [("user", "evalkit-question"), ("assistant", PROBE)]
    conversation = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    try:
        rendered = inputs.render(conversation, add_generation_prompt=False)
    except Exception:  # a template can raise anything; prompts will show it
        return None
    _, found, after = rendered.rpartition(PROBE)
    if not found or not after.strip():
        return None
    first = inputs.ids(after.lstrip())[0]
    return first if is_special(inputs.tokenizer, first) else None


def is_special(tokenizer: Any, token: int) -> bool:
    """Whether an id is of a special token, which no ordinary text is tokenized to."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).get(token)
    return bool(getattr(added, "special", False)) or token in tokenizer.all_special_ids


def pad_token(model: Any, tokenizer: Any, stops: Sequence[int]) -> int:
    """The id of the token that fills batches.

    Raises:
        UserError: the generation config names something else than an id.
    """
    configured = model.generation_config.pad_token_id
    if configured is not None and (isinstance(configured, bool) or not isinstance(configured, int)):
        raise UserError(
            f"generation_config.json has the pad_token_id {shown(configured)}; expected the id of a token, which is an "
            "integer."
        )
    return int(next(token for token in (configured, tokenizer.pad_token_id, *stops) if token is not None))


def _ids(config: Any) -> Iterator[int]:
    found = getattr(config, "eos_token_id", None)
    ids = found if isinstance(found, (list, tuple)) else [] if found is None else [found]
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, int):
            raise UserError(
                f"generation_config.json or config.json has the eos_token_id {shown(found)}; expected the ids of "
                "tokens, which are integers."
            )
        yield one
