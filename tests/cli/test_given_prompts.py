"""``--system``, ``--prompt`` and ``--chat-template`` of ``evalkit run``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoint import bundled_folder

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
TEMPLATE = bundled_folder("tiny") / "chat_template.jinja"


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def signature(folder: Path) -> str:
    return json.loads((folder / "scores.json").read_text())["results"][0]["signature"]


def test_prompts_are_part_of_identity_signature_and_record(evalkit: Evalkit, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Look. {question}\n")
    (tmp_path / "chat.jinja").write_text(TEMPLATE.read_text().replace("assistant\\n", "assistant\\nSo: "))
    common = ("run", "--tasks", "vqav2", "--limit", "3")
    given = {
        "system": ("--system", "Be brief."),
        "prompt": ("--prompt", "vqav2=p.txt"),
        "chat_template": ("--chat-template", "chat.jinja"),
    }
    assert evalkit(*common, cwd=tmp_path).returncode == 0
    before = next((tmp_path / "runs").iterdir())
    for name, options in given.items():
        done = evalkit(*common, *options, "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "runs" / name
        assert f"|{name}:" in signature(folder)
        assert f"|{name}:" not in signature(before)
        assert manifest(folder)["identity"] != manifest(before)["identity"] or name == "prompt"
        refused = evalkit("compare", str(before), str(folder), cwd=tmp_path)
        assert f"the protocols differ ({name} none and" in " ".join(refused.stdout.split() + refused.stderr.split())
        again = evalkit("rescore", str(folder), cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert f"|{name}:" in signature(folder)
    (tmp_path / "p.txt").unlink()  # the manifest has the text
    shown = evalkit("show", "runs/prompt", cwd=tmp_path).stdout
    assert "Look. " in shown
    assert "today's prompt" not in shown
    assert "system: Be brief." in evalkit("show", "runs/system", cwd=tmp_path).stdout
    assert "today's prompt" not in evalkit("show", "runs/system", cwd=tmp_path).stdout


def test_dry_run_shows_what_was_given(evalkit: Evalkit, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Look. {question}\n")
    (tmp_path / "chat.jinja").write_text(TEMPLATE.read_text().replace("assistant\\n", "assistant\\nSo: "))
    (tmp_path / "evalkit.toml").write_text('system = "Be brief."\nprompt = ["vqav2=p.txt", "docvqa=p.txt"]\n')
    done = evalkit("run", "-t", "vqav2", "--limit", "1", "--dry-run", "--chat-template", "chat.jinja", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in (
        "system turn ",
        ": Be brief.",
        "prompt ",
        ": Look. {question}",
        "chat template ",
        "│ So: ",
        "│ Be brief.",
    ):
        assert part in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--prompt", "docvqa=p.txt"), "--prompt docvqa=…: docvqa is not a task of this run (vqav2)."),
        (("--prompt", "vqav2=none.txt"), "--prompt vqav2=none.txt: there is no such file."),
        (("--prompt", "vqav2=p.txt", "--prompt", "vqav2=p.txt"), "vqav2 has two prompts; give one for each task."),
        (("--chat-template", "text.jinja"), "--chat-template: the checkpoint's chat template has no place for images"),
        (
            ("--chat-template", "raises.jinja"),
            "--chat-template: the checkpoint's chat template rejects this conversation",
        ),
        (
            ("--system", "s", "--model", "tiny", "--family", "paligemma"),
            "--system: prompts of the family paligemma are plain text",
        ),
    ],
)
def test_mistakes_are_one_sentence(evalkit: Evalkit, tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    (tmp_path / "p.txt").write_text("{q}")
    (tmp_path / "text.jinja").write_text("{{ messages }}")
    (tmp_path / "raises.jinja").write_text("{{ raise_exception('no') }}")
    done = evalkit("run", "-t", "vqav2", "--limit", "1", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_prompt_that_leaves_out_images(evalkit: Evalkit, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Which image is it?")
    done = evalkit("run", "-t", "muirbench", "--limit", "1", "--prompt", "muirbench=p.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert "--prompt muirbench=…: it leaves out images of sample" in " ".join(done.stderr.split())
