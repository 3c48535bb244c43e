from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job, parse_tasks
from evalkit.jsonl_task import METRICS, REFERENCES, read_jsonl_task
from evalkit.types import Kind

TEN = ["yes"] * 10
FIELDS: dict[Kind, dict[str, object]] = {
    "vqa": {"question": "What?", "answers": ["cat", "a cat"]},
    "document": {"question": "Total?", "answers": ["12"]},
    "caption": {"captions": ["A cat.", "A sleeping cat."]},
    "choice": {"question": "Which?", "options": ["red", "blue"], "answer": "B"},
    "grounding": {"question": "the left cat", "box": [1, 2, 30, 40.5]},
}


def write(folder: Path, *rows: Mapping[str, object] | str, name: str = "mine.jsonl") -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for image in "ab":
        Image.new("RGB", (60, 50)).save(folder / "images" / f"{image}.png")
    path = folder / name
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def row(kind: Kind = "vqa", **changes: object) -> dict[str, object]:
    return {"id": 1, "image": "images/a.png", **FIELDS[kind], **changes}


# ------------------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("how", ["header", "option", "both"])
def test_each_kind_is_read(tmp_path: Path, kind: Kind, how: str) -> None:
    header = [] if how == "option" else [{"evalkit": 1, "kind": kind}]
    path = write(tmp_path, *header, row(kind), "", row(kind, id="b", image="images/b.png", source="web"))
    task = read_jsonl_task(path, None if how == "header" else kind)
    assert (task.name, task.kind, task.metric, task.default_splits) == ("mine", kind, METRICS[kind], ("own",))
    first, second = load_job(task, "own", open_data("tiny"), limit=None, seed=0).samples
    assert task.splits["own"].size == 2
    assert (first.id, second.id) == ("1", "b")
    assert first.images[0].name == first.cluster == str(tmp_path / "images" / "a.png")
    assert first.images[0].load().size == (60, 50)
    assert first.cluster != second.cluster
    assert (dict(first.meta), dict(second.meta)) == ({}, {"source": "web"})
    assert first.text == FIELDS[kind].get("question", "")
    assert first.options == tuple(FIELDS[kind].get("options", ()))  # type: ignore[arg-type]
    assert first.references == {
        "vqa": ("cat", "a cat"), "document": ("12",), "caption": ("A cat.", "A sleeping cat."), "choice": ("B",),
        "grounding": ((1.0, 2.0, 30.0, 40.5),),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["vqa", "caption", "choice", "grounding"])
def test_the_fields_tell_the_kind_where_nothing_else_does(tmp_path: Path, kind: Kind) -> None:
    assert read_jsonl_task(write(tmp_path, row(kind))).kind == kind


def test_the_metric_follows_the_answers_unless_it_is_named(tmp_path: Path) -> None:
    ten, two = row(answers=TEN), row(id=2)
    assert read_jsonl_task(write(tmp_path, ten)).metric == "vqa_accuracy"
    assert read_jsonl_task(write(tmp_path, ten, two)).metric == "exact_match"
    assert read_jsonl_task(write(tmp_path, ten), "document").metric == "anls"
    named = {"evalkit": 1, "kind": "vqa", "metric": "gqa_accuracy"}
    assert read_jsonl_task(write(tmp_path, named, ten)).metric == "gqa_accuracy"
    assert read_jsonl_task(write(tmp_path, {"evalkit": 1, "metric": "gqa_accuracy"}, ten)).metric == "gqa_accuracy"


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), ("blue", "B"), ("A", "A"), ("red", "A")])
def test_the_right_option_may_be_given_by_letter_or_text(tmp_path: Path, answer: str, letter: str) -> None:
    (sample,) = read_jsonl_task(write(tmp_path, row("choice", answer=answer))).load(open_data("tiny"), "own")
    assert sample.references == (letter,)


def test_every_kind_has_its_references_and_metric() -> None:
    assert set(REFERENCES) == set(METRICS) == set(FIELDS)


