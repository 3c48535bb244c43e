"""Files of a checkpoint that were changed at random: refused, by ``verify`` too, or another model that says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evalkit.checkpoint import bundled_folder

from ..mutations import Mutation, json_value, safetensors, text
from .accepted import other_model
from .harness import BOTH, Evalkit, Failures, called, share_of

INDEX = "model.safetensors.index.json"
FILES: dict[str, tuple[Mutation, int]] = {
    "config.json": (json_value, 40),
    "generation_config.json": (json_value, 25),
    "tokenizer.json": (json_value, 30),
    "tokenizer_config.json": (json_value, 25),
    "processor_config.json": (json_value, 40),
    "chat_template.jinja": (text, 25),
    "model-00001-of-00002.safetensors": (safetensors, 40),
    INDEX: (json_value, 25),
    "lora/adapter_config.json": (json_value, 30),
    "lora/adapter_model.safetensors": (safetensors, 20),
}
"""How each is changed, and its share of 5,000: loading a model takes a second."""


@pytest.fixture(scope="module")
def made(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundled checkpoint in two shards, an adapter, questions, and a run of both, R and lora."""
    import peft

    from evalkit.checkpoint import resolve_checkpoint
    from evalkit.model.hf.loading import load_model

    made = tmp_path_factory.mktemp("checkpoint") / "made"
    checkpoint = Path(shutil.copytree(bundled_folder("tiny"), made / "checkpoint"))
    state = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    where = {key: f"model-0000{place % 2 + 1}-of-00002.safetensors" for place, key in enumerate(state)}
    for name in set(where.values()):
        save_file({key: state[key] for key in state if where[key] == name}, checkpoint / name, {"format": "pt"})
    (checkpoint / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    torch.manual_seed(0)
    model = load_model(resolve_checkpoint(str(checkpoint)), device=torch.device("cpu"), dtype="float32")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    wrapped.save_pretrained(checkpoint / "lora")
    for number, color in enumerate(("red", "green", "blue")):
        Image.new("RGB", (56, 56), color).save(made / f"{number}.png")
    rows = [{"id": str(n), "image": f"{n}.png", "question": "What color is it?", "answers": ["red"]} for n in range(3)]
    (made / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, options in (("R", ()), ("lora", ADAPTER)):
        done = evalkit(*RUN_CHECKPOINT, name, *options, cwd=made)
        assert done.returncode == 0, done.stderr
    return made


ADAPTER = ("--adapter", "checkpoint/lora")
RUN_CHECKPOINT = ("run", "-t", "mine.jsonl", "-m", "checkpoint", "--device", "cpu", "--name")
VERIFY = ("verify", "checkpoint", "--device", "cpu")


@BOTH
@pytest.mark.parametrize("file", FILES)
def test_changed_checkpoint_is_refused_or_another_model(
    evalkit: Evalkit, made: Path, tmp_path: Path, file: str, total: int
) -> None:
    mutation, share = FILES[file]
    whole = (made / "checkpoint" / file).read_bytes()
    options, before = (ADAPTER, "lora") if file.startswith("lora/") else ((), "R")
    random, failures = Random(file), Failures()
    folder = tmp_path / "copy"
    for number in range(share_of(share, total)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        (folder / "checkpoint" / file).write_bytes(mutation(whole, random))
        with failures.collecting(f"{file} {number}", folder) as ended:
            verified = called(evalkit, *VERIFY, *options, cwd=folder)
            ended.append(verified)
            done = called(evalkit, *RUN_CHECKPOINT, "N", *options, cwd=folder)
            ended.append(done)
            assert verified.returncode != 0 or done.returncode == 0, "verify passes what run cannot use"
            if done.returncode == 0:
                other_model(made / "runs" / before, folder / "runs" / "N")
    failures.show()
