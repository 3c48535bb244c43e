"""The context of a run that its folder does not hold: complete prompts, with their few-shot examples."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.data import bundled_root, open_data
from evalkit.few_shot import ShotSelector, shot_pool, with_answers
from evalkit.interfaces import Family
from evalkit.jobs import build_requests, load_job
from evalkit.results.samples.context import IMAGE, context_of
from evalkit.results.samples.join import split_of, with_prompts
from evalkit.results.samples.view import SplitView
from evalkit.results.store.journal import appending
from evalkit.results.store.manifest import Manifest, SplitRecord
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.store.scores import write_results
from evalkit.scoring import score_job
from evalkit.task_names import parse_tasks
from evalkit.types import Response, Sample, Shot

FAMILY = "qwen2.5-vl"


def few_shot_run(folder: Path, name: str, family: Family) -> ScoredRun:
    """A run over ``name`` with two few-shot examples each, its data in ``folder/data``; every answer right."""
    shutil.copytree(bundled_root(), folder / "data")
    data = open_data(str(folder / "data"))
    ((task, split),) = parse_tasks([name])
    job = load_job(task, split, data, limit=6, seed=0)
    selector = ShotSelector(shot_pool(task, split, data, None), 2, "random", 0)

    def shots(sample: Sample) -> tuple[Shot, ...]:
        return with_answers(selector.select(sample), job.prompt_spec, family, family.image_size)

    run = RunFolder.create(folder, "few")
    records = []
    for question in build_requests(job, family, shots).values():
        image_sizes = tuple(family.image_size(image.size()) for image in question.request.images)
        text = family.answer(job.prompt_spec, question.sample, image_sizes[-1])
        prediction = family.parse(job.prompt_spec, text, image_sizes)
        response = Response(question.sample.id, text, image_sizes=image_sizes, prompt_tokens=100)
        records.append(question.answered(response, prediction, tuple(i.digest() for i in question.request.images)))
    with appending(run.journal_path(task.name, split)) as journal:
        for record in records:
            journal.append(record)
    write_results(run, [score_job(job, records)], {"run": "few", "model": "m"})
    settings = {"data": "data", "protocol": "official", "choice": "generate", "shots_from": None, "kind": None}
    splits = {name: SplitRecord(reference=name)}
    run.write_manifest(
        Manifest(settings=settings, model={"name": "m"}, cwd=str(folder), splits=splits, family={"name": FAMILY})
    )
    return ScoredRun.open(run.path)


def shown_of(run: ScoredRun, name: str) -> SplitView:
    return split_of([run], name, context_of([run], name, None))


@pytest.mark.parametrize("name", ["vqav2/val", "refcoco/val", "docvqa/val"])
def test_few_shot_prompt_is_shown_verbatim(tmp_path: Path, name: str) -> None:
    family = registry.families.get(FAMILY)
    run = few_shot_run(tmp_path, name, family)
    split = shown_of(run, name)
    assert len(split.samples) == 6
    known = context_of([run], name, None)
    bare = split_of([run], name, type(known)(known.kind, known.samples))
    for shown, plain in zip(split.samples, bare.samples, strict=True):
        (answer,) = shown.answers
        assert answer is not None
        assert len(answer.shots) == 2
        assert answer.prompt_has_shots
        assert answer.exact is True, "as the digest in the journal says"
        asked = "".join(text for _, text in answer.prompt)
        assert asked.count(IMAGE) == 3
        assert asked.count(shown.question) >= 1
        assert [role for role, _ in answer.prompt] == ["user", "assistant"] * 2 + ["user"]
        assert plain.answers[0] is not None
        assert plain.answers[0].prompt == ()
        assert with_prompts(plain, known) == shown, "asked for later, it is the same"


def test_missing_examples_are_reported(tmp_path: Path) -> None:
    run = few_shot_run(tmp_path, "vqav2/val", registry.families.get(FAMILY))
    for file in (tmp_path / "data" / "vqav2").glob("*train2014*"):
        file.unlink()
    for shown in shown_of(run, "vqav2/val").samples:
        (answer,) = shown.answers
        assert answer is not None
        assert (answer.prompt_has_shots, answer.exact, len(answer.prompt)) == (False, None, 1)
