"""tools/tiny: what the bundled checkpoint was trained on, and the generator of the bundled data."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
import questions
from clip_questions import (
    CHOICE_VIDEO_PROMPTS,
    TEMPORAL_PROMPTS,
    clip_questions,
    event_cells,
    span_text,
    temporal_questions,
)
from clips import DIRECTIONS, RATE, Clip, draw_clip, sampled_times
from frames import drawn_pairs
from scenes import Thing
from targets import CELLS, SIDE

from evalkit import registry
from evalkit.model.families import qwen2_5_vl as family
from evalkit.types import ImageSize, PromptSpec, Sample, TextPart, VideoGeometry, VideoInfo
from evalkit.video import video_sampling

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
    for (before, after), protocol in zip(questions.PAIR_PROMPTS[:2], ("official", "lmms-eval"), strict=True):
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


def test_clip_prompts_equal_family_prompts() -> None:
    before, after = TEMPORAL_PROMPTS[0]
    assert before + after == family.TEMPORAL
    assert span_text((1.5, 3.0)) == family.FAMILY.spelled_span((1.5, 3.0))
    assert "".join(CHOICE_VIDEO_PROMPTS[2]) == family.CHOICE


def test_answers_about_clips_follow_from_their_frames() -> None:
    rng = random.Random(3)
    topics = set()
    for _ in range(60):
        clip = draw_clip(rng, held_out=True)
        for qa in clip_questions(clip, rng):
            topics.add(qa.topic)
            assert len(set(qa.options)) == 4
            assert qa.answer in qa.options
            assert qa.answer == _seen(clip, qa.question), qa
        for qa in temporal_questions(clip):
            assert qa.span is not None
            assert 0 <= qa.span[0] < qa.span[1] <= clip.seconds
    assert len(topics) == 7


def _seen(clip: Clip, question: str) -> str:
    """The answer, from the scenes at the times of the file's frames."""
    times = [number / RATE for number in range(clip.frames)]
    scenes = [{thing.shape: thing for thing in clip.at(time).things} for time in times]
    words = question.rstrip("?").split()
    moved = {
        shape: [s[shape].box for s in scenes if shape in s]
        for shape in {shape for s in scenes for shape in s}
    }  # fmt: skip
    moving = [shape for shape, boxes in moved.items() if len(set(boxes)) > 1]
    appeared = {shape: next(t for t, s in zip(times, scenes, strict=True) if shape in s) for shape in moved}
    if question.startswith("In which direction"):
        boxes = moved[words[-2]]
        dx, dy = (boxes[-1][axis] - boxes[0][axis] for axis in (0, 1))
        return max(DIRECTIONS, key=lambda name: dx * DIRECTIONS[name][0] + dy * DIRECTIONS[name][1])
    if question == "Which shape moves?":
        return moving[0]
    if question.startswith("What color"):
        return (scenes[0] if words[-1] == "start" else scenes[-1])[words[4]].color
    if question == "Which shape changes its color?":
        return next(shape for shape in moved if len({s[shape].color for s in scenes if shape in s}) > 1)
    if question == "How many shapes move?":
        return str(len(moving))
    if question.startswith("How many shapes are there"):
        return str(len(scenes[0] if words[-1] == "start" else scenes[-1]))
    if question.startswith("When does"):
        return f"at {appeared[words[-2]]:.0f} s"
    order = sorted(appeared, key=lambda shape: appeared[shape])
    return order[0] if words[-1] == "first" else order[-1]


def test_decisive_tokens_are_those_of_an_event() -> None:
    rng = random.Random(4)
    found = 0
    for _ in range(60):
        clip = draw_clip(rng, held_out=True)
        pairs = drawn_pairs(clip)
        for qa in temporal_questions(clip):
            assert qa.actor is not None
            color = qa.actor.color if qa.actor.event == "recolored" else qa.actor.thing.color
            for cells in event_cells(clip, qa):
                for pair, cell in (divmod(token, CELLS) for token in cells):
                    y, x = (int(part) / SIDE + 0.5 / SIDE for part in divmod(cell, SIDE))
                    things = [thing for scene in pairs[pair] for thing in scene.things if thing.color == color]
                    assert any(
                        t.box[0] - 0.5 / SIDE < x < t.box[2] + 0.5 / SIDE
                        and t.box[1] - 0.5 / SIDE < y < t.box[3] + 0.5 / SIDE
                        and t.shape == qa.actor.thing.shape
                        for t in things
                    )
                    found += 1
    assert found > 200


def test_sampled_times_are_those_of_the_rule() -> None:
    for seconds in (2, 3, 4, 5, 6):
        clip = draw_clip(random.Random(seconds), held_out=True, seconds=seconds)
        info = VideoInfo([number / RATE for number in range(clip.frames)], float(RATE), (112, 112))
        found = video_sampling("qwen2.5-report").select(info, VideoGeometry(min_pixels=56 * 56, max_pixels=120 * 128))
        assert (found.size, list(found.timestamps)) == ((112, 112), sampled_times(clip))


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "evaluate_clips.py"])
def test_scripts_start(script: str) -> None:
    assert "usage:" in _run(script, "--help")


def test_data_equals_bundled_data(tmp_path: Path) -> None:
    _run("data.py", "--out", str(tmp_path / "tiny"))
    written, bundled = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "tiny", ROOT / "tasks" / "tiny")
    )
    assert set(written) == {name for name in bundled if not name.endswith(".md")}
    made = [name for name in written if Path(name).suffix in (".mp4", ".parquet")]  # their writers' versions differ
    assert [name for name in written if name not in made and written[name] != bundled[name]] == []
    for name in made:
        _same_content(tmp_path / "tiny" / name, ROOT / "tasks" / "tiny" / name)


def _same_content(written: Path, bundled: Path) -> None:
    if written.suffix == ".parquet":
        assert pq.read_table(written).to_pylist() == pq.read_table(bundled).to_pylist()
        return
    pixels = []
    for path in (written, bundled):
        with av.open(str(path)) as container:
            pixels.append([frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)])
    assert len(pixels[0]) == len(pixels[1])
    for ours, theirs in zip(*pixels, strict=True):
        assert abs(ours - theirs).mean() < 2


@pytest.mark.slow
def test_evaluate_finds_bundled_checkpoints_scores() -> None:
    lines = _run("evaluate.py", str(ROOT / "model" / "tiny" / "weights" / "tiny"), "--count", "40").splitlines()
    scores = {line[2:16].strip(): float(line[16:22]) for line in lines[1:]}
    assert scores["grounding"] > 85
    assert scores["page"] > 90
    assert scores["caption"] > 60
