"""Loading a checkpoint's processor and model with transformers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError

from .adapter import apply_adapter
from .dtypes import dtype_for, dtype_in_effect, quantised, quantization
from .errors import LOADING_ERRORS
from .formatting import few, first_line

log = logging.getLogger(__name__)


def register_native(checkpoint: Checkpoint) -> bool:
    """Register the architecture with transformers if evalkit implements it; returns whether it does.

    Raises:
        UserError: the checkpoint is a text-only Qwen.
    """
    if checkpoint.model_type != "qwen":
        return False
    if not checkpoint.config.get("visual"):
        raise UserError(
            f"--model {checkpoint.name}: this is a text-only Qwen (its config.json has no 'visual' part); "
            "use Qwen-VL or Qwen-VL-Chat."
        )
    from evalkit.model.qwen_vl import register

    register()
    return True


def check_architecture(checkpoint: Checkpoint) -> None:
    """Raises ``UserError`` if transformers has no image-text-to-text model for it, and remote code is not allowed."""
    if register_native(checkpoint) or checkpoint.trust_remote_code:
        return
    if checkpoint.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    own = (
        " (the checkpoint contains its own code: run it with --trust-remote-code)"
        if checkpoint.config.get("auto_map")
        else ""
    )
    raise UserError(
        f"--model {checkpoint.name}: the architecture {checkpoint.model_type!r} is not supported: transformers "
        f"{transformers.__version__} has no image-text-to-text model of that name{own}."
    )


def identity(checkpoint: Checkpoint, device: torch.device, dtype: str) -> dict[str, Any]:
    """The backend, the dtype in effect on a device (of any machine), and the quantization method.

    Raises:
        UserError: transformers has no such model.
    """
    check_architecture(checkpoint)
    config = checkpoint.config.get("quantization_config")
    method = config.get("quant_method", "unnamed") if isinstance(config, Mapping) else None
    return {"backend": "hf", "dtype": dtype_in_effect(checkpoint, dtype, device), "quantization": method}


def load_processor(checkpoint: Checkpoint) -> Any:
    """The processor, with the checkpoint's limits on images.  Raises ``UserError``; needs no weights."""
    register_native(checkpoint)
    try:
        processor: Any = _untyped(AutoProcessor).from_pretrained(
            checkpoint.location, trust_remote_code=checkpoint.trust_remote_code
        )
    except LOADING_ERRORS as error:
        raise _failed(checkpoint, "its processor", error) from error
    if not hasattr(processor, "tokenizer"):  # AutoProcessor falls back to a tokenizer or an image processor
        raise UserError(
            f"--model {checkpoint.name}: the checkpoint has no processor for images and text, only a "
            f"{type(processor).__name__}; add the files that the processor's save_pretrained writes."
        )
    # If its files are missing, transformers creates a tokenizer without a vocabulary.
    if not processor.tokenizer("a word", add_special_tokens=False)["input_ids"]:
        raise UserError(
            f"--model {checkpoint.name}: its tokenizer has no vocabulary; add its files (tokenizer.json, "
            "tokenizer_config.json, or those of the published checkpoint)."
        )
    _set_pixel_limits(processor, checkpoint)
    return processor


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


def load_model(
    checkpoint: Checkpoint, *, device: torch.device, dtype: str, placed: Mapping[str, Any] | None = None
) -> Any:
    """The model on its device, in eval mode, with its adapter if there is one.

    Pickled weights and remote code are refused unless the checkpoint allows them.

    Args:
        placed: arguments of ``from_pretrained`` for a model on several devices.

    Raises:
        UserError: it cannot be loaded.
    """
    model, report = load_with_report(checkpoint, device=device, dtype=dtype, placed=placed)
    if missing := sorted(report["missing_keys"]):  # transformers would initialise them at random
        raise UserError(
            f"--model {checkpoint.name}: {len(missing)} of its tensors are missing ({few(missing)}); "
            f"'evalkit verify {checkpoint.name}' lists all problems."
        )
    if checkpoint.adapter is not None:
        model = apply_adapter(model, checkpoint.adapter, pickled=checkpoint.allow_pickled_weights)
    return (model if quantised(checkpoint) or placed else model.to(device)).eval()


def load_with_report(
    checkpoint: Checkpoint, *, device: torch.device, dtype: str, placed: Mapping[str, Any] | None = None
) -> tuple[Any, Mapping[str, Any]]:
    """The model as loaded by ``from_pretrained``, and its loading report (``missing_keys`` and so on).

    Raises:
        UserError: it cannot be loaded.
    """
    register_native(checkpoint)
    if checkpoint.pickled and only_pickled(Path(checkpoint.location)):
        # transformers ignores use_safetensors here; weights_only=True creates only tensors.
        log.warning("%s: its weights are pickles, read with weights_only=True", checkpoint.name)
    _untyped(transformers.utils.logging).disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of casts for every layer and token
    # Quantised weights cannot be moved or cast after loading (bitsandbytes raises).
    placed = placed or ({"device_map": {"": device}} if quantised(checkpoint) else {})
    try:
        model, report = _untyped(AutoModelForImageTextToText).from_pretrained(
            checkpoint.location,
            dtype=dtype_for(checkpoint, dtype, device),
            use_safetensors=None if checkpoint.pickled else True,
            weights_only=True,
            trust_remote_code=checkpoint.trust_remote_code,
            output_loading_info=True,
            **placed,
        )
    except ImportError as error:
        if quantised(checkpoint):
            raise _no_library(checkpoint, error) from error
        raise _failed(checkpoint, "the checkpoint", error) from error
    except LOADING_ERRORS as error:
        raise _failed(checkpoint, "the checkpoint", error) from error
    return model, report


def only_pickled(folder: Path) -> bool:
    """Whether a checkpoint has its weights as pickles only."""
    return not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin"))


# Packages to install for a quantization method, where the names differ.
PACKAGES = {"quanto": "optimum-quanto", "awq": "gptqmodel", "gptq": "gptqmodel", "fp8": "kernels", "mxfp4": "kernels"}


def _no_library(checkpoint: Checkpoint, error: ImportError) -> UserError:
    method, message = str(quantization(checkpoint)), first_line(error).rstrip(".")
    advice = "" if "pip install" in message else f"; pip install {PACKAGES.get(method, method)}"
    return UserError(
        f"--model {checkpoint.name}: its weights are quantised ({method}), which needs a library that is not "
        f"installed: {message}{advice}."
    )


def _untyped(thing: Any) -> Any:
    """``thing`` as Any: transformers does not annotate it."""
    return thing


def _failed(checkpoint: Checkpoint, what: str, error: BaseException) -> UserError:
    return UserError(f"--model {checkpoint.name}: {what} could not be loaded: {first_line(error)}")
