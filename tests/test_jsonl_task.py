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
from evalkit.file_task import METRICS
from evalkit.jobs import load_job
from evalkit.jsonl_sample import REFERENCES
from evalkit.jsonl_task import read_jsonl_task
from evalkit.task_names import parse_tasks
from evalkit.types import Kind

TEN = ["yes"] * 10
FIELDS: dict[Kind, dict[str, object]] = {
    "vqa": {"question": "What?", "answers": ["cat", "a cat"]},
    "document": {"question": "Total?", "answers": ["12"]},
    "caption": {"captions": ["A cat.", "A sleeping cat."]},
    "choice": {"question": "Which?", "options": ["red", "blue"], "answer": "B"},
    "yes_no": {"question": "Is it red?", "answer": "Yes"},
    "grounding": {"question": "the left cat", "box": [1, 2, 30, 40.5]},
    "pointing": {"question": "close the window", "box": [1, 2, 30, 40.5]},
    "detection": {"categories": ["cat", "Dog"], "boxes": [{"label": "Dog", "box": [1, 2, 30, 40.5]}]},
    "temporal_grounding": {"video": "a.mp4", "question": "the cat jumps", "span": [1, 2.5]},
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
    assert first.images[0].name == str(tmp_path / "images" / "a.png")
    assert first.cluster == ("a.mp4" if kind == "temporal_grounding" else "images/a.png")
    assert first.images[0].load().size == (60, 50)
    assert (first.cluster != second.cluster) == (kind != "temporal_grounding")
    assert (dict(first.meta), dict(second.meta)) == ({}, {"source": "web"})
    assert first.text == ("cat, Dog" if kind == "detection" else FIELDS[kind].get("question", ""))
    assert first.options == tuple(FIELDS[kind].get("options", ()))  # type: ignore[arg-type]
    assert first.references == {
        "vqa": ("cat", "a cat"), "document": ("12",), "caption": ("A cat.", "A sleeping cat."), "choice": ("B",), "yes_no": ("yes",),
        "grounding": ((1.0, 2.0, 30.0, 40.5),), "pointing": ((1.0, 2.0, 30.0, 40.5),),
        "detection": ({"label": "Dog", "box": (1.0, 2.0, 30.0, 40.5)},), "temporal_grounding": ((1.0, 2.5),),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["vqa", "caption", "choice", "yes_no", "grounding", "detection", "temporal_grounding"])
def test_kind_is_inferred_from_fields(tmp_path: Path, kind: Kind) -> None:
    assert read_jsonl_task(write(tmp_path, row(kind))).kind == kind


def test_metric_follows_the_answers_by_default(tmp_path: Path) -> None:
    ten, two = row(answers=TEN), row(id=2)
    assert read_jsonl_task(write(tmp_path, ten)).metric == "vqa_accuracy"
    assert read_jsonl_task(write(tmp_path, ten, two)).metric == "exact_match"
    assert read_jsonl_task(write(tmp_path, ten), "document").metric == "anls"
    named = {"evalkit": 1, "kind": "vqa", "metric": "gqa_accuracy"}
    assert read_jsonl_task(write(tmp_path, named, ten)).metric == "gqa_accuracy"
    assert read_jsonl_task(write(tmp_path, {"evalkit": 1, "metric": "gqa_accuracy"}, ten)).metric == "gqa_accuracy"


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), ("blue", "B"), ("A", "A"), ("red", "A")])
def test_right_option_may_be_given_by_letter_or_text(tmp_path: Path, answer: str, letter: str) -> None:
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


def test_videos_stand_beside_or_in_place_of_images(tmp_path: Path) -> None:
    choice = {key: value for key, value in row("choice").items() if key != "image"}
    path = write(
        tmp_path,
        {**choice, "id": 1, "video": "clips/a.mp4"},
        {**choice, "id": 2, "video": "./clips/a.mp4", "video_start": 2, "video_end": 5.5},
        {**choice, "id": 3, "video": ["clips/a.mp4", "clips/b.mp4"], "image": "images/a.png"},
    )
    first, second, third = load_job(read_jsonl_task(path), "own", open_data("tiny"), limit=None, seed=0).samples
    assert [video.name for video in first.videos] == [str(tmp_path / "clips" / "a.mp4")]
    assert (first.images, first.videos[0].start, first.videos[0].end) == ((), None, None)
    assert (second.videos[0].start, second.videos[0].end) == (2.0, 5.5)
    assert (len(third.videos), len(third.images)) == (2, 1)
    assert first.cluster == second.cluster == third.cluster == "clips/a.mp4"
    assert (dict(first.meta), dict(second.meta)) == ({}, {})


# ----------------------------------------------------------------------------------------------------------- refusals

