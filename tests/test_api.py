from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import evalkit
from evalkit import load_task, score, scorer
from evalkit.errors import UserError
from evalkit.tasks.vqa.vqav2 import TASK as VQAV2
from evalkit.types import Scores

HEAVY = ("torch", "transformers", "datasets", "numpy", "PIL", "pycocoevalcap")


# ---------------------------------------------------------------------------------------------------------- the module


def test_public_names_are_imported_lazily() -> None:
    code = (
        "import sys, evalkit\n"
        "assert 'evalkit.api' not in sys.modules\n"
        "assert {'evaluate', 'load_task', 'score', 'scorer', '__version__'} <= set(dir(evalkit))\n"
        "from evalkit import load_task, score, scorer\n"
        "samples = load_task('vqav2/val', data='tiny')\n"
        "score(samples, {s.id: 'yes' for s in samples})\n"
        "print(sorted(set(sys.modules) & set(sys.argv[1:])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_unknown_attribute_raises() -> None:
    with pytest.raises(AttributeError, match="module 'evalkit' has no attribute 'train'"):
        _ = evalkit.train


# -------------------------------------------------------------------------------------------------------------- loading


def test_samples_carry_their_task(tmp_path: Path) -> None:
    samples = load_task("refcoco/testA", data="tiny")
    assert (samples.task.name, samples.split, samples.task.kind) == ("refcoco", "testA", "grounding")
    assert len(samples) > 50
    assert samples[0].images[0].load().mode == "RGB"
    assert load_task("vqav2", data="tiny").split == "val", "one default split needs no name"
    assert {s.id for s in load_task("vqav2", data="tiny", limit=5)} < {s.id for s in load_task("vqav2", data="tiny")}


def test_samples_are_chosen_as_on_the_command_line(tmp_path: Path) -> None:
    from evalkit.evaluator import Evaluation

    numbers = load_task("vqav2", data="tiny", where='answer_type == "number"')
    assert 0 < len(numbers) < 324
    assert {sample.meta["answer_type"] for sample in numbers} == {"number"}
    tenth = load_task("vqav2", data="tiny", where='answer_type == "number"', limit="10%")
    assert len(tenth) == -(-len(numbers) // 10)
    ids = [sample.id for sample in tenth]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    assert [sample.id for sample in load_task("vqav2", data="tiny", ids=ids)] == ids
    assert [sample.id for sample in load_task("vqav2", data="tiny", ids=tmp_path / "ids.txt")] == ids
    (job,) = Evaluation("vqav2", data="tiny", ids=ids, limit=1).jobs
    assert len(job.samples) == 1
    assert job.samples[0].id in ids
    for options, message in (
        ({"ids": [*ids, "none"]}, r"--ids given: 1 id is not in vqav2/val \(none\)"),
        ({"ids": []}, "ids: give the name of a file, or ids"),
        ({"where": "answer_typ == 1"}, "vqav2/val: --where answer_typ == 1"),
        ({"limit": "much"}, "limit much: give a number of samples, or a percentage such as 5%"),
    ):
        with pytest.raises(UserError, match=message):
            Evaluation("vqav2", data="tiny", **options)  # type: ignore[arg-type]


def test_data_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVALKIT_DATA", "tiny")
    assert len(load_task("vqav2/val")) == len(load_task("vqav2/val", data="tiny"))
    with pytest.raises(UserError, match=f"there is no folder {tmp_path}/none"):
        load_task("vqav2/val", data=tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refcoco", "refcoco has several splits; load one of refcoco/val, refcoco/testA, refcoco/testB"),
        ("refcoco/test", "task refcoco has no split 'test'"),
        ("refcco", "unknown task 'refcco': did you mean"),
        ("none.jsonl", "none.jsonl: the file cannot be read"),
    ],
)
def test_unknown_name_is_reported(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(name, data="tiny")


def test_tasks_to_evaluate_take_commas_as_on_command_line() -> None:
    from evalkit.evaluator import Evaluation

    for tasks in ("refcoco/val,vqav2", ["refcoco/val", "vqav2"], ["refcoco/val,vqav2"]):
        assert [job.name for job in Evaluation(tasks, data="tiny", limit=1).jobs] == ["refcoco/val", "vqav2/val"]


def test_custom_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    row = {"id": 1, "image": "a.png", "question": "?", "answers": ["12 May"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    name = str(tmp_path / "mine.jsonl")
    assert score(load_task(name, data="tiny"), {1: "12 may"}).values == {"accuracy": 100.0}
    samples = load_task(name, data="tiny", kind="document")
    assert score(samples, {1: "12 mai"}).values["anls"] == pytest.approx(100 * (1 - 1 / 6))


# -------------------------------------------------------------------------------------------------------------- scoring


def test_score_equals_the_command_line(tmp_path: Path) -> None:
    samples = load_task("vqav2/val", data="tiny")
    answers = {s.id: s.references[n % 10] for n, s in enumerate(samples)}
    scores = score("vqav2/val", answers, data="tiny")
    assert scores == score(samples, {int(key): text for key, text in answers.items()})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"id": k, "text": v}) + "\n" for k, v in answers.items()))
    command = ["score", "-t", "vqav2/val", "--data", "tiny", "-p", "p.jsonl", "--name", "x"]
    code = "from evalkit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]
    assert row["values"] == dict(scores.values)
    assert 50 < row["value"] < 100


