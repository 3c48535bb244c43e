"""Whether a checkpoint thinks before it answers, and how many tokens it may then generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.chat_template import read_template, thinks
from evalkit.checkpoint import BUNDLED, Checkpoint, bundled_folder
from evalkit.interfaces import Family
from evalkit.jsonl import read_json
from evalkit.reasoning import REASONING, Markers, opened_by

LIMIT = 32_768
"""New tokens of a checkpoint that thinks and names no limit of its own: those that Qwen3's authors advise."""
TEMPLATE_FILES = ("tokenizer_config.json", "chat_template.json", "chat_template.jinja")


def token_limit(own: Any, positions: int | None) -> int:
    """The number of new tokens of a checkpoint that thinks.

    Args:
        own: ``max_new_tokens`` of its generation config; ``LIMIT`` unless that is a number.
        positions: the length of its context, of which half is left to the prompt; None if unknown.
    """
    limit = own if isinstance(own, int) and not isinstance(own, bool) and own > 0 else LIMIT
    return limit if positions is None else max(1, min(limit, positions // 2))


def thinking_limit(checkpoint: Checkpoint, family: Family, thinking: bool | None) -> int | None:
    """The number of new tokens that ``checkpoint`` may generate if it thinks; None if it does not.

    Args:
        thinking: what its chat template is told (``--thinking``); None for nothing.
    """
    folder = _folder(checkpoint)
    template, tokens = (None, {}) if folder is None else read_template(folder)
    template = checkpoint.chat_template or template
    served = checkpoint.served
    if template is not None:
        found = thinks(template, tokens, thinking, family.reasoning)
    else:
        end = family.prompt_end(checkpoint.name) if served is None else served.prompt_end
        found = bool(thinking) or bool(opened_by(end, family.reasoning))
    if not found:
        return None
    lengths = [checkpoint.positions, None if served is None else served.says.get("max_model_len")]
    known = [length for length in lengths if isinstance(length, int) and length > 0]
    generation = checkpoint.generation or _generation(folder)
    return token_limit(generation.get("max_new_tokens"), min(known, default=None))


def limit_in_memory(
    model: Any, processor: Any, thinking: bool | None, markers: Sequence[Markers] = REASONING
) -> int | None:
    """``thinking_limit`` of a model in memory with its processor."""
    tokenizer = getattr(processor, "tokenizer", processor)
    templates = (getattr(owner, "chat_template", None) for owner in (processor, tokenizer))
    template = next((found for found in templates if isinstance(found, str)), None)
    tokens = {name: str(token) for name, token in (getattr(tokenizer, "special_tokens_map", None) or {}).items()}
    if template is None or not thinks(template, tokens, thinking, markers):
        return None
    config = getattr(model, "config", None)
    text = getattr(config, "text_config", None) or config
    positions = getattr(text, "max_position_embeddings", None)
    own = getattr(getattr(model, "generation_config", None), "max_new_tokens", None)
    return token_limit(own, positions if isinstance(positions, int) else None)


def _folder(checkpoint: Checkpoint) -> Path | None:
    """The folder with the chat template of ``checkpoint``; for a hub id, that of its downloaded files."""
    served = checkpoint.served
    if served is not None:
        found = served.endpoint.processor or served.folder
        return None if found is None else Path(found)
    name = checkpoint.processor or checkpoint.location
    if name in BUNDLED:
        return bundled_folder(name)
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _downloaded(name)


def _downloaded(name: str) -> Path | None:
    from huggingface_hub import hf_hub_download

    folder = None
    for file in TEMPLATE_FILES:
        try:
            folder = Path(hf_hub_download(name, file)).parent
        except Exception:  # huggingface_hub has many exceptions; most checkpoints lack some of the files
            continue
    return folder


def _generation(folder: Path | None) -> Mapping[str, Any]:
    try:
        content = {} if folder is None else read_json(folder / "generation_config.json", constants=True)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