def test_names_in_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, row())
    monkeypatch.chdir(tmp_path)
    (own, split), (other, other_split) = parse_tasks(["mine.jsonl", "vqav2"], ["val"])
    assert (own.name, split, other.name, other_split) == ("mine", "own", "vqav2", "val")
    assert len(parse_tasks(["mine.jsonl", "./mine.jsonl"])) == 1
    assert [f"{t.name}/{s}" for t, s in parse_tasks(["mine.jsonl", "refcoco-all"])][:3] == [
        "mine/own",
        "refcoco/val",
        "refcoco/testA",
    ]
    job = load_job(own, split, open_data("tiny"), limit=None, seed=0)
    assert job.reference == str(tmp_path / "mine.jsonl")
    assert load_job(other, "val", open_data("tiny"), limit=1, seed=0).reference == "vqav2/val"
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", row())
    with pytest.raises(UserError, match=r"below/mine.jsonl would both be called mine; rename one"):
        parse_tasks(["mine.jsonl", "below/mine.jsonl"])


# ----------------------------------------------------------------------------------------------------------- refusals

SENTENCES: dict[str, tuple[list[Mapping[str, object] | str], str | None, str]] = {
    "empty": ([], None, "holds no samples; expected lines"),
    "header alone": ([{"evalkit": 1, "kind": "vqa"}], None, "holds no samples"),
    "header's version": ([{"evalkit": 2}, row()], None, 'the first line has "evalkit": 2; this evalkit reads'),
    "header's key": ([{"evalkit": 1, "kid": "vqa"}, row()], None, "the first line has 'kid'; this evalkit reads"),
    "header's kind": ([{"evalkit": 1, "kind": "pointing"}, row()], None, "there is no kind 'pointing'; there are caption, vqa, document, choice, grounding"),
    "header's type": ([{"evalkit": 1, "kind": 3}, row()], None, "the first line has the kind 3; expected a name"),
    "header's metric": ([{"evalkit": 1, "kind": "vqa", "metric": "bleurt"}, row()], None, "unknown metric 'bleurt'"),
    "option": ([row()], "pointing", "--kind: there is no kind 'pointing'"),
    "two kinds": ([{"evalkit": 1, "kind": "vqa"}, row()], "caption", "--kind caption: .* says that it holds vqa"),
    "untold": ([{"id": 1, "image": "images/a.png", "question": "?"}], None, "its first sample does not tell its kind"),
    "told twice": ([row("vqa", box=[1, 2, 3, 4])], None, "its first sample does not tell its kind"),
    "no JSON": ([row(), '{"id": 2'], None, "mine.jsonl, line 2: not valid JSON"),
    "no object": ([row(), "3"], None, "mine.jsonl, line 2: expected a JSON object, not int"),
    "header in the middle": ([row(), {"evalkit": 1}], None, "line 2: there is no 'image'"),
    "no id": ([{"image": "images/a.png", "answers": ["x"]}], None, "line 1: there is no '(question|id)'"),
    "id": ([row(id=1.5)], None, "line 1: id is 1.5; expected a text or a whole number"),
    "id twice": ([row(), row(id="1")], None, "line 2: the id '1' is already used in line 1"),
    "image": ([row(image=None)], None, "line 1: image is None; expected a text"),
    "absent": ([row(), row(id=2, image="a.png")], None, r"1 of its 2 images are missing, for example .*/a.png; image is a path relative to the file"),
    "question": ([row(question="")], None, "line 1: question is ''; expected a text"),
    "answers": ([row(answers="cat")], None, "line 1: answers is 'cat'; expected a list of texts, at least one"),
    "no answers": ([row(answers=[])], None, r"line 1: answers is \[\]; expected a list of texts, at least one"),
    "numbers": ([row(answers=[3])], None, r"line 1: answers is \[3\]; expected a list of texts"),
    "captions": ([row("caption"), row("vqa", id=2)], None, "line 2: there is no 'captions'; expected a list of texts"),
    "box": ([row("grounding", box=[1, 2, 3])], None, r"line 1: box is \[1, 2, 3\]; expected \[x1, y1, x2, y2\] in pixels"),
    "inverted": ([row("grounding", box=[9, 2, 3, 4])], None, "expected .*x1 < x2 and y1 < y2"),
    "infinite": ([row("grounding", box=[0, 0, 1, float("inf")])], None, "'box' is Infinity"),
    "enormous": ([row("grounding", box=[0, 0, 1, 10**400])], None, "'box' is a number of 401 digits"),
    "true": ([row("grounding", box=[0, 0, True, 4])], None, "box is .*True"),
    "which": ([row("choice", answer="green")], None, "answer is 'green'; expected the letter or the text of exactly one of its 2"),
    "equal options": ([row("choice", options=["red", "red"], answer="red")], None, "answer is 'red'; expected"),
    "a letter and a text": ([row("choice", options=["B", "A"], answer="A")], None, "answer is 'A'; expected"),
    "too many options": ([row("choice", options=["x"] * 27)], None, "line 1: 27 options; there are letters for 26"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "kind", "sentence"), SENTENCES.values(), ids=SENTENCES.keys())
