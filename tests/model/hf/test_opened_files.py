"""The files that loading a checkpoint really opens are those that its identity covers."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from evalkit import registry
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.checkpoint_files import loaded_files
from evalkit.types import Batching

IN_OPEN, IN_ISDIR = 0x20, 0x40000000
HEADER = struct.Struct("iIII")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@contextmanager
def opened_below(folder: Path) -> Iterator[set[str]]:
    """The names of the files below ``folder`` that this process, or any library in it, opens meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    folders: dict[int, Path] = {}
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        folders[libc.inotify_add_watch(descriptor, os.fsencode(path), IN_OPEN)] = path
    found: set[str] = set()
    try:
        yield found
        while True:
            try:
                events = os.read(descriptor, 1 << 20)
            except BlockingIOError:
                break
            while events:
                watch, mask, _, length = HEADER.unpack_from(events)
                name = events[HEADER.size : HEADER.size + length].rstrip(b"\0")
                events = events[HEADER.size + length :]
                if not mask & IN_ISDIR:
                    found.add((folders[watch] / os.fsdecode(name)).relative_to(folder).as_posix())
    finally:
        os.close(descriptor)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The bundled checkpoint in two shards, one in a folder below, with all kinds of other files beside them."""
    folder = Path(shutil.copytree(bundled_folder("tiny"), tmp_path / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "part").mkdir()
    names = sorted(weights)
    shards = {"model-1.safetensors": names[::2], "part/model-2.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: weights[name] for name in own}, folder / shard, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    adapter = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    for name in (
        "adapter_model.safetensors", "README.md", "optimizer.pt", "trainer_state.json", "training_args.bin",
        "consolidated.safetensors", "part/other.safetensors", "checkpoint-5/config.json", "photo.png", "custom.py",
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"nothing that can be loaded")
    return folder


def test_identity_covers_every_file_that_is_opened(copy: Path) -> None:
    checkpoint = resolve_checkpoint(str(copy))
    covered = {path.relative_to(copy).as_posix() for paths in loaded_files(copy).values() for path in paths}
    with opened_below(copy) as opened:
        registry.backends.get("hf").open(checkpoint, device="cpu", dtype="float32", batching=Batching(1))
        json.loads((copy / "model.safetensors.index.json").read_text())
    assert {"config.json", "model-1.safetensors", "part/model-2.safetensors", "tokenizer.json"} <= opened
    assert opened <= covered
