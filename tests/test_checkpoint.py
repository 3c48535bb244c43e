from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from evalkit.checkpoint import Checkpoint, bundled_folder, expanded, fetched, resolve_checkpoint
from evalkit.errors import UserError
from evalkit.runner.plan import family_of

SHOW = """
from evalkit.checkpoint import fetched, resolve_checkpoint
found = fetched(resolve_checkpoint("Someone/Their-VL"))
print(found.name, found.location, found.model_type, found.local)
"""


def test_hub_id_is_read_from_hubs_cache(tmp_path: Path) -> None:
    """As huggingface_hub leaves it after a download, and without network."""
    repo = tmp_path / "hub" / "models--Someone--Their-VL"
    revision = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(bundled_folder("tiny"), repo / "snapshots" / revision)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(revision)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Someone/Their-VL", str(repo / "snapshots" / revision), "qwen2_5_vl", "True"]


def test_pattern_expands_in_step_order(tmp_path: Path) -> None:
    for step in (1000, 500, 20000):
        (tmp_path / f"step-{step}").mkdir()
        (tmp_path / f"step-{step}" / "config.json").touch()
    (tmp_path / "step-none").mkdir()
    pattern = str(tmp_path / "step-*")
    steps = [str(tmp_path / f"step-{step}") for step in (500, 1000, 20000)]
    assert expanded(["tiny", pattern, steps[0]]) == ["tiny", *steps]
    with pytest.raises(UserError, match="no checkpoint matches this pattern"):
        expanded([str(tmp_path / "other-*")])


@pytest.mark.parametrize(
    ("folder", "generation", "family"),
    [
        ("Qwen-VL", {"chat_format": "raw"}, "qwen-vl"),
        ("Qwen-VL-Chat", {"chat_format": "chatml"}, "qwen-vl-chat"),
        ("step-1000", {"chat_format": "chatml"}, "qwen-vl-chat"),
        ("no-chat-at-all", {"chat_format": "raw"}, "qwen-vl"),
        ("Qwen-VL-Chat", {"do_sample": True}, "qwen-vl-chat"),
        ("Qwen-VL-Chat-Int4", None, "qwen-vl-chat"),
        ("Qwen-VL", None, "qwen-vl"),
    ],
)
def test_qwen_vl_chat_is_recognized_by_its_files(
    tmp_path: Path, folder: str, generation: dict[str, object] | None, family: str
) -> None:
    """Its folder's name counts only where ``generation_config.json`` does not say."""
    where = tmp_path / folder
    where.mkdir()
    (where / "config.json").write_text('{"model_type": "qwen", "visual": {}}')
    if generation is not None:
        (where / "generation_config.json").write_text(json.dumps(generation))
    checkpoint = resolve_checkpoint(str(where), with_weights=False)
    assert family_of(checkpoint, None, Console(stderr=True)).name == family


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_generation_config_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen"}')
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=r"generation_config\.json (is not valid JSON|is not a JSON object)"):
        resolve_checkpoint(str(tmp_path), with_weights=False)


@pytest.mark.parametrize("base", ["Qwen/Qwen2.5-VL-3B-Instruct", None])
@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize("with_weights", [False, True])
def test_adapter_is_no_checkpoint(tmp_path: Path, base: str | None, with_config: bool, with_weights: bool) -> None:
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").touch()
    if with_config:
        (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    named = f" of {base}" if base else ""
    sentence = f"this is a LoRA adapter{named}, not a checkpoint; give --model {base or 'BASE'} --adapter {folder}."
    with pytest.raises(UserError, match=re.escape(sentence)):
        resolve_checkpoint(str(folder), with_weights=with_weights)
    if not with_config:
        with pytest.raises(UserError, match="this is a LoRA adapter"):
            expanded([str(tmp_path / "checkpoint-*")])


def test_checkpoint_is_named_by_what_commands_take(tmp_path: Path) -> None:
    folder = shutil.copytree(bundled_folder("tiny"), tmp_path / "out")
    assert [resolve_checkpoint(given).argument for given in ("tiny", str(folder))] == ["tiny", str(folder)]
    assert Checkpoint("Org/Name", "/cache/snapshots/0123", {}).argument == "Org/Name"


def test_processor_can_be_another_checkpoints(tmp_path: Path) -> None:
    checkpoint = resolve_checkpoint("tiny")
    for given in ("tiny-early", str(bundled_folder("tiny-early"))):
        found = fetched(replace(checkpoint, processor=given))
        assert found.processor == str(bundled_folder("tiny-early"))
