"""tools/tiny: what the bundled checkpoint was trained on, and the generator of the bundled data."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import questions
from scenes import Thing

from evalkit import registry
from evalkit.model.families import qwen2_5_vl as family
from evalkit.types import ImageSize, PromptSpec, Sample, TextPart

OPTIONS = ("the first image", "the second image")
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
    assert questions.POINTING_OFFICIAL == family.POINTING
    assert questions.DETECTION_OFFICIAL == family.DETECTION
    muirbench = registry.tasks.get("muirbench")
    pair = Sample.interleaved("1", ("<1>", " ", "<2>", " Which?"), references=("A",), cluster="1", options=OPTIONS)
    for (before, after), protocol in zip(questions.PAIR_PROMPTS, ("official", "lmms-eval"), strict=True):
        (message,) = family.FAMILY.prompt(muirbench.prompt_spec(protocol), pair)
        text = "".join(part.text for part in message.content if isinstance(part, TextPart))
        assert text == before + "<1> <2>" + after.format(q="Which?")


def test_training_answers_equal_family_answers() -> None:
    class Image:
        name = "image"

    size = ImageSize((200, 100), (112, 112))
    qa = questions.QA("grounding", "the left man", "", thing=Thing("red", "circle", (0.1, 0.1, 0.5, 1.0)))
    box = ((20.0, 10.0, 100.0, 100.0),)
    sample = Sample("1", (Image(),), "the left man", box, "1")  # type: ignore[arg-type]
    answer = registry.families.get("qwen2.5-vl").answer(PromptSpec("refcoco", "grounding"), sample, size)
    assert answer == questions.answer_text(qa, size.resized)
    point = replace(qa, kind="pointing")
    assert questions.answer_text(point, size.resized) == registry.families.get("qwen2.5-vl").answer(
        PromptSpec("screenspot", "pointing"), sample, size
    )
    things = (Thing("red", "circle", (0.1, 0.1, 0.5, 1.0)), Thing("blue", "star", (0.6, 0.2, 0.9, 0.5)))
    boxes = ({"label": "circle", "box": box[0]}, {"label": "star", "box": (120.0, 20.0, 180.0, 50.0)})
    for count in (2, 0):
        several = questions.QA("detection", "circle, star", "", things=things[:count])
        found = Sample("1", (Image(),), "circle, star", boxes[:count], "1")  # type: ignore[arg-type]
        answer = registry.families.get("qwen2.5-vl").answer(PromptSpec("odinw13", "detection"), found, size)
        assert answer == questions.answer_text(several, size.resized)


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
