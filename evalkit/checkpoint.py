"""What ``--model`` names: a bundled checkpoint, a local folder, or an id on the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from importlib.resources import files
from pathlib import Path
from typing import Any

from evalkit.endpoint import ServedModel
from evalkit.errors import UserError
from evalkit.fingerprint import CODE, CONFIG, PICKLED, PROCESSOR, WEIGHTS
from evalkit.jsonl import read_json

BUNDLED = ("tiny", "tiny-early")
PUBLISHED_PICKLED = ("qwen",)
"""Architectures whose published weights are pickles; they are read as plain tensors, which executes nothing."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that exists, with its configuration read.

    Attributes:
        name: what tables and run folders call it.
        location: the folder, or the hub id, that ``from_pretrained`` takes.
        config: its ``config.json``.
        generation: its ``generation_config.json``; empty where there is none.
        trust_remote_code: the code that comes with it may be run.
        allow_pickled_weights: weights that are pickles, which can execute anything, may be loaded.
        adapter: the folder of a LoRA adapter (peft's format) that goes on top of it.
        min_pixels, max_pixels: the sizes that its processor keeps images between; None for its own.
        served: it is asked on a server, which calls it by its ``location``; there are no files of it to load.
    """

    name: str
    location: str
    config: Mapping[str, Any]
    trust_remote_code: bool = False
    allow_pickled_weights: bool = False
    adapter: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    served: ServedModel | None = None

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def pickled(self) -> bool:
        """Whether weights that are pickles may be loaded: it is allowed, or they were published so."""
        return self.allow_pickled_weights or self.model_type in PUBLISHED_PICKLED

    @property
    def positions(self) -> int | None:
        """The longest prompt with its answer that the model was made for, in tokens, where its config says."""
        text = self.config.get("text_config")
        for part in (text, self.config):
            value = part.get("max_position_embeddings") if isinstance(part, Mapping) else None
            if isinstance(value, int):
                return value
        return None

    @property
    def local(self) -> bool:
        return Path(self.location).is_dir()


def bundled_folder(name: str) -> Path:
    """Where a bundled checkpoint is installed."""
    return Path(str(files("evalkit.model"))) / "tiny" / "weights" / name


def _read_folder(name: str, folder: Path, given: str, *, pickled: bool = False, whole: bool = True) -> Checkpoint:
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"--model {given}: {folder} is no checkpoint: it has no config.json "
            "(give the folder that save_pretrained wrote)."
        )
    try:
        content = read_json(config, constants=True)
    except OSError as error:
        raise UserError(f"--model {given}: {config} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"--model {given}: {config} is not valid JSON ({error}).") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise UserError(f"--model {given}: {config} names no model_type, so its architecture is unknown.")
    pickled = pickled or content["model_type"] in PUBLISHED_PICKLED
    if whole and not any(folder.glob("*.safetensors")) and not (pickled and any(folder.glob("*.bin"))):
        raise UserError(
            f"--model {given}: {folder} has no *.safetensors weights; pickled ones can execute anything and are loaded "
            "only under --allow-pickled-weights (or convert them with save_pretrained)."
        )
    return Checkpoint(name, str(folder), content, generation=_generation(folder / "generation_config.json", given))


def _generation(path: Path, given: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path, constants=True)
    except OSError as error:
        raise UserError(f"--model {given}: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"--model {given}: {path} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"--model {given}: {path} holds no JSON object.")
    return content


def _read_hub(given: str) -> Checkpoint:
    from huggingface_hub import hf_hub_download

    try:
        config = Path(hf_hub_download(given, "config.json"))
        content = read_json(config, constants=True)
    except Exception as error:  # offline, gated, unknown, corrupt: huggingface_hub has many exceptions for it
        raise _hub_failed(given, error) from error
    try:
        generation = Path(hf_hub_download(given, "generation_config.json"))
    except Exception:  # most often there is none
        return Checkpoint(given, given, content)
    return Checkpoint(given, given, content, generation=_generation(generation, given))


def _hub_failed(given: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return UserError(
        f"--model {given}: could not be read from the hub ({reason}); "
        "check the name and the network, or give a local folder."
    )


def expanded(models: Sequence[str]) -> list[str]:
    """``models`` with each pattern (``out/checkpoint-*``) replaced by the checkpoints it fits, 500 before 1000.

    Raises:
        UserError: a pattern fits none.
    """
    found: list[str] = []
    for model in models:
        if not any(mark in model for mark in "*?[") or Path(model).expanduser().exists():
            found.append(model)
            continue
        paths = glob(str(Path(model).expanduser()))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        fitting = [path for path in paths if (Path(path) / "config.json").is_file()]
        if not fitting:
            raise UserError(f"--model {model}: no checkpoint fits this pattern (folders with a config.json).")
        found += sorted(fitting, key=_with_numbers)
    return list(dict.fromkeys(found))


def _with_numbers(name: str) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def resolve_checkpoint(
    given: str, *, trust_remote_code: bool = False, allow_pickled_weights: bool = False, whole: bool = True
) -> Checkpoint:
    """The checkpoint that ``given`` names; without ``whole``, its weights may be missing.

    Raises:
        UserError: there is no such folder or hub id, or what is there is no checkpoint.
    """
    found = _resolve(given, allow_pickled_weights, whole)
    return replace(found, trust_remote_code=trust_remote_code, allow_pickled_weights=allow_pickled_weights)


def _resolve(given: str, pickled: bool, whole: bool) -> Checkpoint:
    if given in BUNDLED:
        return _read_folder(given, bundled_folder(given), given)
    folder = Path(given).expanduser()
    if folder.is_dir():
        return _read_folder(folder.resolve().name, folder, given, pickled=pickled, whole=whole)
    if folder.exists():
        raise UserError(f"--model {given}: {folder} is a file; give the checkpoint's folder.")
    looks_like_path = given.startswith((".", "/", "~")) or given.count("/") != 1
    if looks_like_path:
        raise UserError(
            f"--model {given}: there is no such folder, and it is no hub id (ORG/NAME) "
            f"nor a bundled checkpoint ({', '.join(BUNDLED)})."
        )
    return _read_hub(given)


def fetched(checkpoint: Checkpoint) -> Checkpoint:
    """``checkpoint`` with its files in a local folder: those of a hub id are downloaded, once.

    Raises:
        UserError: the download failed, or there are no weights that may be loaded.
    """
    if checkpoint.local:
        return checkpoint
    from huggingface_hub import snapshot_download

    wanted = [*WEIGHTS, *CONFIG, *PROCESSOR]
    wanted += CODE if checkpoint.trust_remote_code else ()
    wanted += PICKLED if checkpoint.pickled else ()
    try:
        folder = snapshot_download(checkpoint.location, allow_patterns=wanted)
    except Exception as error:  # see _read_hub
        raise _hub_failed(checkpoint.name, error) from error
    local = _read_folder(checkpoint.name, Path(folder), checkpoint.name, pickled=checkpoint.allow_pickled_weights)
    return replace(checkpoint, location=local.location)
