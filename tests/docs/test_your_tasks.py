"""Every task on the page about tasks in TOML is read, asked and scored: right answers get the full score."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import blocks

from evalkit import registry
from evalkit.api import load_task, score
from evalkit.data import bundled_root, open_data
from evalkit.described_task import DescribedTask
from evalkit.few_shot import shot_pool
from evalkit.interfaces import JudgedMetric
from evalkit.jobs import build_requests, load_job
from evalkit.scoring import check_scorable
from evalkit.task_metrics import metric_of
from evalkit.task_names import parse_tasks
from evalkit.types import ImageSize, Sample

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-tasks.md"
TASKS = [block.file for block in blocks(PAGE) if block.file.endswith((".toml", "header.jsonl"))]
EXAMPLES = 12
FULL = {"mine/objects.toml": "mAP", "mine/moments.toml": "mean_iou"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's folder: its files, the bundled images and clips that it copies, and its local copy of a data set."""
    place = tmp_path_factory.mktemp("page")
    found = blocks(PAGE)
    for block in found:
        if block.file:
            (place / block.file).parent.mkdir(parents=True, exist_ok=True)
            (place / block.file).write_text(block.text, encoding="utf-8")
    (place / "mine" / "images").mkdir()
    (place / "mine" / "clips").mkdir()
    root = bundled_root()
    for number in range(1, 5):
        shutil.copy(root / f"coco/val2014/COCO_val2014_{number:012d}.jpg", place / "mine" / "images" / f"{number}.jpg")
        shutil.copy(root / f"coco/train2014/COCO_train2014_{1000 + number:012d}.jpg", place / "mine" / "images")
        shutil.copy(root / f"charades_sta/Charades_v1_480/CLIP{number:02d}.mp4", place / "mine" / "clips")
    (program,) = [block.text for block in found if block.language == "python"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        exec(compile(program, str(PAGE), "exec"), {})
        yield place


def test_page_has_twelve_examples() -> None:
    assert len([name for name in TASKS if name.startswith("mine/")]) == EXAMPLES
    assert len(set(TASKS)) == len(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_task_is_asked_and_scored(folder: Path, name: str) -> None:
    data = f"hub:{folder}/mirror" if name.startswith("hub") else str(bundled_root())
    ((task, split),) = parse_tasks([name])
    assert isinstance(task, DescribedTask)
    judged = isinstance(metric_of(task, task.metric), JudgedMetric)
    job = load_job(task, split, open_data(data), limit=None, seed=0, judge=judged)
    check_scorable(job)
    for family in ("generic", "qwen2.5-vl"):
        questions = build_requests(job, registry.families.get(family))
        assert len(questions) == len(job.samples) > 1
        assert all(question.request.media for question in questions.values())
    for medium in {medium for question in questions.values() for medium in question.request.media}:
        assert medium.digest()
    if task.description.shots is not None:
        assert len(shot_pool(task, split, open_data(data), None).samples) > 1
    if judged:
        return
    samples = load_task(name, data=data)
    answers = {sample.id: right(sample, task) for sample in samples}
    scores = score(samples, answers, family="generic")
    assert scores.headline == FULL.get(name, scores.headline)
    assert scores.values[scores.headline] == pytest.approx(100)
    for key in task.breakdown_keys:
        assert [value for value in scores.values if f"[{key}=" in value or value.startswith(f"{scores.headline}[")]
    wrong = score(samples, dict.fromkeys(answers, "nothing of the kind"), family="generic")
    assert wrong.values[wrong.headline] == 0


def right(sample: Sample, task: DescribedTask) -> str:
    """The right answer as the generic family writes it."""
    size = sample.images[-1].size() if sample.images else (1, 1)
    spec = task.prompt_spec().of(sample)
    return registry.families.get("generic").answer(spec, sample, ImageSize(size, size))
