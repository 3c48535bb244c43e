"""``evalkit score`` as a user calls it, in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from evalkit import registry
from evalkit.api import load_task
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.jobs import Job, Record, load_job
from evalkit.model.families.qwen2_5_vl import resized
from evalkit.predictions import FORMATS, read_predictions
from evalkit.reader import Reader
from evalkit.reasoning import REASONING
from evalkit.results.leaderboard import table as board
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import write_results
from evalkit.scoring import score_job
from evalkit.types import Answered, ImageSize, Kind, Prediction, PromptSpec, Response, Sample, Size, Split

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANSWERS = "v2_mscoco_val2014_annotations.json"
RUN_FILES = [".lock", "leaderboard.csv", "leaderboard.md", "log.txt", "manifest.json", "scores.json"]


def alone(*arguments: str, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command line; ``code`` runs after it, in the same process."""
    base = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    program = f"import sys\nfrom evalkit.cli import main\ntry:\n    main()\nfinally:\n    {code or 'pass'}"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd, env={**base, "COLUMNS": "160"}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row_of(run: Path) -> dict[str, object]:
    (row,) = json.loads((run / "scores.json").read_text())["results"]
    return dict(row)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three questions about two images: ten, two and no annotators say "yes"."""
    root = tmp_path / "root"
    for folder in ("vqav2", "coco/val2014", "coco/test2015"):
        (root / folder).mkdir(parents=True)
    answers = {11: ["yes"] * 10, 12: ["yes"] * 2 + [f"a{i}" for i in range(8)], 13: ["no"] * 9 + ["maybe"]}
    questions = [{"question_id": q, "image_id": q // 12, "question": "Is it?"} for q in answers]
    annotations = [
        {
            "question_id": q, "image_id": q // 12, "answer_type": "yes/no", "question_type": "is it",
            "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(said, 1)],
        }
        for q, said in answers.items()
    ]  # fmt: skip
    for subset in ("val2014", "test-dev2015", "test2015"):
        (root / "vqav2" / QUESTIONS.format(subset)).write_text(json.dumps({"questions": questions}))
    (root / "vqav2" / ANSWERS).write_text(json.dumps({"annotations": annotations}))
    return root


@pytest.fixture
def boxes(tmp_path: Path) -> tuple[Path, dict[str, Size]]:
    """The right boxes of the bundled RefCOCO val, as Qwen2.5-VL writes them when images have at most 15,360 pixels."""
    sizes, rows = {}, []
    for sample in load_task("refcoco/val", data="tiny"):
        (image,) = sample.images
        width, height = image.size()
        sizes[sample.id] = resized((width, height), max_pixels=15_360)
        sx, sy = sizes[sample.id][0] / width, sizes[sample.id][1] / height
        x1, y1, x2, y2 = sample.references[0]
        box = [round(v, 3) for v in (x1 * sx, y1 * sy, x2 * sx, y2 * sy)]
        rows.append({"id": sample.id, "text": f"```json\n{json.dumps([{'bbox_2d': box, 'label': sample.text}])}\n```"})
    return write_lines(tmp_path / "boxes.jsonl", rows), sizes


# ------------------------------------------------------------------------------------------------------------ scoring


def test_final_texts_get_the_official_score_and_a_run_folder(root: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "preds.jsonl", [{"id": str(q), "text": "yes"} for q in (13, 11, 12)])
    done = alone(
        "score", "--tasks", "vqav2", "--data", str(root), "-p", "preds.jsonl", "--name", "x", cwd=tmp_path,
        code="print('TORCH', sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "TORCH []" in done.stdout
    run = tmp_path / "runs" / "x"
    assert sorted(p.name for p in run.iterdir()) == sorted([*RUN_FILES, "vqav2.val.jsonl", "vqav2.val.scores.jsonl"])
    # Ten of ten: 100.  Two of ten: leaving out one of the two leaves one match, so (2 · 1/3 + 8 · 2/3) / 10 = 60.
    assert {row["id"]: row["accuracy"] for row in lines(run / "vqav2.val.scores.jsonl")} == {
        "11": 100.0, "12": pytest.approx(60.0), "13": 0.0,
    }  # fmt: skip
    row = row_of(run)
    assert row["value"] == pytest.approx(160 / 3)
    assert (row["n"], row["unparsed"], row["errors"], row["clusters"]) == (3, 0, 0, 2)
    assert row["signature"] == "vqav2:val|v1|vqa_accuracy|norm:normalised|loo:entry|v2|n:3"
    journal = lines(run / "vqav2.val.jsonl")
    assert [(line["id"], line["text"], line["answer"]) for line in journal] == [
        (str(q), "yes", "yes") for q in (11, 12, 13)
    ]
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["state"], manifest["family"], manifest["model"]) == ("complete", None, {"name": "x"})
    assert manifest["predictions"][0]["file"] == str(tmp_path / "preds.jsonl")
    assert "53.33" in done.stdout


def test_scored_run_joins_the_leaderboard(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    for name, text in (("good", "yes"), ("bad", "no")):
        write_lines(tmp_path / f"{name}.jsonl", [{"id": q, "text": text} for q in (11, 12, 13)])
        done = evalkit("score", "-t", "vqav2", "--data", str(root), "-p", f"{name}.jsonl", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    shown = evalkit("leaderboard", "--format", "csv", cwd=tmp_path)
    found = {r["model"]: float(r["value"]) for r in csv.DictReader(shown.stdout.splitlines())}
    assert found == {"good": pytest.approx(160 / 3), "bad": pytest.approx(100 / 3)}


def test_official_format_of_results_gives_same_numbers(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    results = [{"question_id": q, "answer": "yes"} for q in (11, 12, 13)]
    (tmp_path / "official.json").write_text("\ufeff" + json.dumps(results, indent=1), encoding="utf-8")
    done = evalkit("score", "-t", "vqav2", "--data", str(root), "-p", "official.json", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row_of(tmp_path / "runs" / "x")["value"] == pytest.approx(160 / 3)


def test_one_predictions_file_per_split(evalkit: Evalkit, tmp_path: Path) -> None:
    samples = load_task("vqav2/train", data="tiny")
    write_lines(tmp_path / "train.jsonl", [{"id": s.id, "text": s.references[0]} for s in samples])
    vals = load_task("vqav2/val", data="tiny")
    write_lines(tmp_path / "val.jsonl", [{"id": s.id, "text": "nothing of the kind"} for s in vals])
    done = evalkit(
        "score", "-t", "vqav2/train,vqav2/val", "--data", "tiny", "-p", "train.jsonl,val.jsonl", "--name", "x",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {r["split"]: r for r in json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]}
    assert rows["train"]["value"] > 50
    assert rows["val"]["value"] == 0
    assert (rows["train"]["n"], rows["val"]["n"]) == (len(samples), len(vals))


def test_empty_answer_is_counted_and_is_wrong(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "p.jsonl", [{"id": 11, "text": " "}, {"id": 12, "text": ""}, {"id": 13, "text": "no"}])
    done = evalkit("score", "-t", "vqav2", "--data", str(root), "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = row_of(tmp_path / "runs" / "x")
    assert (row["unparsed"], row["n"], row["value"]) == (2, 3, pytest.approx(100 / 3))


def test_missing_answers_may_be_allowed_and_are_reported(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "p.jsonl", [{"id": 11, "text": "yes"}, {"id": 12, "text": "yes"}])
    command = ("score", "-t", "vqav2", "--data", str(root), "-p", "p.jsonl", "--name", "x")
    done = evalkit(*command, "--allow-missing", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "x"
    row = row_of(run)
    assert (row["n"], row["unparsed"], row["errors"], row["value"]) == (3, 1, 0, pytest.approx(160 / 3))
    assert "53.33" in done.stdout
    assert "vqav2/val: 1 of 3 samples have no answer in p.jsonl and count as wrong (--skip-missing" in done.stderr
    assert "retry" not in done.stderr
    assert json.loads((run / "manifest.json").read_text())["state"] == "complete"

    skipped = evalkit(*command[:-1], "y", "--skip-missing", cwd=tmp_path)
    assert skipped.returncode == 0, skipped.stderr
    assert "vqav2/val: 1 of 3 samples have no answer in p.jsonl and are left out of the score." in skipped.stderr
    for _ in range(2):
        row = row_of(tmp_path / "runs" / "y")
        assert (row["n"], row["errors"], row["limited"], row["value"]) == (2, 0, True, pytest.approx(80.0))
        again = evalkit("rescore", "runs/y", cwd=tmp_path)
        assert again.returncode == 0
        assert "vqav2/val: unchanged" in again.stderr


# -------------------------------------------------------------------------------------------------------------- boxes


def test_raw_boxes_are_read_in_familys_coordinates(boxes: tuple[Path, dict[str, Size]], tmp_path: Path) -> None:
    path, sizes = boxes
    command = ("score", "-t", "refcoco/val", "--data", "tiny", "-p", str(path), "--family", "qwen2.5-vl")
    right = alone(
        *command, "--max-pixels", "15360", "--name", "right", cwd=tmp_path,
        code="print('TORCH', sorted({'torch', 'transformers'} & set(sys.modules)))",
    )  # fmt: skip
    assert right.returncode == 0, right.stderr
    assert "TORCH []" in right.stdout
    row = row_of(tmp_path / "runs" / "right")
    assert (row["value"], row["n"], row["unparsed"]) == (100.0, len(sizes), 0)
    assert row["values"]["mean_iou"] > 99.9  # type: ignore[index]
    for line in lines(tmp_path / "runs" / "right" / "refcoco.val.jsonl"):
        assert line["frames"][0]["resized"] == list(sizes[str(line["id"])])  # type: ignore[index]
    manifest = json.loads((tmp_path / "runs" / "right" / "manifest.json").read_text())
    assert manifest["family"] == {"name": "qwen2.5-vl", "coordinates": "absolute pixels of the resized image"}
    assert manifest["settings"]["max_pixels"] == 15_360

    small = alone(*command, "--max-pixels", "3136", "--name", "small", cwd=tmp_path)
    assert small.returncode == 0, small.stderr
    assert row_of(tmp_path / "runs" / "small")["values"]["mean_iou"] < 60  # type: ignore[index]


def test_answers_are_read_by_protocol_that_they_were_asked_by(evalkit: Evalkit, tmp_path: Path) -> None:
    """lmms-eval's prompt asks for fractions of the image: right under it, and pixels of its corner under no other."""
    rows = []
    for sample in load_task("refcoco/val", data="tiny"):
        (w, h), (a, b, c, d) = sample.images[0].size(), sample.references[0]
        rows.append({"id": sample.id, "text": f"[{a / w:.5f}, {b / h:.5f}, {c / w:.5f}, {d / h:.5f}]"})
    write_lines(tmp_path / "p.jsonl", rows)
    command = ("score", "-t", "refcoco/val", "--data", "tiny", "-p", "p.jsonl", "--family", "qwen2.5-vl")

    def scored(name: str, *options: str) -> dict[str, object]:
        done = evalkit(*command, "--name", name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        row = row_of(tmp_path / "runs" / name)
        assert f"|protocol:{name}|" in str(row["signature"])
        assert f"protocol:{name}" in "".join(done.stdout.split()), "the footnote says it"
        manifest = json.loads((tmp_path / "runs" / name / "manifest.json").read_text())
        assert manifest["settings"]["protocol"] == name
        return row

    assert scored("lmms-eval", "--protocol", "lmms-eval")["value"] == 100.0
    assert scored("official")["value"] == 0.0
    assert scored("vlmevalkit", "--protocol", "vlmevalkit")["value"] == 0.0
    again = evalkit("rescore", "runs/lmms-eval", cwd=tmp_path)
    assert again.returncode == 0
    assert "refcoco/val: unchanged" in again.stderr

    (tmp_path / "evalkit.toml").write_text('protocol = "lmms-eval"\n')
    shutil.rmtree(tmp_path / "runs")
    assert scored("lmms-eval")["value"] == 100.0
    assert (
        json.loads((tmp_path / "runs" / "lmms-eval" / "manifest.json").read_text())["sources"]["protocol"]
        == "evalkit.toml"
    )


def test_final_texts_ignore_the_protocol(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    """A settings file may name one for 'evalkit run'; neither record nor signature says what did not happen."""
    (tmp_path / "evalkit.toml").write_text('protocol = "lmms-eval"\n')
    write_lines(tmp_path / "p.jsonl", GOOD)
    done = evalkit("score", "-t", "vqav2", "--data", str(root), "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "protocol:" not in str(row_of(tmp_path / "runs" / "x")["signature"])
    assert json.loads((tmp_path / "runs" / "x" / "manifest.json").read_text())["settings"]["protocol"] == "official"


def test_image_that_cannot_be_read_is_error_of_its_samples(evalkit: Evalkit, tmp_path: Path) -> None:
    Image.new("RGB", (56, 56)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"torn")
    Image.new("RGB", (900, 2)).save(tmp_path / "c.png")
    box = [0, 0, 28, 28]
    boxes = {"a": box, "b": box, "c": [0, 0, 28, 2]}
    rows = [{"id": n, "image": f"{n}.png", "question": "it", "box": boxes[n]} for n in boxes]
    write_lines(tmp_path / "own.jsonl", rows)
    write_lines(tmp_path / "p.jsonl", [{"id": n, "text": json.dumps({"bbox_2d": box})} for n in "abc"])
    done = evalkit("score", "-t", "own.jsonl", "-p", "p.jsonl", "--family", "qwen2.5-vl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "2 samples failed" in done.stderr
    assert "Traceback" not in done.stderr
    row = row_of(tmp_path / "runs" / "x")
    assert (row["n"], row["errors"], row["value"]) == (1, 2, 100.0)
    errors = {line["id"]: str(line.get("error")) for line in lines(tmp_path / "runs" / "x" / "own.own.jsonl")}
    assert "corrupt, or in none of the formats" in errors["b"]
    assert "900x2 pixels is too narrow" in errors["c"]


def test_family_that_does_not_resize_gets_original_sizes() -> None:
    class Relative:
        name, model_types, coordinates, reasoning = "relative", (), "of the original", REASONING

        def image_size(self, size: Size, min_pixels: int | None, max_pixels: int | None) -> ImageSize:
            return ImageSize(size, size)

        def parse(self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize]) -> Prediction:
            (size,) = image_sizes
            return Prediction((0.0, 0.0, float(size.resized[0]), float(size.original[1])))

    (task, split), data = (load_task("refcoco/val", data="tiny").task, "val"), open_data("tiny")
    job = load_job(task, split, data, limit=2, seed=0)
    reader = Reader(Relative())  # type: ignore[arg-type]
    for record in reader.records(job, {s.id: "" for s in job.samples}):
        assert record.prediction.value == (0.0, 0.0, *map(float, record.sample.images[0].size()))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("vqa", " Two dogs. ", " Two dogs. "),
        ("caption", "\n", None),
    ],
)
def test_final_texts_are_scored_verbatim(kind: Kind, text: str, value: str | None) -> None:
    task = next(task for task in registry.tasks.all() if task.kind == kind)
    assert Reader().parse(task, Sample("1", (), "", ("A",), "1"), text, ()).value == value


LETTERS = {
    "0": "(a)", "1": "The answer is B", "2": "c", "3": "<think>A?</think>D", "4": "It is a dog.", "5": "D. owl",
    "6": "答案是C", "7": "A or B", "8": "E", "9": "",
}  # fmt: skip


def choice_file(folder: Path, right: str = "ABCDBDCAAA") -> None:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    options = ["cat", "dog", "fox", "owl"]
    rows = [
        {"id": str(n), "image": "a.png", "question": "?", "options": options, "answer": a} for n, a in enumerate(right)
    ]
    write_lines(folder / "own.jsonl", rows)
    write_lines(folder / "p.jsonl", [{"id": key, "text": text} for key, text in LETTERS.items()])


def test_raw_answers_to_multiple_choice_questions_need_no_family(evalkit: Evalkit, tmp_path: Path) -> None:
    choice_file(tmp_path)
    done = evalkit("score", "-t", "own.jsonl", "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = row_of(tmp_path / "runs" / "x")
    assert (row["value"], row["unparsed"], row["n"]) == (70.0, 3, 10)
    assert "|letters:evalkit-2|choice_accuracy|" in str(row["signature"])
    assert "could not be parsed" not in done.stderr
    done = evalkit("rescore", "runs/x", cwd=tmp_path)
    assert "unchanged" in done.stderr
    with_family = evalkit(
        "score", "-t", "own.jsonl", "-p", "p.jsonl", "--family", "qwen2.5-vl", "--name", "y", cwd=tmp_path
    )
    assert with_family.returncode == 0
    assert row_of(tmp_path / "runs" / "y")["value"] == 70.0


def test_vlmevalkits_rule_is_in_signature(evalkit: Evalkit, tmp_path: Path) -> None:
    """Under its protocol, with and without a family."""
    samples = load_task("scienceqa_img", data="tiny", limit=4)
    write_lines(
        tmp_path / "p.jsonl", [{"id": s.id, "text": s.references[0]} for s in load_task("scienceqa_img", data="tiny")]
    )
    assert len(samples) == 4
    for name, more in (("a", []), ("b", ["--family", "qwen2-vl"])):
        done = evalkit(
            "score", "-t", "scienceqa_img", "--data", "tiny", "-p", "p.jsonl", "--protocol", "vlmevalkit", "--name", name,
            *more, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        row = row_of(tmp_path / "runs" / name)
        assert row["value"] == 100.0
        assert "|letters:vlmevalkit-2026-06|choice_accuracy|" in str(row["signature"])
        assert "unchanged" in evalkit("rescore", f"runs/{name}", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The picture is nice.", "they state no option; the first is “The picture is nice.”"),
        ("G", "most name no option of their question; the first is “G”"),
        ("A or B", "most name several options; the first is “A or B”"),
        ("", "most are empty"),
        ("<think>Is it A", "most are reasoning without an answer"),
    ],
)
def test_where_nearly_nothing_could_be_parsed_line_says_so(
    text: str, reason: str, evalkit: Evalkit, tmp_path: Path
) -> None:
    choice_file(tmp_path)
    write_lines(tmp_path / "p.jsonl", [{"id": str(n), "text": text} for n in range(9)] + [{"id": "9", "text": "A"}])
    done = evalkit("score", "-t", "own.jsonl", "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "could not be parsed" in line]
    assert line.startswith(f"own/own: 9 of 10 answers could not be parsed and count as wrong: {reason}")


# -------------------------------------------------------------------------------------------------------- submissions


def test_where_answers_are_not_public_submission_is_written(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    for split in ("testdev", "test"):
        write_lines(tmp_path / f"{split}.jsonl", [{"id": q, "text": split} for q in (11, 13)])
    done = evalkit(
        "score", "-t", "vqav2/testdev", "--data", str(root), "-p", "testdev.jsonl", "--name", "x", "--allow-missing",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "x"
    row = row_of(run)
    file = run / str(row["submission"])
    assert {e["question_id"]: e["answer"] for e in json.loads(file.read_text())} == {
        11: "testdev",
        12: "",
        13: "testdev",
    }
    assert (row["value"], row["ci95"], row["n"], row["errors"], row["metric"]) == (None, None, 3, 0, "vqa_accuracy")
    assert row["signature"] == "vqav2:testdev|v1|submission|n:3"
    assert "1 of 3 samples have no answer in testdev.jsonl and are empty in the submission" in done.stderr
    assert not (run / "vqav2.testdev.scores.jsonl").exists()
    assert f"the official server scores x/{file.name}" in done.stdout
    shown = evalkit("leaderboard", "--format", "csv", cwd=tmp_path).stdout
    (shown_row,) = csv.DictReader(shown.splitlines())
    assert (shown_row["value"], shown_row["submission"]) == ("", file.name)

    both = evalkit(
        "score", "-t", "vqav2/testdev,vqav2/test", "--data", str(root), "-p", "testdev.jsonl,test.jsonl",
        "--name", "both", "--allow-missing", cwd=tmp_path,
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    names = sorted(p.name for p in (tmp_path / "runs" / "both").glob("*_results.json"))
    assert names == ["test.vqav2_results.json", "testdev.vqav2_results.json"]
    assert '"test"' in (tmp_path / "runs" / "both" / names[0]).read_text()


class _Hidden(Task):
    """A task whose one split has no public answers."""

    name, version, kind, metric, default_splits = "hidden", 1, "vqa", "vqa_accuracy", ("test",)
    splits = {"test": Split(2, answers=False)}

    def load(self, data: object, split: str) -> list[Sample]:
        return [Sample(i, (), "?", (), i) for i in "ab"]


def test_run_of_hidden_split_writes_its_submission_and_no_score(tmp_path: Path) -> None:
    class Written(_Hidden):
        def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
            return "hidden.json", json.dumps({a.sample.id: a.prediction.value for a in answers})

    job = load_job(Written(), "test", open_data("tiny"), limit=None, seed=0)  # type: ignore[arg-type]
    failed = Record(job.samples[0], "", Response("a", finish="error", error="no"), Prediction(None))
    good = Record(job.samples[1], "", Response("b", "yes"), Prediction("yes"))
    result = score_job(job, [failed, good])
    assert (result.scores, result.n, result.errors) == (None, 1, 1)
    folder = RunFolder.create(tmp_path, "r")
    rows, _ = write_results(folder, [result], {})
    assert json.loads((folder.path / "hidden.json").read_text()) == {"a": None, "b": "yes"}
    entries = board.entries_of("r", "m", rows)
    assert board.grid(entries)[1][0][3] == "submission*"
    assert "± 0" not in board.to_markdown(entries)


def test_hidden_split_without_submission_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UserError, match="hidden/test: its answers are not public, and the task writes no file"):
        load_job(_Hidden(), "test", open_data("tiny"), limit=None, seed=0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="hidden/test: its answers are not public"):
        score_job(Job(_Hidden(), "test", [], limited=False), [])  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("keys", FORMATS)
@pytest.mark.parametrize("as_list", [True, False])
def test_formats_of_predictions(tmp_path: Path, keys: tuple[str, str], as_list: bool) -> None:
    rows = [{keys[0]: 391895, keys[1]: "a man", "more": [1]}, {keys[0]: "b", keys[1]: "ein Mädchen\u2028"}]
    path = tmp_path / "p"
    path.write_text(json.dumps(rows, indent=2) if as_list else "\n\n".join(map(json.dumps, rows)) + "\n")
    found = read_predictions(path)
    assert [(p.id, p.text) for p in found] == [("391895", "a man"), ("b", "ein Mädchen\u2028")]
    assert [p.place for p in found] == (["entry 1", "entry 2"] if as_list else ["line 1", "line 3"])


def test_journal_can_be_scored_like_any_predictions(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "p.jsonl", [{"id": q, "text": "yes"} for q in (11, 12, 13)])
    command = ("score", "-t", "vqav2", "--data", str(root))
    assert evalkit(*command, "-p", "p.jsonl", "--name", "a", cwd=tmp_path).returncode == 0
    assert evalkit(*command, "-p", "runs/a/vqav2.val.jsonl", "--name", "b", cwd=tmp_path).returncode == 0
    first, second = (row_of(tmp_path / "runs" / name) for name in "ab")
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


GOOD = [{"id": q, "text": "yes"} for q in (11, 12, 13)]
SENTENCES: dict[str, tuple[object, list[str], str]] = {
    "missing": (GOOD[:1], [], "p does not fit vqav2/val (3 samples): 2 samples without an answer (12, 13); --allow-missing counts them as wrong, and --skip-missing scores the others only"),
    "unknown": ([*GOOD[1:], {"id": 7, "text": ""}], [], "1 sample without an answer (11); 1 answer to an unknown sample (7); --allow-missing"),
    "many unknown": ([*GOOD[1:], *({"id": i, "text": ""} for i in range(5))], [], "5 answers to unknown samples (0, 1, 2, …)"),
    "another split's": ([{"id": 99, "text": ""}], [], "3 samples without an answer (11, 12, 13); 1 answer to an unknown sample (99); none of the ids is in this split"),
    "another split's, allowed": ([{"id": 99, "text": ""}], ["--allow-missing"], "none of the ids is in this split"),
    "twice": ([*GOOD, GOOD[1]], [], "1 id given more than once (12 in line 2 and line 4)"),
    "twice, allowed": ([*GOOD[:2], GOOD[1]], ["--allow-missing"], "1 sample without an answer (13); 1 id given more than once (12 in line 2 and line 3)"),
    "as number and text": ([*GOOD, {"id": "11", "text": ""}], [], "1 id given more than once (11 in line 1 and line 4)"),
    "nothing": ("", [], "3 samples without an answer (11, 12, 13)"),
    "no file": (None, [], "--predictions p: the file cannot be read (No such file or directory)"),
    "cut off": ('[{"id": 1', [], "p: not valid JSON"),
    "corrupt line": ('{"id": 11, "text": "a"}\n{"id"', [], "p, line 2: not valid JSON"),
    "no object": ('{"id": 11, "text": "a"}\n[1]\n', [], "p, line 2: expected a JSON object, not list"),
    "no objects": ("[1, 2]", [], "p, entry 1: expected a JSON object, not int"),
    "other fields": ([{"uid": 1, "response": ""}], [], """p, line 1: it has 'uid', 'response'; expected {"id": …, "text": …} or {"question_id": …, "text": …} or {"image_id": …, "caption": …}"""),
    "a field missing": ([*GOOD[:1], {"id": 12}], [], "p, line 2: missing key 'text'; earlier entries use 'id' and 'text'"),
    "id": ([{"id": True, "text": ""}], [], "p, line 1: id is True; expected a string or an integer"),
    "text": ([{"id": 11, "text": None}], [], 'p, line 1: text is None; expected a text or a number ("" for an empty answer)'),
    "half a character": ('{"id": 11, "text": "\\ud83d"}', [], "p, line 1: not valid JSON (no valid Unicode"),
    "bytes": (b'{"id": 11, "text": "\xff"}', [], "p, line 1: not valid JSON (no valid Unicode"),
    "nested": ("[" * 100_000, [], "p: not valid JSON (nested too deeply)"),
    "boxes as texts": (GOOD, ["-t", "refcoco/val", "--data", "tiny"], "refcoco asks for boxes, and a text alone does not say in which coordinates they are: state them with --boxes (pixels, 0-1000, 0-1, resized), or name the model family whose convention they follow with --family"),
    "unknown family": (GOOD, ["--family", "qwen2.5"], "unknown model family 'qwen2.5': did you mean qwen2.5-vl"),
    "limits without a family": (GOOD, ["--max-pixels", "99"], "--max-pixels: without --family nothing depends on the size"),
    "limits": (GOOD, ["--family", "qwen2.5-vl", "--min-pixels", "9", "--max-pixels", "3"], "--min-pixels 9 is more than --max-pixels 3"),
    "limit": (GOOD, ["--family", "qwen2.5-vl", "--max-pixels", "0"], "--max-pixels 0: give at least 1"),
    "unknown protocol": (GOOD, ["--family", "qwen2.5-vl", "--protocol", "mine"], "--protocol mine: unknown; use official, lmms-eval or vlmevalkit"),
    "protocol without a family": (GOOD, ["--protocol", "lmms-eval"], "--protocol lmms-eval: without --family, answers are final texts, which no protocol parses"),
    "a protocol that does not say": (GOOD, ["-t", "ocrvqa/test", "--family", "qwen2.5-vl", "-p", "q", "--protocol", "vlmevalkit"], "vlmevalkit has no prompt for ocrvqa; use --protocol official"),
    "two splits": (GOOD, ["-t", "vqav2/train"], "--predictions: 1 file for 2 splits; give one file for each of vqav2/val, vqav2/train, in this order"),
    "two files": (GOOD, ["-p", "q"], "--predictions: 2 files for 1 split;"),
    "kind": (GOOD, ["--kind", "vqa"], "--kind vqa: this describes a custom task file, and --tasks names none"),
    "root": (GOOD, ["--data", "/no/such"], "there is no folder /no/such"),
    "name": (GOOD, ["--name", "a/b"], "--name 'a/b': give a plain folder name"),
    "taken name": (GOOD, ["--out", ".", "--name", "root"], "the run root exists already"),
    "package": (GOOD, ["--out", "package/runs"], "is a Python package"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "arguments", "sentence"), SENTENCES.values(), ids=SENTENCES.keys())
def test_usage_errors_exit_with_2(
    evalkit: Evalkit, root: Path, tmp_path: Path, content: object, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    if isinstance(content, list):
        write_lines(tmp_path / "p", content)
    elif content is not None:
        (tmp_path / "p").write_bytes(content if isinstance(content, bytes) else str(content).encode())
    given = ["-t", "vqav2/val"] if "refcoco/val" not in arguments else []
    done = evalkit("score", *given, "--data", str(root), "-p", "p", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr + done.stdout
    assert sentence in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is left behind by a mistake"


def test_no_predictions_and_no_tasks(evalkit: Evalkit, root: Path, tmp_path: Path) -> None:
    done = evalkit("score", "-t", "vqav2", "--data", str(root), cwd=tmp_path)
    assert done.returncode == 2
    assert "no answers: give --predictions FILE for vqav2/val" in done.stderr
    done = evalkit("score", "-p", "p", cwd=tmp_path)
    assert done.returncode == 2
    assert "no task was named" in done.stderr


@pytest.mark.parametrize("verb", ["score", "rescore"])
def test_help_is_light(verb: str, tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "PIL", "pandas", "datasets")
    done = alone(verb, "--help", cwd=tmp_path, code=f"print('HEAVY', sorted(set(sys.modules) & set({heavy!r})))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []")
