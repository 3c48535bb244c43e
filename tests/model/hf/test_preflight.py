"""Checkpoints that cannot answer are refused before a run; ``verify`` finds the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from evalkit import registry
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.hf.loading import load_model
from evalkit.model.hf.preflight import check_chat_template
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.runner.execute import execute
from evalkit.settings import effective
from evalkit.types import Batching, Check, Decoding, PromptSpec, Request

TURN = "<|im_start|>' + message['role'] + '\\n' + "
TEXT_TEMPLATES = {
    "content as text": "{% for message in messages %}{{ '" + TURN + "message['content'] + '<|im_end|>\\n' }}{% endfor %}",
    "text parts only": "{% for message in messages %}{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endfor %}{% endfor %}",
    "content as Python writes it": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    "another model's placeholder": "{% for message in messages %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %}",
}  # fmt: skip
SENTENCE = "the checkpoint's chat template has no place for images"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt"))


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    task, family = registry.tasks.get("vqav2"), registry.families.get("qwen2.5-vl")
    samples = list(task.load(open_data("tiny"), "val"))[:6]
    return [Request(s.id, family.prompt(PromptSpec(task.name, task.kind), s), Decoding(8)) for s in samples]


def verified(folder: Path, *, forward: bool = False) -> dict[str, Check]:
    checkpoint = resolve_checkpoint(str(folder), with_weights=False)
    return {check.name: check for check in BACKEND.verify(checkpoint, device="cpu", dtype="auto", forward=forward)}


def run(folder: Path, **more: Any) -> None:
    given = {"tasks": ["vqav2"], "model": [str(folder)], "data": "tiny", "limit": 2, "out": str(folder.parent / "runs")}
    execute(effective(given | more, folder.parent), console=Console(quiet=True))


@pytest.mark.parametrize("template", TEXT_TEMPLATES.values(), ids=TEXT_TEMPLATES)
def test_templates_without_place_for_images(copy: Path, template: str) -> None:
    (copy / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=f"^--model ckpt: {SENTENCE}"):
        run(copy)
    assert not (copy.parent / "runs").exists()
    checks = verified(copy)
    assert checks["processor"].ok is False
    assert SENTENCE in checks["processor"].finding


def test_dry_run_refuses_it_too(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text(TEXT_TEMPLATES["content as text"])
    with pytest.raises(UserError, match=SENTENCE):
        execute(effective({"tasks": ["vqav2"], "model": [str(copy)], "data": "tiny"}, copy.parent), dry=True)


def test_prompts_that_use_no_template_do_not_need_one(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text(TEXT_TEMPLATES["text parts only"])
    run(copy, family="qwen-vl", choice="generate")
    assert (copy.parent / "runs").is_dir()


def test_checkpoint_without_template(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="the checkpoint has no chat template"):
        run(copy)
    run(copy, processor="tiny")


@pytest.mark.parametrize("named", [False, True], ids=["one", "several by name"])
def test_template_in_tokenizers_configuration(
    tiny_backend: HFBackend, requests: list[Request], copy: Path, named: bool
) -> None:
    template: Any = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    if named:
        template = [{"name": "default", "template": template}, {"name": "rag", "template": "{{ messages }}"}]
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    backend = BACKEND.open(resolve_checkpoint(str(copy)), device="cpu", dtype="float32", batching=Batching(4))
    found, expected = ({r.id: (r.text, r.finish) for r in b.generate(requests)} for b in (backend, tiny_backend))
    assert found == expected
    assert all(check.ok for check in verified(copy, forward=True).values())


def _more_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    added = dict(content["added_tokens"][-1])
    content["added_tokens"].append({**added, "id": 567, "content": "<|extra|>"})
    path.write_text(json.dumps(content))


def test_tokens_without_embeddings(copy: Path) -> None:
    _more_tokens(copy)
    sentence = "the tokenizer has 568 tokens, but the model has embeddings of 567 ('<|extra|>' has none)"
    with pytest.raises(UserError) as raised:
        run(copy)
    assert str(raised.value).startswith(f"--model ckpt: {sentence}; save the checkpoint after resize_token_embeddings")
    assert sentence in verified(copy)["processor"].finding
    run(copy, processor="tiny")


def test_tokens_without_embeddings_in_memory(copy: Path) -> None:
    _more_tokens(copy)
    checkpoint = resolve_checkpoint(str(copy))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype="float32")
    with pytest.raises(UserError, match="568 tokens"), BACKEND.wrap(model, load_processor(checkpoint)):
        pass


def _at_top(config: dict[str, Any], name: str) -> None:
    config["_attn_implementation"] = name


def _in_parts(config: dict[str, Any], name: str) -> None:
    config["text_config"]["_attn_implementation"] = name
    config["vision_config"]["attn_implementation"] = name


@pytest.mark.parametrize(
    ("where", "name"),
    [(_at_top, "flash_attention_2"), (_in_parts, "flash_attention_3"), (_at_top, "kernels-community/flash-attn2")],
)
def test_attention_that_cannot_be_used(
    tiny_backend: HFBackend,
    requests: list[Request],
    copy: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    where: Callable[[dict[str, Any], str], None],
) -> None:
    config = json.loads((copy / "config.json").read_text())
    where(config, name)
    (copy / "config.json").write_text(json.dumps(config))
    backend = BACKEND.open(resolve_checkpoint(str(copy)), device="cpu", dtype="float32", batching=Batching(4))
    sentence = (
        f"ckpt: config.json asks for {name}, which cannot be used here (it needs a CUDA GPU); sdpa is used instead"
    )
    assert sentence in caplog.messages
    found, expected = ({r.id: (r.text, r.finish) for r in b.generate(requests)} for b in (backend, tiny_backend))
    assert found == expected
    assert all(check.ok for check in verified(copy, forward=True).values())


def test_bundled_checkpoint_passes() -> None:
    check_chat_template(Inputs(load_processor(resolve_checkpoint("tiny"))))


FILES = ["tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"]


@pytest.mark.parametrize("lacking", [FILES, FILES[:2], FILES[2:]], ids=["all", "tokenizer", "image processor"])
def test_checkpoint_without_processor_files(
    tiny_backend: HFBackend, requests: list[Request], copy: Path, lacking: list[str]
) -> None:
    """As training code leaves it that saves the model alone."""
    for name in lacking:
        (copy / name).unlink()
    with pytest.raises(UserError, match="^--model ckpt: there is no (tokenizer|image processor) .*--processor.$"):
        run(copy)
    assert "--processor" in verified(copy)["processor"].finding
    run(copy, processor="tiny")
    manifest = json.loads(next((copy.parent / "runs").glob("*/manifest.json")).read_text())
    run(bundled_folder("tiny"), out=str(copy.parent / "own"))
    own = json.loads(next((copy.parent / "own").glob("*/manifest.json")).read_text())
    assert manifest["parts"] == own["parts"]