def test_a_wrong_file_is_a_sentence(
    tmp_path: Path, rows: list[Mapping[str, object] | str], kind: str | None, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_tasks([str(write(tmp_path, *rows))], kind=kind)


def test_no_file_and_a_kind_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--tasks .*none.jsonl: the file cannot be read \(No such file"):
        parse_tasks([str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match="--kind vqa: it says what --tasks FILE.jsonl holds, and no such file is named"):
        parse_tasks(["vqav2"], kind="vqa")


# ------------------------------------------------------------------------------------------------------- command line


def evalkit(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    return subprocess.run(
        [sys.executable, "-c", "from evalkit.cli import main; main()", *arguments],
        cwd=cwd, env={**base, "COLUMNS": "160"}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def rows_of(run: Path) -> list[dict[str, object]]:
    return list(json.loads((run / "scores.json").read_text())["results"])


def test_a_file_of_ones_own_is_scored(tmp_path: Path) -> None:
    write(tmp_path, row("choice", answer="A"), row("choice", id=2))
    (tmp_path / "p.jsonl").write_text('{"id": 1, "text": "A"}\n{"id": 2, "text": "A"}\n')
    done = evalkit("score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (scored,) = rows_of(tmp_path / "runs" / "x")
    assert (scored["task"], scored["split"], scored["value"], scored["n"]) == ("mine", "own", 50.0, 2)
    assert sorted(p.name for p in (tmp_path / "runs" / "x").glob("*.jsonl")) == [
        "mine.own.jsonl",
        "mine.own.scores.jsonl",
    ]


def test_files_of_one_name_and_other_content_are_not_comparable(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": 1, "text": "cat"}\n')
    signatures = []
    for name, answers in (("a", ["cat"]), ("b", ["cat"]), ("c", ["dog"])):
        write(tmp_path, row(answers=answers))
        done = evalkit("score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        signatures.append(rows_of(tmp_path / "runs" / name)[0]["signature"])
    assert signatures[0] == signatures[1] != signatures[2]


def test_mistakes_exit_with_2(tmp_path: Path) -> None:
    write(tmp_path, row(answers=[]))
    for verb in ("score", "run"):
        done = evalkit(verb, "-t", "mine.jsonl", cwd=tmp_path)
        assert done.returncode == 2
        assert f"error: {tmp_path}/mine.jsonl, line 1: answers is []; expected a list" in done.stderr
        done = evalkit(verb, "-t", "vqav2", "--kind", "vqa", "--data", "tiny", cwd=tmp_path)
        assert done.returncode == 2
        assert "--kind vqa: it says what --tasks FILE.jsonl holds" in " ".join(done.stderr.split())


@pytest.mark.slow
@pytest.mark.slow
def test_a_file_of_ones_own_is_run(tmp_path: Path) -> None:
    write(tmp_path, row("grounding"), row("grounding", id=2, image="images/b.png"), name="boxes.jsonl")
    write(tmp_path, row(answers=TEN), name="questions.jsonl")
    done = evalkit("run", "-t", "boxes.jsonl,questions.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {r["task"]: (r["metric"], r["n"], r["errors"]) for r in rows_of(tmp_path / "runs" / "x")}
    assert found == {"boxes": ("acc@0.5", 2, 0), "questions": ("accuracy", 1, 0)}
