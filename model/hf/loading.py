"""Loading a checkpoint's model with transformers."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError

from .adapter import apply_adapter, read_adapter
from .attention import requested_attention, unusable, without_attention
from .dtypes import dtype_for, dtype_in_effect, quantised, quantization
from .errors import LOADING_ERRORS
from .folder_view import folder_view
from .formatting import few, first_line, quiet
from .weight_files import ADAPTER_CONFIG, notes_on_unread

log = logging.getLogger(__name__)

NATIVE: Mapping[str, str] = {
    "internvl_chat": "take the checkpoint in transformers' format, whose name ends in -hf, or ",
    "ovis": "take the checkpoint in transformers' format, whose name ends in -hf, or ",
}
"""What transformers has for architectures of the authors' own code."""


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
    instead = NATIVE.get(checkpoint.model_type, "")
    raise UserError(
        f"--model {checkpoint.name}: the architecture {checkpoint.model_type!r} is not supported: transformers "
        f"{transformers.__version__} has no image-text-to-text model of that name{own}; {instead}start a server that "
        "has it, and use --backend server."
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


def architecture(checkpoint: Checkpoint) -> Any:
    """The model that the config describes, on the meta device."""
    auto: Any = AutoModelForImageTextToText
    config_json = json.dumps(without_attention(checkpoint.config)).encode()
    unusual = requested_attention(checkpoint.config) is not None  # it may not be available here
    with folder_view(Path(checkpoint.location), replaced={"config.json": config_json} if unusual else {}) as folder:
        config: Any = AutoConfig.from_pretrained(str(folder), trust_remote_code=checkpoint.trust_remote_code)
        with torch.device("meta"), quiet():
            return auto.from_config(config, trust_remote_code=checkpoint.trust_remote_code)


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
    adapter = None
    if checkpoint.adapter is not None:
        adapter = read_adapter(checkpoint.adapter, pickled=checkpoint.allow_pickled_weights)
    model, report = load_with_report(checkpoint, device=device, dtype=dtype, placed=placed)
    if missing := sorted(report["missing_keys"]):  # transformers would initialise them at random
        raise UserError(
            f"--model {checkpoint.name}: {len(missing)} of its tensors are missing ({few(missing)}); "
            f"'evalkit verify {checkpoint.argument}' lists all problems."
        )
    _check_unexpected(checkpoint, model, sorted(report["unexpected_keys"]))
    for note in notes_on_unread(Path(checkpoint.location)):
        log.warning("%s: %s", checkpoint.name, note)
    if adapter is not None:
        model = apply_adapter(model, adapter)
    return (model if quantised(checkpoint) or placed else model.to(device)).eval()


def _check_unexpected(checkpoint: Checkpoint, model: Any, names: Sequence[str]) -> None:
    """Warn of tensors that the model does not have; raise ``UserError`` if answers would be wrong without them."""
    if not names:
        return
    if lora := [name for name in names if ".lora_" in name or ".base_layer." in name]:
        raise UserError(
            f"--model {checkpoint.name}: {len(lora)} of its tensors are LoRA weights that were not merged "
            f"({few(lora)}); merge them (peft's merge_and_unload), or give the adapter's own folder with --adapter."
        )
    expected = {_layer_pattern(name) for name in model.state_dict()}
    if layers := [name for name in names if "#" in _layer_pattern(name) and _layer_pattern(name) in expected]:
        raise UserError(
            f"--model {checkpoint.name}: {len(layers)} of its tensors belong to layers that config.json does not have "
            f"({few(layers)}), so the model would lack them; correct config.json (the number of layers) or the weights."
        )
    log.warning(
        "%s: %d tensors in its files are not part of %s and are not loaded: %s",
        checkpoint.name, len(names), type(model).__name__, few(names),
    )  # fmt: skip


def _layer_pattern(name: str) -> str:
    """A tensor's name with ``#`` for the number of its layer."""
    return re.sub(r"\.\d+(?=\.)", ".#", name)


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
    kind = dtype_for(checkpoint, dtype, device)
    attention = requested_attention(checkpoint.config)
    reason = None if attention is None else unusable(attention, device, kind)
    load = partial(_from_pretrained, checkpoint, dtype=kind, **placed)
    try:
        if attention is None:
            return load()
        if reason is None:
            try:
                return load()
            except LOADING_ERRORS as error:
                reason = first_line(error).rstrip(".")
        model, report = load(config=without_attention(checkpoint.config))
        log.warning(
            "%s: config.json asks for %s, which cannot be used here (%s); %s is used instead",
            checkpoint.name, attention, reason, model.config._attn_implementation,
        )  # fmt: skip
        return model, report
    except ImportError as error:
        if quantised(checkpoint):
            raise _no_library(checkpoint, error) from error
        raise _failed(checkpoint, "the checkpoint", error) from error
    except LOADING_ERRORS as error:
        raise _failed(checkpoint, "the checkpoint", error) from error


def _from_pretrained(
    checkpoint: Checkpoint, *, config: Mapping[str, Any] | None = None, **options: Any
) -> tuple[Any, Mapping[str, Any]]:
    """transformers' ``from_pretrained`` for the weights as they are: an adapter beside them is not applied.

    Args:
        config: to use instead of ``config.json``.
    """
    replaced = {} if config is None else {"config.json": json.dumps(config).encode()}
    with folder_view(Path(checkpoint.location), without=(ADAPTER_CONFIG,), replaced=replaced) as folder:
        model, report = _untyped(AutoModelForImageTextToText).from_pretrained(
            str(folder),
            use_safetensors=None if checkpoint.pickled else True,
            weights_only=True,
            trust_remote_code=checkpoint.trust_remote_code,
            output_loading_info=True,
            **options,
        )
    return model, report


def only_pickled(folder: Path) -> bool:
    """Whether a checkpoint has its weights as pickles only."""
    safe = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
    return not safe and any(folder.glob("*.bin"))


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
