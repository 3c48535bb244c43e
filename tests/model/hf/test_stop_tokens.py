"""Answers end at every token that the tokenizer, the chat template or a configuration names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.types import Batching, Decoding, PromptSpec, Request

TEXT_END, TURN_END = 553, 555  # <|endoftext|>, <|im_end|>


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    task, family = registry.tasks.get("vqav2"), registry.families.get("qwen2.5-vl")
    samples = list(task.load(open_data("tiny"), "val"))[:8]
    return [Request(s.id, family.prompt(PromptSpec(task.name, task.kind), s), Decoding(8)) for s in samples]


def naming(folder: Path, *, generation: int | list[int], tokenizer: str, config: int | None) -> Path:
    """A copy of the bundled checkpoint whose files name these tokens."""
    shutil.copytree(bundled_folder("tiny"), folder)
    for name, changed in (
        ("generation_config.json", {"eos_token_id": generation}),
        ("tokenizer_config.json", {"eos_token": tokenizer}),
    ):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    content = json.loads((folder / "config.json").read_text())
    content["text_config"]["eos_token_id"] = config
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("generation", "tokenizer", "config", "exact"),
    [
        ([555, 553], "<|im_end|>", 555, False),
        (TEXT_END, "<|im_end|>", None, False),
        (TEXT_END, "<|im_end|>", None, True),
        (TEXT_END, "<|endoftext|>", TURN_END, False),
        (TEXT_END, "<|endoftext|>", TEXT_END, False),  # only the template has it
        (TURN_END, "<|endoftext|>", None, False),
    ],
)
def test_all_files_count(
    tiny_backend: HFBackend,
    requests: list[Request],
    tmp_path: Path,
    generation: int | list[int],
    tokenizer: str,
    config: int | None,
    exact: bool,
) -> None:
    folder = naming(tmp_path / "x", generation=generation, tokenizer=tokenizer, config=config)
    batching = Batching(None if exact else 4, exact=exact)
    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="cpu", dtype="float32", batching=batching)
    assert isinstance(backend, HFBackend)
    assert set(backend.turn_stops) == {TEXT_END, TURN_END}
    found, expected = ({r.id: (r.text, r.finish) for r in b.generate(requests)} for b in (backend, tiny_backend))
    assert found == expected
    assert {finish for _, finish in found.values()} == {"stop"}


def test_ids_of_configurations_class_that_are_ordinary_tokens_do_not_count(tmp_path: Path) -> None:
    """As the default 2 of Llama's configuration in another vocabulary."""
    folder = naming(tmp_path / "x", generation=TURN_END, tokenizer="<|im_end|>", config=2)
    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="cpu", dtype="float32", batching=Batching(1))
    assert isinstance(backend, HFBackend)
    assert backend.stops == (TURN_END,)
