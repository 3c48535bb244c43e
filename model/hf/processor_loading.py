"""Loading a checkpoint's processor with transformers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoProcessor

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.model.image_processor_file import FILES, ProcessorFileError, read_image_processor

from .errors import LOADING_ERRORS
from .folder_view import folder_view
from .formatting import first_line
from .loading import register_native

QWEN_MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
VOCABULARIES = (
    "tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json"
)  # fmt: skip
"""Files of which every tokenizer has one."""


def load_processor(checkpoint: Checkpoint) -> Any:
    """The processor, with the checkpoint's limits on images.  Raises ``UserError``; needs no weights."""
    native = register_native(checkpoint)
    folder = Path(checkpoint.processor or checkpoint.location)
    option = f"--model {checkpoint.name}" if checkpoint.processor is None else f"--processor {checkpoint.processor}"
    if checkpoint.processor is not None and not folder.is_dir():
        raise UserError(f"{option}: there is no such folder; give a checkpoint's folder or a hub id (ORG/NAME).")
    from_pretrained: Any = AutoProcessor.from_pretrained
    try:
        with folder_view(folder) if native else _readable(checkpoint, folder) as view:
            processor = from_pretrained(str(view), trust_remote_code=checkpoint.trust_remote_code)
    except ProcessorFileError as error:
        raise UserError(f"{option}: {error}.") from error
    except LOADING_ERRORS as error:
        missing = _missing_files(checkpoint, folder)
        message = missing or f"its processor could not be loaded: {first_line(error)}"
        raise UserError(f"{option}: {message}") from error
    if not hasattr(processor, "tokenizer"):  # AutoProcessor falls back to a tokenizer or an image processor
        message = _missing_files(checkpoint, folder) or (
            f"there is no processor for images and text, only a {type(processor).__name__}; add the files that the "
            "processor's save_pretrained writes."
        )
        raise UserError(f"{option}: {message}")
    # If its files are missing, transformers creates a tokenizer without a vocabulary.
    if not processor.tokenizer("a word", add_special_tokens=False)["input_ids"]:
        message = _missing_files(checkpoint, folder) or (
            "its tokenizer has no vocabulary; add its files (tokenizer.json, tokenizer_config.json, or those of the "
            "published checkpoint)."
        )
        raise UserError(f"{option}: {message}")
    _set_pixel_limits(processor, checkpoint)
    if checkpoint.chat_template is not None:
        processor.chat_template = processor.tokenizer.chat_template = checkpoint.chat_template
    return processor


def _readable(checkpoint: Checkpoint, folder: Path) -> AbstractContextManager[Path]:
    """A view of ``folder`` in which transformers can read the image processor's settings.

    Raises:
        ProcessorFileError: they are unreadable, or of no known spelling.
    """
    found = read_image_processor(folder)
    if found is None or checkpoint.trust_remote_code:
        return folder_view(folder)
    if not found.of_qwen and checkpoint.model_type not in QWEN_MODEL_TYPES:
        if found.type is not None and not hasattr(transformers, found.type.removesuffix("Fast")):
            raise ProcessorFileError(
                f"{found.path.name} has the image_processor_type {found.type}, which transformers "
                f"{transformers.__version__} does not have"
            )
        return folder_view(folder)
    found.qwen_resizing()  # raises for unknown spellings
    return folder_view(folder, replaced={found.path.name: found.rewritten()} if found.outdated else {})


def _missing_files(checkpoint: Checkpoint, folder: Path) -> str | None:
    """A sentence about missing files of the processor, and what to do; None if there are all kinds."""
    if not folder.is_dir() or register_native(checkpoint):  # a hub id; native processors have files of their own
        return None
    missing = []
    if not any(True for pattern in VOCABULARIES for _ in folder.glob(pattern)):
        missing.append("tokenizer (tokenizer.json, tokenizer_config.json)")
    if read_image_processor(folder) is None:
        missing.append(f"image processor ({' or '.join(reversed(FILES))})")
    if not missing:
        return None
    base = checkpoint.config.get("_name_or_path")
    of = f" ({base})" if isinstance(base, str) and base else ""
    return (
        f"there is no {' and no '.join(missing)}; copy the processor's files and the chat template from the checkpoint "
        f"that it was trained from{of}, or name that one with --processor."
    )


def _set_pixel_limits(processor: Any, checkpoint: Checkpoint) -> None:
    """Resize images to between ``min_pixels`` and ``max_pixels``, with processors of the Qwen2-VL line."""
    limits = {"shortest_edge": checkpoint.min_pixels, "longest_edge": checkpoint.max_pixels}
    if all(limit is None for limit in limits.values()):
        return
    option = "--min-pixels" if checkpoint.max_pixels is None else "--max-pixels"
    image_processor = getattr(processor, "image_processor", None)
    # The keys of ``size`` are not enough: in other processors they are side lengths.
    accepted = getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", {})
    size = dict(getattr(image_processor, "size", None) or {})
    if "max_pixels" not in accepted or not (size.get("shortest_edge") and size.get("longest_edge")):
        raise UserError(
            f"{option}: the processor of {checkpoint.name} does not resize by number of pixels; leave it out."
        )
    size |= {edge: limit for edge, limit in limits.items() if limit is not None}
    if not 0 < size["shortest_edge"] <= size["longest_edge"]:
        raise UserError(
            f"{option}: images cannot have between {size['shortest_edge']} and {size['longest_edge']} pixels; "
            "give --min-pixels and --max-pixels in that order."
        )
    image_processor.size = type(image_processor.size)(**size)  # type: ignore[union-attr]
