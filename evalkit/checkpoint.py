"""What ``--model`` names: a bundled checkpoint, a local folder, or an id on the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

BUNDLED = ("tiny", "tiny-early")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that exists, with its configuration read.

    Attributes:
        name: what tables and run folders call it.
        location: the folder, or the hub id, that ``from_pretrained`` takes.
        config: its ``config.json``.
    """

    name: str
    location: str
    config: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def local(self) -> bool:
        return Path(self.location).is_dir()


def bundled_folder(name: str) -> Path:
    """Where a bundled checkpoint is installed."""
    return Path(str(files("evalkit.model"))) / "tiny" / "weights" / name


def _read_folder(name: str, folder: Path, given: str) -> Checkpoint:
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"--model {given}: {folder} is no checkpoint: it has no config.json "
            "(give the folder that save_pretrained wrote)."
        )
    try:
        content = json.loads(config.read_bytes())
    except ValueError as error:
        raise UserError(f"--model {given}: {config} is not valid JSON ({error}).") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise UserError(f"--model {given}: {config} names no model_type, so its architecture is unknown.")
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"--model {given}: {folder} has no *.safetensors weights "
            "(pickled weights are not loaded; convert them with save_pretrained(safe_serialization=True))."
        )
    return Checkpoint(name, str(folder), content)


def _read_hub(given: str) -> Checkpoint:
    from huggingface_hub import hf_hub_download

    try:
        config = Path(hf_hub_download(given, "config.json"))
        content = json.loads(config.read_bytes())
    except Exception as error:  # offline, gated, unknown, damaged: huggingface_hub has many exceptions for it
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--model {given}: could not be read from the hub ({reason}); "
            "check the name and the network, or give a local folder."
        ) from error
    return Checkpoint(given, given, content)


def resolve_checkpoint(given: str) -> Checkpoint:
    """The checkpoint that ``given`` names.

    Raises:
        UserError: there is no such folder or hub id, or what is there is no checkpoint.
    """
    if given in BUNDLED:
        return _read_folder(given, bundled_folder(given), given)
    folder = Path(given).expanduser()
    if folder.is_dir():
        return _read_folder(folder.resolve().name, folder, given)
    if folder.exists():
        raise UserError(f"--model {given}: {folder} is a file; give the checkpoint's folder.")
    looks_like_path = given.startswith((".", "/", "~")) or given.count("/") != 1
    if looks_like_path:
        raise UserError(
            f"--model {given}: there is no such folder, and it is no hub id (ORG/NAME) "
            f"nor a bundled checkpoint ({', '.join(BUNDLED)})."
        )
    return _read_hub(given)