def test_score_by_a_rule() -> None:
    """As ``evalkit score --rule``: the rule decides what an answer says, and the signature names it."""
    samples = load_task("mmbench_en/dev", data="tiny", limit=4)
    answers = dict.fromkeys((s.id for s in samples), "Maybe A, or the other one")
    own, other = score(samples, answers), score(samples, answers, rule="vlmevalkit@2024")
    assert "letters:vlmevalkit-2024|" in other.signature
    assert "letters:vlmevalkit-2024|" not in own.signature
    with pytest.raises(UserError, match="mmbench_en: there is no scoring rule 'mine'"):
        score(samples, answers, rule="mine")


def test_boxes_need_a_family() -> None:
    samples = load_task("refcoco/val", data="tiny", limit=8)
    raw = {s.id: '{"bbox_2d": [0, 0, 56, 56]}' for s in samples}
    with pytest.raises(UserError, match="refcoco asks for boxes, and a text alone does not say"):
        score(samples, raw)
    scores = score(samples, raw, family="qwen2.5-vl", min_pixels=3136, max_pixels=3136)
    assert scores.values["parse_rate"] == 100.0
    assert scores.values["mean_iou"] != score(samples, raw, family="qwen2.5-vl").values["mean_iou"]
    assert score(samples, dict.fromkeys(raw, "there"), family="qwen2.5-vl").values["parse_rate"] == 0


def test_answers_must_fit_samples() -> None:
    samples = load_task("vqav2/val", data="tiny", limit=3)
    ids = [s.id for s in samples]
    with pytest.raises(UserError, match=rf"answers does not fit vqav2/val \(3 samples\): 2 samples without .*{ids[1]}"):
        score(samples, {ids[0]: "yes"})
    right = {ids[0]: samples[0].references[0]}
    part = score(samples, right, allow_missing=True)
    assert list(part.per_sample) == ids
    assert part.values["accuracy"] == pytest.approx(100 / 3)
    part = score(samples, right, skip_missing=True)
    assert list(part.per_sample) == ids[:1]
    assert part.values["accuracy"] == 100
    assert score(samples, {**right, "x": "yes"}, skip_missing=True).values == part.values
    with pytest.raises(UserError, match="1 answer to an unknown sample .* none of the ids is in this split"):
        score(samples, {"x": "yes"}, allow_missing=True)
    both = {ids[0]: "yes", int(ids[0]): "no", ids[1]: "", ids[2]: ""}
    with pytest.raises(UserError, match=rf"1 id given more than once \({ids[0]} in entry 1 and entry 2\)"):
        score(samples, both)
    with pytest.raises(UserError, match=rf"the answer to {ids[0]} is None; expected a text or a number"):
        score(samples, {ids[0]: None})
    with pytest.raises(UserError, match="the id 1.5: expected a string or an integer"):
        score(samples, {1.5: ""})  # type: ignore[dict-item]


