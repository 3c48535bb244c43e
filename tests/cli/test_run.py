"""``evalkit run`` as a user calls it, in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from evalkit.api import load_task
from evalkit.checkpoint import bundled_folder
from evalkit.data import bundled_root
from evalkit.task_groups import expand

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def alone(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    return subprocess.run(
        [sys.executable, "-c", "from evalkit.cli import main; main()", *arguments],
        cwd=cwd, env={**base, "COLUMNS": "160", **environment}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The README's command."""
    cwd = tmp_path_factory.mktemp("main")
    return cwd, alone("run", "--tasks", "refcoco,vqav2", cwd=cwd)


def test_main_command_ends_with_leaderboard(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    cwd, done = finished
    assert done.returncode == 0, done.stderr
    assert "no --model given: evaluating the bundled tiny checkpoint" in done.stderr
    (run,) = (cwd / "runs").iterdir()
    with (run / "leaderboard.csv").open() as file:
        rows = {f"{r['task']}/{r['split']}": r for r in csv.DictReader(file)}
    assert list(rows) == ["refcoco/val", "refcoco/testA", "refcoco/testB", "vqav2/val"]
    for name, row in rows.items():
        task, split = name.split("/")
        value, low, high = (float(row[key]) for key in ("value", "low", "high"))
        width = f"± {float(row['ci95']):.2f}" if row["ci95"] else f"[{low:.1f}, {high:.1f}]"
        assert f"{value:.2f} {width}" in done.stdout
        assert low < value <= high
        assert row["errors"] == row["truncated"] == "0"
        answers = [json.loads(line) for line in (run / f"{task}.{split}.jsonl").read_text().splitlines()]
        scores = [json.loads(line) for line in (run / f"{task}.{split}.scores.jsonl").read_text().splitlines()]
        assert len(answers) == len({a["id"] for a in answers}) == len(scores) == int(row["n"]) > 100
        mean = sum(s[row["metric"]] for s in scores) / len(scores)
        assert mean == pytest.approx(float(row["value"]))
        assert f"| {task} | {split} |" in (run / "leaderboard.md").read_text()


def test_bundled_checkpoint_reaches_its_documented_scores(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    cwd, _ = finished
    (run,) = (cwd / "runs").iterdir()
    rows = {f"{r['task']}/{r['split']}": r for r in json.loads((run / "scores.json").read_text())["results"]}
    assert rows["vqav2/val"]["value"] >= 85
    for split in ("val", "testA", "testB"):
        assert rows[f"refcoco/{split}"]["value"] >= 80


def test_manifest_records_the_run(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    cwd, _ = finished
    (run,) = (cwd / "runs").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["settings"]["tasks"] == ["refcoco", "vqav2"]
    assert manifest["settings"]["data"] == "tiny"
    assert manifest["sources"]["tasks"] == "command line"
    assert manifest["sources"]["model"] == "default"
    assert manifest["model"]["model_type"] == "qwen2_5_vl"
    assert manifest["family"]["coordinates"] == "absolute pixels of the resized image"
    assert manifest["backend"]["dtype"] == "float32" or torch.cuda.is_available()


def test_leaderboard_of_two_runs(evalkit: Evalkit, finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    cwd, _ = finished
    early = evalkit("run", "--model", "tiny-early", "--tasks", "refcoco/val", "--split", "val", "--name", "e", cwd=cwd)
    assert early.returncode == 0, early.stderr
    shown = evalkit("leaderboard", "runs", "--format", "csv", cwd=cwd)
    values = {(r["model"], r["split"]): float(r["value"]) for r in csv.DictReader(shown.stdout.splitlines())}
    assert values[("tiny", "val")] - values[("tiny-early", "val")] >= 15
    table = evalkit("leaderboard", cwd=cwd).stdout
    assert "tiny-early" in table
    written = evalkit("leaderboard", "runs", "--out", "board", cwd=cwd)
    assert written.returncode == 0
    assert sorted(p.name for p in (cwd / "board").iterdir()) == [f"leaderboard.{x}" for x in ("csv", "json", "md")]


def test_images_swapped_among_samples_score_far_less(evalkit: Evalkit, tmp_path: Path) -> None:
    """The blind baseline: were the images not looked at, this would change nothing."""
    root = tmp_path / "root"
    shutil.copytree(bundled_root(), root)
    for folder in ("coco/val2014", "coco/train2014"):
        files = sorted((root / folder).iterdir())
        for source, target in zip(files, files[7:] + files[:7], strict=True):
            shutil.copy(bundled_root() / folder / source.name, target)
    done = evalkit("run", "--tasks", "refcoco/testA,vqav2", "--data", str(root), "--name", "blind", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "runs" / "blind" / "scores.json").read_text())["results"]
    values = {r["task"]: r["value"] for r in rows}
    assert values["refcoco"] < 30
    assert values["vqav2"] < 60


def counted(root: Path) -> dict[str, int]:
    """How many samples each split of the real root has, counted in its files without evalkit's loaders."""

    def read(*names: str) -> Any:
        return json.loads(root.joinpath(*names).read_text())

    found = {
        "coco_caption/test": sum(i["split"] == "test" for i in read("coco", "dataset_coco.json")["images"]),
        "vqav2/val": len(read("vqav2", "v2_mscoco_val2014_annotations.json")["annotations"]),
        "gqa/testdev_balanced": len(read("gqa", "testdev_balanced_questions.json")),
        "textvqa/val": len(read("textvqa", "TextVQA_0.5.1_val.json")["data"]),
        "docvqa/val": len(read("docvqa", "val_v1.0_withQT.json")["data"]),
    }
    for name in expand(["refcoco-all"]):
        task, _, split = name.partition("/")
        with next((root / task).glob("refs(*).p")).open("rb") as file:
            refs = pickle.load(file)
        found[name] = sum(len(ref["sentences"]) for ref in refs if ref["split"] == split)
    return found


def test_real_photographs(evalkit: Evalkit, real_root: str, tmp_path: Path) -> None:
    tasks = "coco_caption,vqav2,gqa,textvqa,docvqa,refcoco-all"
    done = evalkit("run", "--tasks", tasks, "--data", real_root, "--name", "real", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "runs" / "real" / "scores.json").read_text())["results"]
    counts = {f"{r['task']}/{r['split']}": r["n"] for r in rows}
    assert counts == counted(Path(real_root))
    assert sum(n == 0 for n in counts.values()) == 5  # its images are all in three of the eight splits of RefCOCO
    assert all((r["value"] is None) == (r["n"] == 0) for r in rows)
    assert all(r["errors"] == 0 for r in rows)
    assert "nan" not in done.stdout
    assert "–" in done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the bundled data, to be corrupt."""
    return Path(shutil.copytree(bundled_root(), tmp_path / "root"))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


IMAGE = "COCO_val2014_000000000002.jpg"


def test_image_corrupted_during_a_run_is_an_error(evalkit: Evalkit, tmp_path: Path, root: Path) -> None:
    halve(root / "coco" / "val2014" / IMAGE)  # its header is whole: that it is torn shows when it is decoded
    done = evalkit("run", "--tasks", "vqav2", "--data", str(root), "--name", "x", cwd=tmp_path)
    assert done.returncode == 1
    assert "5 samples failed" in done.stderr
    assert "Traceback" not in done.stderr
    (row,) = json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]
    assert (row["errors"], row["n"]) == (5, 319)
    assert json.loads((tmp_path / "runs" / "x" / "manifest.json").read_text())["state"] == "incomplete"
    assert "*" in done.stdout


def test_images_known_to_be_missing_can_be_left_out(evalkit: Evalkit, tmp_path: Path, root: Path) -> None:
    (root / "coco" / "val2014" / IMAGE).unlink()
    command = ("run", "--tasks", "vqav2", "--data", str(root), "--name", "x", "--allow-missing")
    assert evalkit(*command, cwd=tmp_path).returncode == 1
    (row,) = json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]
    assert (row["errors"], row["n"]) == (5, 319)


VQAV2, TEXTVQA, DOCVQA = (
    "vqav2/v2_mscoco_val2014_annotations.json", "textvqa/TextVQA_0.5.1_val.json", "docvqa/val_v1.0_withQT.json",
)  # fmt: skip
DAMAGED: dict[str, tuple[str, str, Callable[[Path], object], str]] = {
    "missing": ("vqav2", VQAV2, Path.unlink, "no v2_mscoco_val2014_annotations.json under"),
    "a folder": ("vqav2", VQAV2, lambda p: (p.unlink(), p.mkdir()), "annotations.json: the file cannot be read"),
    "truncated": ("vqav2", VQAV2, halve, "annotations.json is not valid JSON"),
    "truncated pickle": ("refcoco", "refcoco/refs(unc).p", halve, "refs(unc).p is not a readable annotation pickle"),
    "truncated captions": ("coco_caption", "coco/dataset_coco.json", halve, "dataset_coco.json is not valid JSON"),
    "another format": ("vqav2", VQAV2, lambda p: p.write_text("[]"), "expected the official v2_OpenEnded"),
    "no list": ("docvqa", DOCVQA, lambda p: p.write_text("{}"), "withQT.json has no list of questions under 'data'"),
    "no answers": (
        "vqav2", VQAV2, lambda p: edit(p, lambda d: d["annotations"][3].update(answers=[])),
        "question 1003 in v2_mscoco_val2014_annotations.json has no answers to score against",
    ),
    "no annotation": (
        "vqav2", VQAV2, lambda p: edit(p, lambda d: d["annotations"].pop()),
        "has no entry in v2_mscoco_val2014_annotations.json",
    ),
    "no answers, TextVQA": (
        "textvqa", TEXTVQA, lambda p: edit(p, lambda d: d["data"][0].update(answers=[])),
        "in TextVQA_0.5.1_val.json has no answers to score against",
    ),
    "no answers, DocVQA": (
        "docvqa", DOCVQA, lambda p: edit(p, lambda d: d["data"][0].pop("answers")),
        "val_v1.0_withQT.json has no answers, so split val cannot be scored",
    ),
    "no captions": (
        "coco_caption", "coco/dataset_coco.json", lambda p: edit(p, lambda d: d["images"][0].update(sentences=[])),
        "in dataset_coco.json has no captions to score against",
    ),
    "absent image": ("vqav2", f"coco/val2014/{IMAGE}", Path.unlink, f"{IMAGE} is missing; complete the download"),
    "broken image": (
        "vqav2", f"coco/val2014/{IMAGE}", lambda p: p.write_bytes(b"torn"),
        f"{IMAGE} cannot be read (corrupt, or in none of the formats JPEG, PNG",
    ),
    "no images": (
        "vqav2", "coco/val2014", lambda p: (shutil.rmtree(p), p.mkdir()),
        "images are missing or unreadable); complete the download",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("task", "file", "damage", "sentence"), DAMAGED.values(), ids=DAMAGED.keys())
def test_corrupt_data_gets_sentence_and_exit_code_2(
    evalkit: Evalkit, tmp_path: Path, root: Path, task: str, file: str, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(root / file)
    done = evalkit("run", "--tasks", task, "--data", str(root), cwd=tmp_path)
    assert done.returncode == 2, done.stderr + done.stdout
    assert sentence in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is left behind by a mistake"


def test_split_without_public_answers_becomes_official_file(evalkit: Evalkit, tmp_path: Path, root: Path) -> None:
    questions = json.loads((root / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json").read_text())["questions"][
        :20
    ]
    content = json.dumps({"questions": questions})
    for name in ("test-dev2015", "test2015"):
        (root / "vqav2" / f"v2_OpenEnded_mscoco_{name}_questions.json").write_text(content)
    (root / "coco" / "test2015").mkdir()
    for image in {q["image_id"] for q in questions}:
        shutil.copy(
            root / "coco" / "val2014" / f"COCO_val2014_{image:012d}.jpg",
            root / "coco" / "test2015" / f"COCO_test2015_{image:012d}.jpg",
        )
    done = evalkit("run", "--tasks", "vqav2/testdev", "--data", str(root), "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]
    assert (row["value"], row["n"], row["errors"]) == (None, 20, 0)
    assert "the official server scores" in done.stdout
    answers = json.loads((tmp_path / "runs" / "x" / row["submission"]).read_text())
    assert [a["question_id"] for a in answers] == [q["question_id"] for q in questions]
    said = [json.loads(line) for line in (tmp_path / "runs" / "x" / "vqav2.testdev.jsonl").read_text().splitlines()]
    assert {str(a["question_id"]): a["answer"] for a in answers} == {line["id"]: line["answer"] for line in said}


def mirrored(root: Path, count: int) -> Path:
    """A few bundled VQAv2 questions as the hub's data set has them: parquet, the image in every row."""
    samples = load_task("vqav2/val", data="tiny", limit=count)
    images = datasets.Features({**FEATURES, "image": datasets.Image()})
    rows = [
        {
            "question_id": int(s.id), "image_id": int(s.cluster), "question": s.text, "question_type": "what",
            "answer_type": s.meta["answer_type"], "multiple_choice_answer": s.references[0],
            "answers": [
                {"answer": a, "answer_confidence": "yes", "answer_id": n} for n, a in enumerate(s.references, start=1)
            ],
            "image": {"bytes": Path(s.images[0].name).read_bytes(), "path": None},
        }
        for s in samples
    ]  # fmt: skip
    folder = root / "lmms-lab" / "VQAv2" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=images).to_parquet(folder / "validation-00000-of-00001.parquet")
    return root


FEATURES = {
    "question_id": datasets.Value("int64"), "image_id": datasets.Value("int64"), "question": datasets.Value("string"),
    "question_type": datasets.Value("string"), "answer_type": datasets.Value("string"),
    "multiple_choice_answer": datasets.Value("string"),
    "answers": [
        {
            "answer": datasets.Value("string"), "answer_confidence": datasets.Value("string"),
            "answer_id": datasets.Value("int64"),
        }
    ],
}  # fmt: skip


def test_hubs_format_gives_same_answers_and_score(evalkit: Evalkit, tmp_path: Path) -> None:
    """Run, scored elsewhere and rescored: the mirror's rows instead of the official files."""
    mirror = f"hub:{mirrored(tmp_path / 'mirror', 20)}"
    command = ("run", "--tasks", "vqav2", "--model", "tiny")
    assert evalkit(*command, "--data", mirror, "--name", "hub", cwd=tmp_path).returncode == 0
    assert evalkit(*command, "--data", "tiny", "--limit", "20", "--name", "files", cwd=tmp_path).returncode == 0
    hub, files = (tmp_path / "runs" / name for name in ("hub", "files"))
    answers = [
        {row["id"]: (row["text"], row["digests"]) for row in map(json.loads, (run / "vqav2.val.jsonl").open())}
        for run in (hub, files)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 20
    values = [json.loads((run / "scores.json").read_text())["results"][0]["value"] for run in (hub, files)]
    assert values[0] == values[1]
    again = evalkit(*command, "--data", mirror, "--name", "hub", cwd=tmp_path)
    assert "vqav2/val: 0 answered in" in again.stderr, "images in rows have digests too"
    assert "vqav2/val: unchanged" in evalkit("rescore", "runs/hub", cwd=tmp_path).stderr

    lines = [json.dumps({"id": key, "text": text}) + "\n" for key, (text, _) in answers[0].items()]
    (tmp_path / "p.jsonl").write_text("".join(lines))
    done = evalkit("score", "--tasks", "vqav2", "--data", mirror, "-p", "p.jsonl", "--name", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "s" / "scores.json").read_text())["results"][0]["value"] == values[0]


def test_limit_split_and_settings_file(evalkit: Evalkit, tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text('tasks = "refcoco"\nlimit = 4\nbatch_size = 3\nname = "f"\n')
    done = evalkit("run", "--split", "testB", "--limit", "6", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "runs" / "f" / "scores.json").read_text())["results"]
    assert (row["split"], row["n"], row["limited"]) == ("testB", 6, True)
    manifest = json.loads((tmp_path / "runs" / "f" / "manifest.json").read_text())
    assert (manifest["settings"]["batch_size"], manifest["sources"]["batch_size"]) == (3, "evalkit.toml")


def test_several_models_make_several_runs_and_one_table(evalkit: Evalkit, tmp_path: Path) -> None:
    copy = tmp_path / "ckpt-1000"
    shutil.copytree(bundled_folder("tiny-early"), copy)
    done = evalkit("run", "-m", f"tiny,{copy}", "-t", "vqav2", "--data", "tiny", "--limit", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert "tiny" in done.stdout
    assert "ckpt-1000" in done.stdout


CASES = {
    "unknown task": (["--tasks", "refcocoo"], "unknown task 'refcocoo': did you mean refcoco"),
    "unknown split": (["--tasks", "vqav2/testA"], "task vqav2 has no split 'testA'"),
    "workers of nobody": (["--tasks", "vqav2", "--workers", "2"], "only for --executor ray"),
    "unknown executor": (["--tasks", "vqav2", "--executor", "dask"], "--executor dask: unknown; use local or ray"),
    "half a GPU more": (
        ["--tasks", "vqav2", "--executor", "ray", "--gpus-per-worker", "1.5"], "give a whole number, or a fraction of one GPU"
    ),
    "no task": ([], "no task was named: give --tasks"),
    "missing root": (["--tasks", "vqav2", "--data", "/no/such/root"], "there is no folder /no/such/root"),
    "wrong layout": (["--tasks", "vqav2", "--data", "."], "no v2_OpenEnded_mscoco_val2014_questions.json under"),
    "no checkpoint": (["--tasks", "vqav2", "--model", "./empty"], "is not a checkpoint: it has no config.json"),
    "no such folder": (["--tasks", "vqav2", "--model", "./absent"], "there is no such folder"),
    "a file": (["--tasks", "vqav2", "--model", "./file"], "is a file; give the checkpoint's folder"),
    "no such name": (["--tasks", "vqav2", "--model", "tinny"], "nor a bundled checkpoint (tiny, tiny-early)"),
    "unknown hub id": (["--tasks", "vqav2", "--model", "nobody/nothing"], "could not be read from the hub"),
    "architecture": (
        ["--tasks", "vqav2", "--model", "./bert", "--data", "tiny"],
        "the architecture 'bert' is not supported",
    ),
    "only pickled weights": (["--tasks", "vqav2", "--model", "./pickled"], "has no *.safetensors weights"),
    "corrupt config": (["--tasks", "vqav2", "--model", "./corrupt"], "config.json is not valid JSON"),
    "limit 0": (["--tasks", "vqav2", "--limit", "0"], "--limit 0: give at least 1"),
    "limit text": (["--tasks", "vqav2", "--limit", "many"], "--limit"),
    "batch size 0": (["--tasks", "vqav2", "--batch-size", "0"], "--batch-size 0: give at least 1, or auto"),
    "dtype": (["--tasks", "vqav2", "--dtype", "int3"], "--dtype int3: unknown; use auto"),
    "device": (["--tasks", "vqav2", "--device", "abacus"], "--device abacus: no such device"),
    "backend": (["--tasks", "vqav2", "--backend", "magic"], "unknown backend 'magic'"),
    "option": (["--taks", "vqav2"], "there is no option --taks: did you mean --tasks"),
    "package": (["--tasks", "vqav2", "--limit", "1", "--out", "./package/runs"], "is a Python package"),
    "taken name": (["--tasks", "vqav2", "--limit", "1", "--out", ".", "--name", "bert"], "exists already"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), CASES.values(), ids=CASES.keys())
def test_usage_errors_exit_with_2(evalkit: Evalkit, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    for name in ("empty", "bert", "pickled", "corrupt", "package"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "bert" / "model.safetensors").touch()
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    (tmp_path / "pickled" / "pytorch_model.bin").touch()
    (tmp_path / "corrupt" / "config.json").write_text("{")
    done = evalkit("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr + done.stdout
    assert sentence in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_gpu(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit("run", "--tasks", "vqav2", "--device", "cuda", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: --device cuda: this machine (or this torch) has no CUDA GPU" in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is left behind by a mistake"
