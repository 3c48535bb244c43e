"""LoRA adapters (peft's format): read and checked before the model is loaded, then applied to it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.installation import install_command
from evalkit.jsonl import read_json

from .errors import LOADING_ERRORS
from .folder_view import folder_view
from .formatting import few, first_line
from .layer_names import rename_layers
from .weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CorruptFile, find_weights, tensor_files

log = logging.getLogger(__name__)

SAFE, PICKLED = ADAPTER_WEIGHTS


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, checked.

    Attributes:
        given: the value of ``--adapter``, for messages.
        config: its ``adapter_config.json``.
    """

    given: str
    folder: Path
    config: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        """The file of its tensors."""
        return self.folder / (SAFE if (self.folder / SAFE).is_file() else PICKLED)

    def view(self, model: Any) -> AbstractContextManager[Path]:
        """A view of the folder in which layers have the names that they have in ``model``."""
        renamed = rename_layers(model, self.config, self.weights)
        if renamed is None:
            return folder_view(self.folder)
        log.info("--adapter %s: the names of its layers, of an earlier transformers, were converted", self.given)
        config, tensors = renamed
        replaced = {ADAPTER_CONFIG: config, SAFE: tensors}
        return folder_view(self.folder, without=ADAPTER_WEIGHTS, replaced=replaced)


def read_adapter(given: str, *, pickled: bool) -> Adapter:
    """The adapter in a folder, without its tensors.

    Raises:
        UserError: there is none, it is pickled and that is not allowed, or the folder has more trained weights than
            the adapter's, which peft does not load.
    """
    folder = Path(given).expanduser()
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise UserError(
            f"--adapter {given}: {folder} is not an adapter (no adapter_config.json); give the folder that peft's "
            "save_pretrained wrote."
        )
    try:
        config = read_json(path)
    except OSError as error:
        raise UserError(f"--adapter {given}: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"--adapter {given}: {path} is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise UserError(f"--adapter {given}: {path} is not a JSON object.")
    if not (folder / SAFE).is_file() and not (pickled and (folder / PICKLED).is_file()):
        raise UserError(
            f"--adapter {given}: {folder} has no adapter_model.safetensors; pickled weights can execute anything and "
            "are loaded only under --allow-pickled-weights."
        )
    _check_other_weights(given, folder)
    return Adapter(given, folder, config)


def _check_other_weights(given: str, folder: Path) -> None:
    """Refuse further trained weights next to the adapter; a complete checkpoint is allowed."""
    others = [name for name in tensor_files(folder) if name not in ADAPTER_WEIGHTS]
    if (folder / "config.json").is_file():
        try:
            complete = [path.name for path in find_weights(folder).paths if path.parent == folder]
        except CorruptFile:
            complete = []
        if complete and set(complete) <= set(others):
            log.warning(
                "--adapter %s: the weights beside the adapter (%s) are not loaded: it is applied to --model",
                given, few(complete),
            )  # fmt: skip
            others = [name for name in others if name not in complete]
    if others:
        raise UserError(
            f"--adapter {given}: {few(others)} beside the adapter may hold further trained weights, which would not be "
            "loaded; merge all of them into a checkpoint and give it as --model, or move files that do not belong to "
            "the adapter elsewhere."
        )


def apply_adapter(model: Any, adapter: Adapter) -> Any:
    """The model with the adapter's layers inserted; its class stays the same.

    Raises:
        UserError: peft is not installed, or the adapter does not fit the model.
    """
    given = adapter.given
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise UserError(f"--adapter {given}: needs peft; install it with: {install_command('peft')}") from error
    try:
        with warnings.catch_warnings(), adapter.view(model) as folder:
            warnings.simplefilter("ignore")  # mismatches are errors below
            if PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
                raise ValueError("it adds to the prompt; only adapters that change layers (LoRA) are supported")
            wrapped: Any = PeftModel.from_pretrained(model, str(folder))
            loaded = wrapped.load_adapter(str(folder), "default")  # again, for its report
    except (*LOADING_ERRORS, AttributeError) as error:
        raise UserError(f"--adapter {given}: cannot be applied to the checkpoint: {first_line(error)}") from error
    unmatched = [*loaded.missing_keys, *loaded.unexpected_keys]
    if unmatched:  # an adapter of another model: peft would continue with layers without effect
        raise UserError(
            f"--adapter {given}: it belongs to another model: {len(unmatched)} of its tensors and layers do not "
            f"match, for example {unmatched[0]}."
        )
    return wrapped.get_base_model()