def test_numbers_and_boxes_are_answers() -> None:
    counted = load_task("vqav2/val", data="tiny")
    numbers = {s.id: int(s.references[0]) if s.references[0].isdigit() else s.references[0] for s in counted}
    assert int in set(map(type, numbers.values()))
    assert score(counted, numbers).values == score(counted, {key: str(value) for key, value in numbers.items()}).values
    boxes = load_task("refcoco/val", data="tiny")
    right = {s.id: list(s.references[0]) for s in boxes}
    assert score(boxes, right, boxes="pixels").values["acc@0.5"] == 100.0
    assert score(boxes, right, boxes="0-1000").values["acc@0.5"] < 50


def test_image_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"torn")
    (tmp_path / "mine.jsonl").write_text('{"id": 1, "image": "a.png", "question": "it", "box": [1, 2, 3, 4]}')
    with pytest.raises(UserError, match="mine/own: sample 1: OSError: corrupt, or in none of the formats"):
        score(load_task(str(tmp_path / "mine.jsonl"), data="tiny"), {1: "[1, 2, 3, 4]"}, family="qwen2.5-vl")


def test_split_without_public_answers_is_refused(tmp_path: Path) -> None:
    for folder in ("vqav2", "coco/test2015"):
        (tmp_path / folder).mkdir(parents=True)
    question = {"question_id": 5, "image_id": 1, "question": "?"}
    name = "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    (tmp_path / "vqav2" / name).write_text(json.dumps({"questions": [question]}))
    assert not VQAV2.splits["testdev"].answers
    with pytest.raises(
        UserError, match="vqav2/testdev: the references are not public; 'evalkit score' writes the server's file"
    ):
        score("vqav2/testdev", {5: "yes"}, data=tmp_path)


# -------------------------------------------------------------------------------------------------------------- scorers


@pytest.mark.parametrize(
    ("metric", "pairs", "values"),
    [
        ("vqa_accuracy", [(["yes"] * 2 + ["no"] * 8, "yes")], {"accuracy": 60.0, "accuracy_official_script": 60.0}),
        ("exact_match", [("Cat", "cat "), (["dog", "a dog"], "cat")], {"accuracy": 50.0}),
        ("anls", [(["12 May", "May 12"], "12 may"), ("abcd", None)], {"anls": 50.0}),
        ("gqa_accuracy", [("yes", "Yes.")], {"accuracy": 100.0}),
        ("relaxed_accuracy", [("100", "104"), (["100"], "106")], {"accuracy": 50.0}),
        ("choice_accuracy", [("B", "B"), ("B", None)], {"accuracy": 50.0, "parse_rate": 50.0}),
        (
            "iou",
            [((0, 0, 10, 10), (0, 0, 10, 10)), ([[0, 0, 10, 10]], [0, 0, 10, 4]), ([0, 0, 1, 1], None)],
            {"acc@0.5": 100 / 3, "mean_iou": 140 / 3, "parse_rate": 200 / 3},
        ),
    ],
)  # fmt: skip
def test_scorers_take_lists(metric: str, pairs: list[tuple[object, object]], values: dict[str, float]) -> None:
    scores = scorer(metric)(pairs)  # type: ignore[arg-type]
    assert isinstance(scores, Scores)
    assert {key: scores.values[key] for key in values} == pytest.approx(values)
    assert list(scores.per_sample) == [str(n) for n in range(len(pairs))]


def test_scorer_errors() -> None:
    with pytest.raises(UserError, match="unknown metric 'accuracy'"):
        scorer("accuracy")
    with pytest.raises(UserError, match="exact_match: sample '1' has no answers to score against"):
        scorer("exact_match")([("a", "a"), ([], "a")])
