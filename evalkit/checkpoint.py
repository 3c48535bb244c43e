"""Checkpoints of ``--model``: bundled ones, local folders, and hub ids; their adapters and processors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from importlib.resources import files
from pathlib import Path
from typing import Any

from evalkit.checkpoint_files import CODE, CONFIG, PICKLED, PROCESSOR, WEIGHTS
from evalkit.endpoint import ServedModel
from evalkit.errors import UserError
from evalkit.jsonl import read_json
from evalkit.paths import user_path

BUNDLED = ("tiny", "tiny-early")
ADAPTER_CONFIG = "adapter_config.json"
PUBLISHED_PICKLED = ("qwen",)
"""Architectures that were published with pickled weights; they are read as plain tensors, which executes nothing."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that exists, with its configuration read.

    Attributes:
        name: its name in tables and run folders.
        location: the folder or hub id for ``from_pretrained``.
        config: its ``config.json``.
        generation: its ``generation_config.json``; empty if there is none.
        trust_remote_code: whether code in the checkpoint may be run.
        allow_pickled_weights: whether pickled weights, which can execute anything, may be loaded.
        adapter: the folder or hub id of a LoRA adapter (peft's format) to apply.
        processor: the folder or hub id of the processor; None for the checkpoint's own.
        min_pixels, max_pixels: limits of the processor's resizing; None for its own.
        chat_template: the source of the chat template to use; None for its own.
        served: the server's model of the name ``location``; it has no files here.
    """

    name: str
    location: str
    config: Mapping[str, Any]
    trust_remote_code: bool = False
    allow_pickled_weights: bool = False
    adapter: str | None = None
    processor: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    chat_template: str | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    served: ServedModel | None = None

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def pickled(self) -> bool:
        """Whether pickled weights may be loaded: it is allowed, or the architecture was published so."""
        return self.allow_pickled_weights or self.model_type in PUBLISHED_PICKLED

    @property
    def positions(self) -> int | None:
        """The maximum length of a prompt with its answer in tokens; None if the config does not have it."""
        text = self.config.get("text_config")
        for part in (text, self.config):
            value = part.get("max_position_embeddings") if isinstance(part, Mapping) else None
            if isinstance(value, int):
                return value
        return None

    @property
    def local(self) -> bool:
        """Whether its files are in a folder on this machine."""
        return Path(self.location).is_dir()

    @property
    def argument(self) -> str:
        """The name that commands accept for it: a bundled name, a hub id, or the folder."""
        return self.name if self.name in BUNDLED or "/" in self.name else self.location


def bundled_folder(name: str) -> Path:
    """Where a bundled checkpoint is installed."""
    return Path(str(files("evalkit.model"))) / "tiny" / "weights" / name


def _read_folder(
    name: str, folder: Path, given: str, *, pickled: bool = False, with_weights: bool = True
) -> Checkpoint:
    config = folder / "config.json"
    adapter = folder / ADAPTER_CONFIG
    if adapter.is_file() and not (config.is_file() and any(_weights(folder, pickled=True))):
        raise _is_adapter(given, adapter, str(folder))
    if not config.is_file():
        raise UserError(
            f"--model {given}: {folder} is not a checkpoint: it has no config.json "
            "(give the folder that save_pretrained wrote)."
        )
    try:
        content = read_json(config, constants=True)
    except OSError as error:
        raise UserError(f"--model {given}: {config} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"--model {given}: {config} is not valid JSON ({error}).") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise UserError(f"--model {given}: {config} has no model_type, so the architecture is unknown.")
    pickled = pickled or content["model_type"] in PUBLISHED_PICKLED
    if with_weights and not any(_weights(folder, pickled=pickled)):
        raise UserError(
            f"--model {given}: {folder} has no *.safetensors weights; pickled ones can execute anything and are loaded "
            "only under --allow-pickled-weights (or convert them with save_pretrained)."
        )
    return Checkpoint(name, str(folder), content, generation=_generation(folder / "generation_config.json", given))


def _weights(folder: Path, *, pickled: bool) -> Iterator[Path]:
    """The files of weights in ``folder``, without an adapter's."""
    suffixes = ("safetensors", "bin") if pickled else ("safetensors",)
    patterns = [pattern for suffix in suffixes for pattern in (f"*.{suffix}", f"*.{suffix}.index.json")]
    return (path for pattern in patterns for path in folder.glob(pattern) if not path.name.startswith("adapter_model."))


def _is_adapter(given: str, config: Path, place: str) -> UserError:
    """The error for an adapter that was given as a checkpoint."""
    try:
        base = read_json(config)["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    of = f" of {base}" if base else ""
    return UserError(
        f"--model {given}: this is a LoRA adapter{of}, not a checkpoint; "
        f"give --model {base or 'BASE'} --adapter {place}."
    )


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
        raise UserError(f"--model {given}: {path} is not a JSON object.")
    return content


def _read_hub(given: str) -> Checkpoint:
    from huggingface_hub import hf_hub_download

    try:
        config = Path(hf_hub_download(given, "config.json"))
        content = read_json(config, constants=True)
    except Exception as error:  # offline, gated, unknown, corrupt: huggingface_hub has many exceptions for it
        try:
            adapter = Path(hf_hub_download(given, ADAPTER_CONFIG))
        except Exception:
            raise _hub_failed("--model", given, error) from error
        raise _is_adapter(given, adapter, given) from error
    try:
        generation = Path(hf_hub_download(given, "generation_config.json"))
    except Exception:  # most often there is none
        return Checkpoint(given, given, content)
    return Checkpoint(given, given, content, generation=_generation(generation, given))


def _hub_failed(option: str, given: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return UserError(
        f"{option} {given}: could not be read from the hub ({reason}); "
        "check the name and the network, or give a local folder."
    )


def expanded(models: Sequence[str]) -> list[str]:
    """``models`` with each pattern (``out/checkpoint-*``) replaced by the checkpoints that match it, 500 before 1000.

    Raises:
        UserError: a pattern matches none.
    """
    found: list[str] = []
    for model in models:
        if not any(mark in model for mark in "*?[") or Path(model).expanduser().exists():
            found.append(model)
            continue
        paths = glob(str(Path(model).expanduser()))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        fitting = [path for path in paths if (Path(path) / "config.json").is_file()]
        adapters = [path for path in paths if (Path(path) / ADAPTER_CONFIG).is_file()]
        if not fitting and adapters:
            raise _is_adapter(model, Path(adapters[0]) / ADAPTER_CONFIG, f"{adapters[0]} (one run for each adapter)")
        if not fitting:
            raise UserError(f"--model {model}: no checkpoint matches this pattern (folders with a config.json).")
        found += sorted(fitting, key=_with_numbers)
    return list(dict.fromkeys(found))


def _with_numbers(name: str) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def resolve_checkpoint(
    given: str, *, trust_remote_code: bool = False, allow_pickled_weights: bool = False, with_weights: bool = True
) -> Checkpoint:
    """The checkpoint that ``given`` names; it must have weights unless ``with_weights`` is false.

    Raises:
        UserError: there is no such folder or hub id, or what is there is no checkpoint.
    """
    found = _resolve(given, allow_pickled_weights, with_weights)
    return replace(found, trust_remote_code=trust_remote_code, allow_pickled_weights=allow_pickled_weights)


def _resolve(given: str, pickled: bool, with_weights: bool) -> Checkpoint:
    if given in BUNDLED:
        return _read_folder(given, bundled_folder(given), given)
    folder = user_path(given, "--model")
    if folder.is_dir():
        return _read_folder(folder.resolve().name, folder, given, pickled=pickled, with_weights=with_weights)
    if folder.exists():
        raise UserError(f"--model {given}: {folder} is a file; give the checkpoint's folder.")
    if not _is_hub_id(given):
        raise UserError(
            f"--model {given}: there is no such folder, and it is neither a hub id (ORG/NAME) "
            f"nor a bundled checkpoint ({', '.join(BUNDLED)})."
        )
    return _read_hub(given)


def fetched(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its files, its adapter's and its processor's in local folders; downloads those of hub ids.

    Raises:
        UserError: a download failed, or there are no weights that may be loaded.
    """
    adapter, processor = checkpoint.adapter, checkpoint.processor
    if adapter is not None:
        wanted = [ADAPTER_CONFIG, *WEIGHTS, *(PICKLED if checkpoint.allow_pickled_weights else ())]
        adapter = _local_folder("--adapter", adapter, wanted)
    if processor is not None:
        processor = local_processor(processor)
    checkpoint = replace(checkpoint, adapter=adapter, processor=processor)
    if checkpoint.local:
        return checkpoint
    wanted = [*WEIGHTS, *CONFIG, *PROCESSOR]
    wanted += CODE if checkpoint.trust_remote_code else ()
    wanted += PICKLED if checkpoint.pickled else ()
    folder = _downloaded("--model", checkpoint.location, wanted)
    local = _read_folder(checkpoint.name, folder, checkpoint.name, pickled=checkpoint.allow_pickled_weights)
    return replace(checkpoint, location=local.location)


def local_processor(given: str) -> str:
    """The folder of the processor that ``--processor`` names: a folder, a bundled checkpoint, or a hub id.

    Raises:
        UserError: there is no such folder, or the download failed.
    """
    if given in BUNDLED:
        return str(bundled_folder(given))
    return _local_folder("--processor", given, ("config.json", *PROCESSOR))


def _local_folder(option: str, given: str, wanted: Sequence[str]) -> str:
    """The folder ``given``, or the files ``wanted`` of that hub id in a local folder."""
    folder = Path(given).expanduser()
    if folder.is_dir() or not _is_hub_id(given):
        return str(folder)  # one that does not exist is an error of what reads it
    return str(_downloaded(option, given, wanted))


def _is_hub_id(given: str) -> bool:
    return not given.startswith((".", "/", "~")) and given.count("/") == 1


def _downloaded(option: str, given: str, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(given, allow_patterns=list(wanted)))
    except Exception as error:  # see _read_hub
        raise _hub_failed(option, given, error) from error
