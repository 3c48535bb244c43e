"""LoRA adapters (peft's format) on a loaded model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.installation import install_command
from evalkit.jsonl import read_json

from .errors import LOADING_ERRORS
from .formatting import first_line


def apply_adapter(model: Any, adapter: str, *, pickled: bool) -> Any:
    """The model with the adapter's layers inserted; its class stays the same."""
    folder = Path(adapter).expanduser()
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise UserError(
            f"--adapter {adapter}: {folder} is not an adapter (no adapter_config.json); give the folder that peft's "
            "save_pretrained wrote."
        )
    try:
        read_json(config)
    except OSError as error:
        raise UserError(f"--adapter {adapter}: {config} cannot be read ({error.strerror}).") from error
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