SENTENCES: dict[str, tuple[list[Mapping[str, object] | str], str | None, str]] = {
    "empty": ([], None, "has no samples; expected lines"),
    "header alone": ([{"evalkit": 1, "kind": "vqa"}], None, "has no samples"),
    "header's version": ([{"evalkit": 2}, row()], None, 'the first line has "evalkit": 2; this evalkit reads'),
    "header's key": ([{"evalkit": 1, "kid": "vqa"}, row()], None, "unknown key 'kid'; did you mean kind?"),
    "header's kind": ([{"evalkit": 1, "kind": "counting"}, row()], None, "there is no kind 'counting'; there are caption, vqa, document, choice, yes_no, grounding, pointing, detection, temporal_grounding"),
    "header's type": ([{"evalkit": 1, "kind": 3}, row()], None, "the first line has the kind 3; expected a name"),
    "header's metric": ([{"evalkit": 1, "kind": "vqa", "metric": "bleurt"}, row()], None, "unknown metric 'bleurt'"),
    "option": ([row()], "counting", "--kind: there is no kind 'counting'"),
    "two kinds": ([{"evalkit": 1, "kind": "vqa"}, row()], "caption", "--kind caption: .* says that its kind is vqa"),
    "untold": ([{"id": 1, "image": "images/a.png", "question": "?"}], None, "its first sample does not tell its kind"),
    "told twice": ([row("vqa", box=[1, 2, 3, 4])], None, "its first sample does not tell its kind"),
    "no JSON": ([row(), '{"id": 2'], None, "mine.jsonl, line 2: not valid JSON"),
    "no object": ([row(), "3"], None, "mine.jsonl, line 2: expected a JSON object, not int"),
    "header in the middle": ([row(), {"evalkit": 1}], None, "line 2: there is no 'image'"),
    "no id": ([{"image": "images/a.png", "answers": ["x"]}], None, "line 1: there is no '(question|id)'"),
    "id": ([row(id=1.5)], None, "line 1: id is 1.5; expected a text or an integer"),
    "id twice": ([row(), row(id="1")], None, "line 2: the id '1' is already used in line 1"),
    "image": ([row(image=None)], None, "line 1: image is None; expected a text"),
    "categories": ([row("detection", categories=["cat", "Cat"])], None, "line 1: categories is .*; expected names that differ"),
    "comma": ([row("detection", categories=["cat, dog"])], None, "line 1: categories is .*; expected names that differ"),
    "boxes": ([row("detection", boxes={})], None, "line 1: boxes is {}; expected a list of"),
    "box in boxes": ([row("detection", boxes=[{"label": "cat", "box": [3, 2, 1, 4]}])], None, "line 1: boxes has .* in it"),
    "label": ([row("detection", boxes=[{"label": "cow", "box": [1, 2, 3, 4]}])], None, "the label 'cow', which is not among"),
    "video": ([row("choice", video=3)], None, "line 1: video is 3; expected a text"),
    "no video": ([{"id": 1, "image": "a.png", "question": "x", "span": [1, 2]}], "temporal_grounding", "there is no 'video'"),
    "two videos": ([row("temporal_grounding", video=["a.mp4", "b.mp4"])], None, "expected one video, since the times are in it"),
    "segment": ([row("choice", video="a.mp4", video_start=5, video_end=2)], None, "video_end is 2; expected a time in seconds after"),
    "segment's start": ([row("choice", video="a.mp4", video_start="0:05")], None, "video_start is '0:05'; expected a time in seconds"),
    "span": ([row("temporal_grounding", span=[2, 1])], None, "span is .2, 1.; expected .start, end. in seconds"),
    "span's length": ([row("temporal_grounding", span=[1, 2, 3])], None, "expected .start, end. in seconds"),
    "boxes outside": ([row("detection", boxes=[{"label": "cat", "box": [1, 2, 300, 4]}])], None, "boxes in pixels of the image; it ends"),
    "no images": ([row(image=[])], None, r"line 1: image is \[\]; expected a text \(a path\), or a list of them"),
    "no image's name": ([row(image=["images/a.png", 2])], None, r"line 1: image is .*; expected a text"),
    "two images, one marked": ([row(image=["images/a.png", "images/b.png"], question="<image> and?")], None, "line 1: the question has 1 times <image> for 2 images"),
    "a box in two images": ([row("grounding", image=["images/a.png", "images/b.png"])], None, "expected one image, since the box is in its pixels"),
    "fractions": ([row("grounding"), row("grounding", id=2, box=[0.1, 0.1, 0.4, 0.5])], None, r"line 2: box is \[0.1, 0.1, 0.4, 0.5\]; expected a box in pixels of the image; it is within a single pixel, so it is probably in fractions"),
    "too wide": ([row("grounding", box=[1, 2, 61, 40])], None, "box is .*; it ends outside the image, which has 60 × 50 pixels"),
    "too high": ([row("grounding", box=[1, 2, 30, 51])], None, "box is .*; it ends outside the image"),
    "negative": ([row("grounding", box=[-1, 2, 30, 40])], None, "box is .*; it begins outside the image"),
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
def test_wrong_file_is_reported(
    tmp_path: Path, rows: list[Mapping[str, object] | str], kind: str | None, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_tasks([str(write(tmp_path, *rows))], kind=kind)


@pytest.mark.parametrize("box", [[0, 0, 60, 50], [-0.5, -0.9, 60.9, 50.5], [0, 0, 1.5, 1], [59, 49, 60, 50]])
def test_boxes_may_be_rounded(tmp_path: Path, box: list[float]) -> None:
    (sample,) = read_jsonl_task(write(tmp_path, row("grounding", box=box))).load(open_data("tiny"), "own")
    assert sample.references == (tuple(box),)


def test_boxes_are_in_what_viewer_shows(tmp_path: Path) -> None:
    path = write(tmp_path, row("grounding", box=[1, 2, 45, 55]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 50)).save(tmp_path / "images" / "a.png", exif=exif)
    (sample,) = read_jsonl_task(path).load(open_data("tiny"), "own")
    assert sample.images[0].size() == (50, 60)


def test_several_images(tmp_path: Path) -> None:
    both = ["images/a.png", "images/b.png"]
    task = read_jsonl_task(
        write(
            tmp_path,
            row(image=both),
            row(id=2, image=both, question="<image>Is it brighter than <image>?"),
            row(id=3, image="./images/b.png", question="<image>?"),
            row(id=4, image=["images/b.png"]),
        )
    )
    first, second, third, _ = samples = list(task.load(open_data("tiny"), "own"))
    assert [image.name for image in first.images] == [str(tmp_path / name) for name in both]
    assert (first.text, first.content) == ("What?", ())
    assert second.content == (first.images[0], "Is it brighter than ", first.images[1], "?")
    assert (third.text, third.content) == ("<image>?", ())
    assert {sample.cluster for sample in samples} == {"images/b.png"}, "the image that most questions have"


@pytest.mark.parametrize("name", ["mine.json", "mine.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_list_of_samples(tmp_path: Path, name: str, indent: int | None) -> None:
    rows = [{"evalkit": 1, "kind": "document"}, row(), row(id=2)]
    path = write(tmp_path, "\ufeff" + json.dumps(rows, indent=indent), name=name)
    ((task, split),) = parse_tasks([str(path)])
    assert (task.name, task.kind) == ("mine", "document")
    assert [sample.id for sample in task.load(open_data("tiny"), split)] == ["1", "2"]
    write(tmp_path, json.dumps([row(), row(answers=3)], indent=indent), name=name)
    with pytest.raises(UserError, match=f"{name}, entry 2: answers is 3; expected"):
        parse_tasks([str(path)])


@pytest.mark.parametrize("name", ["mine.csv", "MINE.CSV", "mine.xlsx", "mine.parquet"])
def test_files_in_other_formats(name: str) -> None:
    advice = (
        "custom tasks are JSON, one object per line" if name.endswith("x") else "say what its columns are in a file"
    )
    with pytest.raises(UserError, match=f"--tasks {name}: {advice}"):
        parse_tasks([name])


def test_missing_file_and_kind_without_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--tasks .*none.jsonl: the file cannot be read \(No such file"):
        parse_tasks([str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match="--kind vqa: this describes a custom task file, and --tasks names none"):
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


def test_custom_task_is_scored(tmp_path: Path) -> None:
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


def test_only_run_needs_images(tmp_path: Path) -> None:
    """Texts are scored without them; a run says which is missing before it begins."""
    write(tmp_path, row(), row(id=2, image="a.png"))
    (tmp_path / "p.jsonl").write_text('{"id": 1, "text": "cat"}\n{"id": 2, "text": "cat"}\n')
    done = evalkit("score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = evalkit("run", "-t", "mine.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    expected = (
        f"mine/own: the image {tmp_path}/a.png is missing; image is a path relative to {tmp_path}/mine.jsonl, or give"
    )
    assert expected in " ".join(done.stderr.split())


def test_mistakes_exit_with_2(tmp_path: Path) -> None:
    write(tmp_path, row(answers=[]))
    for verb in ("score", "run"):
        done = evalkit(verb, "-t", "mine.jsonl", cwd=tmp_path)
        assert done.returncode == 2
        assert f"error: {tmp_path}/mine.jsonl, line 1: answers is []; expected a list" in done.stderr
        done = evalkit(verb, "-t", "vqav2", "--kind", "vqa", "--data", "tiny", cwd=tmp_path)
        assert done.returncode == 2
        assert "--kind vqa: this describes a custom task file" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_custom_task_is_run(tmp_path: Path) -> None:
    write(tmp_path, row("grounding"), row("grounding", id=2, image="images/b.png"), name="boxes.jsonl")
    write(tmp_path, row(answers=TEN), name="questions.jsonl")
    done = evalkit("run", "-t", "boxes.jsonl,questions.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {r["task"]: (r["metric"], r["n"], r["errors"]) for r in rows_of(tmp_path / "runs" / "x")}
    assert found == {"boxes": ("acc@0.5", 2, 0), "questions": ("accuracy", 1, 0)}


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 300, "", "\u2028"])
def test_names_of_fields_are_short_texts_on_one_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, row("vqa"), row("vqa", id=2) | {name: "x"})
    with pytest.raises(UserError, match="mine.jsonl, line 2: the field .* has a name that is not a short text"):
        read_jsonl_task(path, "vqa")
