"""Loading a checkpoint's processor and model with transformers; devices and dtypes."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.installation import install_command

from .formatting import few, first_line

log = logging.getLogger(__name__)

LOADING_ERRORS = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, EOFError, SafetensorError,
    pickle.UnpicklingError, StrictDataclassError,
)  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(wanted: str) -> torch.device:
    """The named device; ``auto`` is cuda, else mps, else cpu.  Raises ``UserError`` if it is not available."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(
            f"--device {wanted}: no such device; use auto, cpu, cuda, cuda:N or mps, or several with commas."
        ) from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"--device {wanted}: this machine (or this torch) has no CUDA GPU; use --device cpu or auto."
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {wanted}: there are only {torch.cuda.device_count()} CUDA devices, from cuda:0.")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {wanted}: this machine has no Apple GPU; use --device cpu or auto.")
    elif device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {wanted}: not supported; use auto, cpu, cuda, cuda:N or mps.")
    return device


def pick_devices(wanted: str) -> list[torch.device]:
    """The devices of ``cuda:0,cuda:1``, or of ``cuda:*`` (all GPUs); a device may be named twice.

    Raises:
        UserError: one of them is not available, or they are of several kinds.
    """
    if wanted.strip() == "cuda:*":
        pick_device("cuda")
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in wanted.split(",")]
    if len(names) == 1:
        return [pick_device(wanted)]
    if "" in names or "auto" in names or "cuda:*" in names:
        raise UserError(
            f"--device {wanted}: give several devices by their names, as in cuda:0,cuda:1; cuda:* alone is all GPUs."
        )
    devices = [pick_device(name) for name in names]
    if len({device.type for device in devices}) > 1:
        raise UserError(
            f"--device {wanted}: devices of several kinds round differently, so answers would depend on the device; "
            "give devices of one kind."
        )
    return [torch.device("cuda", d.index or 0) if d.type == "cuda" else d for d in devices]


def pick_dtype(wanted: str, device: torch.device) -> Any:
    """The torch dtype; ``auto`` is the checkpoint's on a GPU, and float32 on a CPU (half is ten times slower)."""
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if wanted not in DTYPES:
        raise UserError(f"--dtype {wanted}: unknown; use auto, {', '.join(DTYPES)}.")
    return DTYPES[wanted]


def quantised(checkpoint: Checkpoint) -> bool:
    """Whether the weights are quantised: transformers then places them, and ``auto`` is their dtype."""
    return bool(checkpoint.config.get("quantization_config"))


def dtype_for(checkpoint: Checkpoint, wanted: str, device: torch.device) -> Any:
    """The ``dtype`` argument of ``from_pretrained``."""
    return "auto" if wanted == "auto" and quantised(checkpoint) else pick_dtype(wanted, device)


def dtype_in_effect(checkpoint: Checkpoint, wanted: str, device: torch.device) -> str:
    """The name of the dtype that a checkpoint runs in, from its config, without loading it."""
    kind = dtype_for(checkpoint, wanted, device)
    if kind != "auto":
        return str(kind).removeprefix("torch.")
    config = checkpoint.config
    parts = [config, config.get("text_config")]
    found = (p.get(key) for p in parts if isinstance(p, Mapping) for key in ("dtype", "torch_dtype"))
    return next((str(name).removeprefix("torch.") for name in found if name is not None), "auto")


# ------------------------------------------------------------------------------------------------------------- loading


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
        model = _adapted(model, checkpoint.adapter, pickled=checkpoint.allow_pickled_weights)
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


def quantization(checkpoint: Checkpoint) -> str | None:
    """The quantization method in ``config.json``; None if the weights are not quantised."""
    if not quantised(checkpoint):
        return None
    found = checkpoint.config["quantization_config"]
    return str(found.get("quant_method", "unnamed")) if isinstance(found, Mapping) else "unnamed"


# Packages to install for a quantization method, where the names differ.
PACKAGES = {"quanto": "optimum-quanto", "awq": "gptqmodel", "gptq": "gptqmodel", "fp8": "kernels", "mxfp4": "kernels"}


def _no_library(checkpoint: Checkpoint, error: ImportError) -> UserError:
    method, message = str(quantization(checkpoint)), first_line(error).rstrip(".")
    advice = "" if "pip install" in message else f"; pip install {PACKAGES.get(method, method)}"
    return UserError(
        f"--model {checkpoint.name}: its weights are quantised ({method}), which needs a library that is not "
        f"installed: {message}{advice}."
    )


def _adapted(model: Any, adapter: str, *, pickled: bool) -> Any:
    """The model with the adapter's layers inserted; its class stays the same."""
    folder = Path(adapter).expanduser()
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise UserError(
            f"--adapter {adapter}: {folder} is not an adapter (no adapter_config.json); give the folder that peft's "
            "save_pretrained wrote."
        )
    try:
        json.loads(config.read_bytes())
    except ValueError as error:
        raise UserError(f"--adapter {adapter}: {config} is not valid JSON ({error}).") from error
    safe = (folder / "adapter_model.safetensors").is_file()
    if not safe and not (pickled and (folder / "adapter_model.bin").is_file()):
        raise UserError(
            f"--adapter {adapter}: {folder} has no adapter_model.safetensors; pickled weights can execute anything and "
            "are loaded only under --allow-pickled-weights."
        )
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise UserError(f"--adapter {adapter}: needs peft; install it with: {install_command('peft')}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mismatches are errors below
            if PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
                raise ValueError("it adds to the prompt; only adapters that change layers (LoRA) are supported")
            wrapped: Any = PeftModel.from_pretrained(model, str(folder))
            loaded = wrapped.load_adapter(str(folder), "default")  # again, for its report
    except (*LOADING_ERRORS, AttributeError) as error:
        raise UserError(f"--adapter {adapter}: cannot be applied to the checkpoint: {first_line(error)}") from error
    unmatched = [*loaded.missing_keys, *loaded.unexpected_keys]
    if unmatched:  # an adapter of another model: peft would continue with layers without effect
        raise UserError(
            f"--adapter {adapter}: it belongs to another model: {len(unmatched)} of its tensors and layers do not "
            f"match, for example {unmatched[0]}."
        )
    return wrapped.get_base_model()


def _untyped(thing: Any) -> Any:
    """``thing`` as Any: transformers does not annotate it."""
    return thing


def _failed(checkpoint: Checkpoint, what: str, error: BaseException) -> UserError:
    return UserError(f"--model {checkpoint.name}: {what} could not be loaded: {first_line(error)}")
