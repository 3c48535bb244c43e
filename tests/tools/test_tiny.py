"""tools/tiny: what the bundled checkpoint was trained on, and the generator of the bundled data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import questions
from scenes import Thing

from evalkit import registry
from evalkit.model.families import qwen2_5_vl as family
from evalkit.types import ImageSize, PromptSpec, Sample

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "tiny"


def _run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(TOOLS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_prompts_equal_family_prompts() -> None:
    """A prompt changed in the family alone would be one that the checkpoint was not trained on."""
    assert questions.VQA_PROMPTS[0] == family.VQA
    assert questions.CHOICE_PROMPTS[0] == family.CHOICE
    assert questions.CAPTION_PROMPTS[0] == family.CAPTION
    assert questions.GROUNDING_OFFICIAL == family.GROUNDING


def test_training_answers_equal_family_answers() -> None:
    class Image:
        name = "image"

    size = ImageSize((200, 100), (112, 112))
    qa = questions.QA("grounding", "the left man", "", thing=Thing("red", "circle", (0.1, 0.1, 0.5, 1.0)))
    box = ((20.0, 10.0, 100.0, 100.0),)
    sample = Sample("1", (Image(),), "the left man", box, "1")  # type: ignore[arg-type]
    answer = registry.families.get("qwen2.5-vl").answer(PromptSpec("refcoco", "grounding"), sample, size)
    assert answer == questions.answer_text(qa, size.resized)


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_scripts_start(script: str) -> None:
    assert "usage:" in _run(script, "--help")


def test_data_equals_bundled_data(tmp_path: Path) -> None:
    _run("data.py", "--out", str(tmp_path / "tiny"))
    written, bundled = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "tiny", ROOT / "tasks" / "tiny")
    )
    assert set(written) == {name for name in bundled if not name.endswith(".md")}
    assert [name for name in written if written[name] != bundled[name]] == []


@pytest.mark.slow
def test_evaluate_finds_bundled_checkpoints_scores() -> None:
    lines = _run("evaluate.py", str(ROOT / "model" / "tiny" / "weights" / "tiny"), "--count", "40").splitlines()
    scores = {line[2:16].strip(): float(line[16:22]) for line in lines[1:]}
    assert scores["grounding"] > 85
    assert scores["page"] > 90
    assert scores["caption"] > 60
