"""``evalkit export`` and ``evalkit.load_run``: what is written is read back by the programs that it is for."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evalkit as package
from evalkit.api import load_task
from evalkit.data import bundled_root
from evalkit.errors import UserError
from evalkit.installation import install_command
from evalkit.results.export.model_card import data_set_of
from evalkit.results.samples.records import chosen_splits, kind_of_column, records_of
from evalkit.results.store.scored_run import ScoredRun

from ..run_folders import edit_json

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ("vqav2/val", "refcoco/val", "scienceqa_img/test", "docvqa/val")


@pytest.fixture
def run(two_runs: Path, tmp_path: Path) -> Path:
    """A copy of the run ``a`` of ``two_runs``, to be written into."""
    shutil.copytree(two_runs / "runs" / "a", tmp_path / "runs" / "a")
    return tmp_path / "runs" / "a"


def given(two_runs: Path, run: str, task: str) -> dict[str, str]:
    rows = map(json.loads, (two_runs / f"{run}-{task}.jsonl").open(encoding="utf-8"))
    return {row["id"]: row["text"] for row in rows}


# -------------------------------------------------------------------------------------------------------- in Python


def test_frame_has_one_row_per_sample_and_its_means_are_the_scores(two_runs: Path) -> None:
    run = package.load_run(two_runs / "runs" / "a")
    frame = run.to_pandas()
    assert len(frame) == sum(len(load_task(name, data="tiny")) for name in NAMES)
    for name in NAMES:
        task, split = name.split("/")
        part = frame[(frame.task == task) & (frame.split == split)]
        samples = load_task(name, data="tiny")
        assert list(part.id) == [s.id for s in samples], "in the official order"
        assert list(part.question) == [s.text for s in samples]
        row = run.scores[name]
        assert part.score.count() == row["n"]
        assert set(part.metric) == {row["metric"]}
        assert part.score.mean() == pytest.approx(row["value"])
        assert (part[f"scores.{row['metric']}"].dropna() == part.score.dropna()).all()
        assert (part.status == "error").sum() == row["errors"]
        answers = given(two_runs, "a", task)
        assert {i: t for i, t in zip(part.id, part.text, strict=True) if i in answers} == answers
    boxes = frame[frame.task == "refcoco"]
    official = {s.id: list(s.references[0]) for s in load_task("refcoco/val", data="tiny")}
    assert dict(zip(boxes.id, boxes.reference_box, strict=True)) == official
    assert boxes.references.map(len).max() == 0
    vqa = frame[frame.task == "vqav2"].set_index("id")
    for sample in load_task("vqav2/val", data="tiny"):
        assert vqa.loc[sample.id, "references"] == list(sample.references), "in the order of the files, each as often"
        assert vqa.loc[sample.id, "meta.answer_type"] == sample.meta["answer_type"]


def test_frame_of_some_tasks_without_prompts(two_runs: Path) -> None:
    run = package.load_run(str(two_runs / "runs" / "a"))
    assert set(run.to_pandas("refcoco").task) == {"refcoco"}
    some = run.to_pandas(["vqav2/val", "docvqa"], prompts=False)
    assert set(some.task) == {"vqav2", "docvqa"}
    assert some.prompt.isna().all()
    assert run.to_pandas("vqav2").prompt.str.startswith("⟨image⟩").all()
    assert list(run.scores_to_pandas().task) == [name.split("/")[0] for name in NAMES]
    with pytest.raises(UserError, match="--tasks gqa: not in"):
        run.to_pandas("gqa")
    with pytest.raises(UserError, match="is not a run folder"):
        package.load_run(two_runs)


def test_without_data_there_are_answers_and_scores(two_runs: Path, tmp_path: Path) -> None:
    frame = package.load_run(two_runs / "runs" / "a", data=tmp_path).to_pandas("docvqa")
    assert frame.question.isna().all()
    assert frame.references.isna().all()
    assert dict(zip(frame.id, frame.text, strict=True)) == given(two_runs, "a", "docvqa")
    assert frame.score.notna().all()


def test_groups_and_custom_files_name_splits(two_runs: Path) -> None:
    runs = [ScoredRun.open(two_runs / "runs" / "a")]
    assert chosen_splits(runs, []) == list(NAMES)
    assert chosen_splits(runs, ["docvqa", "vqav2/val"]) == ["vqav2/val", "docvqa/val"], "in the order of the run"
    assert chosen_splits(runs, ["vqa"]) == ["vqav2/val"]
    assert chosen_splits(runs, ["refcoco-all"]) == ["refcoco/val"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], "text"), ([1, 2], "count"), ([1, 2.5], "number"), ([True, False], "truth"), ([["a"], []], "texts"),
        ([1, "a"], "json"), ([{"a": 1}], "json"), ([None], "text"), ([True, 1], "json"), ([2**70], "json"),
    ],
)  # fmt: skip
def test_columns_of_meta_have_one_kind(values: list[Any], kind: str) -> None:
    assert kind_of_column("meta.x", values) == kind


# ------------------------------------------------------------------------------------------------------ CSV and Parquet


def test_csv_and_parquet_are_equal_and_exact(evalkit: Evalkit, two_runs: Path, run: Path) -> None:
    import pyarrow.parquet as pq

    for to, *options in (("csv", "--formulas"), ("parquet",)):
        done = evalkit("export", "runs/a", "--to", to, *options, cwd=run.parents[1])
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [f"runs/a/export/samples.{to}"]
    rows = list(csv.DictReader(io.StringIO((run / "export" / "samples.csv").read_bytes().decode(), newline="")))
    table = pq.read_table(run / "export" / "samples.parquet").to_pylist()
    records = package.load_run(run).records()
    assert len(rows) == len(table) == len(records)
    for row, line, record in zip(rows, table, records, strict=True):
        assert list(row) == list(line)
        for name, value in line.items():
            assert value == record.get(name), name
            if value is None:
                assert row[name] == ""
            elif isinstance(value, list):
                assert json.loads(row[name]) == value
            elif isinstance(value, float):
                assert float(row[name]) == value
            else:
                assert row[name] == str(value)


def test_several_runs_in_one_file(evalkit: Evalkit, two_runs: Path, tmp_path: Path) -> None:
    import pandas as pd

    out = tmp_path / "both.parquet"
    runs = [str(two_runs / "runs" / name) for name in "ab"]
    done = evalkit("export", *runs, "--to", "parquet", "-t", "docvqa", "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(out)
    wide = frame.pivot(index="id", columns="run", values="score")
    assert list(wide.columns) == ["a", "b"]
    assert wide.a.mean() == pytest.approx(ScoredRun.open(Path(runs[0])).rows["docvqa/val"].value)


# -------------------------------------------------------------------------------------------------- the hub's data set


def test_data_set_in_hubs_format_is_loaded_with_its_images(
    evalkit: Evalkit, two_runs: Path, run: Path, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    done = evalkit("export", "runs/a", "--to", "hub", "--images", "-t", "refcoco,vqav2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = datasets.load_dataset(str(run / "export" / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"refcoco.val", "vqav2.val"}
    records = {r["id"]: r for r in package.load_run(run).records("refcoco")}
    samples = {s.id: s for s in load_task("refcoco/val", data="tiny")}
    assert list(loaded["refcoco.val"]["id"]) == list(samples)
    for row in loaded["refcoco.val"]:
        (image,) = row["embedded_images"]
        original = samples[row["id"]].images[0]
        assert image.size == original.size()
        assert image.convert("RGB").tobytes() == original.load().tobytes()
        record = records[row["id"]]
        assert row["images"] == ["/".join(Path(original.name).parts[-2:])], "nothing says where they lie on this disk"
        for name in ("text", "box", "reference_box", "score", "status", "scores.iou", "meta.ref_id"):
            assert row[name] == record[name]
    assert str(Path.home()) not in (run / "export" / "dataset" / "README.md").read_text()


def test_dataset_overwrites_only_its_own_files(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    for task in ("docvqa", "vqav2"):
        done = evalkit("export", "runs/a", "--to", "hub", "-t", task, "--out", "shared", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "shared" / "data").iterdir()] == ["vqav2.val-00000.parquet"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my thesis")
    done = evalkit("export", "runs/a", "--to", "hub", "--out", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "contains other files" in done.stderr
    assert (tmp_path / "mine" / "README.md").read_text() == "my thesis"


# -------------------------------------------------------------------------------------------------- official results


def test_official_results_round_trip(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    done = evalkit("export", "runs/a", "--to", "results", "--out", "official", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["official/vqav2.val.results.json", "official/docvqa.val.results.json"]
    assert "refcoco/val, scienceqa_img/test: the official scorer reads no file of answers; skipped" in done.stderr
    for name, keys in (("vqav2", {"question_id", "answer"}), ("docvqa", {"questionId", "answer"})):
        file = f"official/{name}.val.results.json"
        entries = json.loads((tmp_path / file).read_text())
        samples = load_task(f"{name}/val", data="tiny")
        assert all(set(entry) == keys for entry in entries)
        identity = next(key for key in keys if key != "answer")
        assert [entry[identity] for entry in entries] == [int(s.id) for s in samples], "every question, in order"
        again = evalkit("score", "-t", name, "-p", file, "--data", "tiny", "--name", f"again-{name}", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        before = ScoredRun.open(run).sampled(f"{name}/val")
        after = ScoredRun.open(tmp_path / "runs" / f"again-{name}").sampled(f"{name}/val")
        assert {k: v for k, v in zip(after.ids, after.values, strict=True) if k in before.place} == dict(
            zip(before.ids, before.values, strict=True)
        )
    last = json.loads((tmp_path / "official/vqav2.val.results.json").read_text())[-1]
    assert last["answer"] == "", "a sample that failed is there, and empty"
    done = evalkit("export", "runs/a", "--to", "results", "--out", "official", cwd=tmp_path)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert evalkit("export", "runs/a", "--to", "results", "--out", "official", "--force", cwd=tmp_path).returncode == 0


def test_official_caption_scorer_reads_results_and_agrees(evalkit: Evalkit, captions: Path, tmp_path: Path) -> None:
    from pycocoevalcap.cider.cider import Cider
    from pycocotools.coco import COCO

    from evalkit.data import bundled_root
    from evalkit.metrics.text.ptb import tokenize

    samples = load_task("coco_caption/val2014", data="tiny")
    done = evalkit("export", str(captions), "--to", "results", "--out", "official", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "official").iterdir()
    truth = COCO(str(bundled_root() / "coco" / "annotations" / "captions_val2014.json"))
    found = truth.loadRes(str(file))
    ids = found.getImgIds()
    assert sorted(ids) == sorted(int(s.id) for s in samples)
    references = {i: [a["caption"] for a in truth.imgToAnns[i]] for i in ids}
    said = {i: [a["caption"] for a in found.imgToAnns[i]] for i in ids}
    order = list(ids)
    tokens = iter(tokenize([t for i in order for t in references[i]])[0])
    references = {i: [next(tokens) for _ in references[i]] for i in order}
    said = dict(zip(order, ([t] for t in tokenize([said[i][0] for i in order])[0]), strict=True))
    value, _ = Cider().compute_score(references, said)
    assert 100 * value == pytest.approx(ScoredRun.open(captions).rows["coco_caption/val2014"].value)


# ----------------------------------------------------------------------------------------------------------- model cards


def test_model_card_survives_hubs_own_reading(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    done = evalkit("export", "runs/a", "--to", "model-card", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(run / "export" / "README.md")
    scores = ScoredRun.open(run).rows
    results = card.data.eval_results
    names = {id(r): f"{r.dataset_config}/{r.dataset_split}" for r in results}
    headlines = {names[id(r)]: r for r in reversed(results) if r.metric_type == scores[names[id(r)]].metric}
    assert list(reversed(headlines)) == list(NAMES)
    for name, result in headlines.items():
        row = scores[name]
        assert result.metric_value == round(row.value, 2)
        assert result.metric_args["signature"] == row.signature
        assert result.metric_args["n"] == row.n
        low, high = result.metric_args["ci95"]
        assert low <= result.metric_value <= high
        assert result.dataset_type == "evalkit-synthetic", "the bundled data is not the benchmark"
        assert result.dataset_name == f"{name} (synthetic, bundled with evalkit)"
    assert headlines["vqav2/val"].task_type == "visual-question-answering"
    assert headlines["vqav2/val"].metric_args["errors"] == 1
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()


@pytest.mark.parametrize(
    ("data", "n", "expected"),
    [
        ("hub", 12, ("lmms-lab/VQAv2", "vqav2/val")),
        ("hub:mirror", 12, ("lmms-lab/VQAv2", "vqav2/val")),
        ("/data/vlm", 214_354, ("lmms-lab/VQAv2", "vqav2/val")),
        ("/data/vlm", 12, ("vqav2", "vqav2/val (local files)")),
        ("tiny", 324, ("evalkit-synthetic", "vqav2/val (synthetic, bundled with evalkit)")),
        (str(bundled_root()), 324, ("evalkit-synthetic", "vqav2/val (synthetic, bundled with evalkit)")),
    ],
)
def test_model_card_names_data_that_was_used(run: Path, data: str, n: int, expected: tuple[str, str]) -> None:
    scored = ScoredRun.open(run)
    scored.manifest.settings["data"] = data
    row = replace(scored.rows["vqav2/val"], n=n, errors=0)
    assert data_set_of(scored, row) == expected


def test_existing_card_keeps_everything_else(evalkit: Evalkit, two_runs: Path, tmp_path: Path) -> None:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    other = EvalResult("text-generation", "hellaswag", "HellaSwag", "acc", 71.0)
    data = ModelCardData(language="en", license="apache-2.0", model_name="Mine", eval_results=[other])
    (tmp_path / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n# Mine\n\nWords of mine.\n")
    for run in "ab":
        folder = str(two_runs / "runs" / run)
        done = evalkit("export", folder, "--to", "model-card", "-t", "docvqa", "--out", "README.md", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.strip() == "# Mine\n\nWords of mine."
    assert (card.data.license, card.data.model_name) == ("apache-2.0", "Mine")
    first, *rest = card.data.eval_results
    assert (first.dataset_type, first.metric_value) == ("hellaswag", 71.0)
    assert [r.metric_value for r in rest] == [round(ScoredRun.open(Path(folder)).rows["docvqa/val"].value, 2)]
    (tmp_path / "broken.md").write_text("---\nmodel-index: 7\n---\n")
    done = evalkit("export", folder, "--to", "model-card", "--out", "broken.md", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "broken.md").read_text() == "---\nmodel-index: 7\n---\n"


# -------------------------------------------------------------------------------------------------------------- trackers


def test_tensorboard_reads_scores_back(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shutil.copytree(run, tmp_path / "runs" / "ckpt-2000")
    shutil.copytree(run, tmp_path / "runs" / "ckpt-1000")
    for step in (1000, 2000):
        file = tmp_path / "runs" / f"ckpt-{step}" / "scores.json"
        edit_json(file, lambda content, step=step: content.update(model=f"out/ckpt-{step}"))
    done = evalkit("export", "runs/ckpt-1000", "runs/ckpt-2000", "--to", "tensorboard", "--out", "tb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2
    read = EventAccumulator(str(tmp_path / "tb"))
    read.Reload()
    row = ScoredRun.open(run).rows["docvqa/val"]
    points = read.Scalars("evalkit/docvqa.val/anls")
    assert [point.step for point in points] == [1000, 2000]
    assert points[0].value == pytest.approx(row.value)
    (low,) = {point.value for point in read.Scalars("evalkit/docvqa.val/anls/low")}
    (high,) = {point.value for point in read.Scalars("evalkit/docvqa.val/anls/high")}
    assert low < row.value < high
    assert read.Scalars("evalkit/vqav2.val/errors")[0].value == 1
    text = read.Tensors("evalkit/leaderboard")[0].tensor_proto.string_val[0].decode()
    assert "| docvqa | val | anls |" in text
    assert read.SummaryMetadata("evalkit/leaderboard").plugin_data.plugin_name == "text"


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a ``.wandb`` file: LevelDB's log format after seven bytes of its own (``:W&B``, magic, version)."""
    assert content[:4] == b":W&B"
    place, block, parts = 7, 32768, b""
    while place + 7 <= len(content):
        if block - place % block < 7:  # no room for a header: the block is padded
            place += block - place % block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        part = content[place + 7 : place + 7 + length]
        place += 7 + length
        if place > len(content):  # half written
            return
        parts = part if kind in (1, 2) else parts + part  # whole, first; middle, last
        if kind in (1, 4):
            yield parts


def written(file: Path, kind: Any) -> list[Any]:
    """All records of a run's file.  W&B's own process may write the last of them a moment after the run has ended."""
    until = time.monotonic() + 20
    while True:
        records = [kind.FromString(content) for content in wandb_records(file.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records) or time.monotonic() > until:
            return records
        time.sleep(0.1)


def objects_in(cell: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a cell of a table."""
    if isinstance(cell, dict):
        yield cell
    for inner in cell.values() if isinstance(cell, dict) else cell if isinstance(cell, list) else ():
        yield from objects_in(inner)


def test_wandb_writes_offline_run(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    places = {name: str(tmp_path / name.lower()) for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
    environment = {"WANDB_MODE": "offline", **places}
    done = evalkit(
        "export", "runs/a", "--to", "wandb", "--out", "logs", "--samples", "4", "--images", "--step", "7",
        "-t", "refcoco,docvqa", "--project", "mine", cwd=tmp_path, **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.strip()
    (file,) = folder.glob("*.wandb")
    history: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for record in written(file, wandb_internal_pb2.Record):
        for item in record.history.item:
            history["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        if record.run.run_id:
            assert record.run.project == "mine"
            config |= {update.key: json.loads(update.value_json) for update in record.run.config.update}
    rows = ScoredRun.open(run).rows
    assert history["evalkit/docvqa.val/anls"] == pytest.approx(rows["docvqa/val"].value)
    assert history["evalkit/refcoco.val/acc@0.5"] == pytest.approx(rows["refcoco/val"].value)
    assert history["_step"] == 7
    assert config["model"] == ScoredRun.open(run).model
    # Tables are uploaded as artifacts, which wait in the folder of data: each with its images and their boxes.
    kept = [file.read_bytes() for file in Path(places["WANDB_DATA_DIR"]).rglob("*") if file.is_file()]
    assert sum(content.startswith(b"\x89PNG") for content in kept) == 8
    tables = [json.loads(content) for content in set(kept) if content.startswith(b'{"_type": "table"')]
    assert sorted(len(table["data"]) for table in tables) == [4, 4]
    assert all(table["columns"][:3] == ["image", "id", "question"] for table in tables)
    positions = [
        found["position"]
        for table in tables
        for row in table["data"]
        for found in objects_in(row[0])
        if "position" in found
    ]
    official = [list(s.references[0]) for s in load_task("refcoco/val", data="tiny")]
    assert len([p for p in positions if [p["minX"], p["minY"], p["maxX"], p["maxY"]] in official]) == 4


def test_finished_run_is_logged_and_failures_are_reported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from evalkit.runner.trackers import log_run, targets_of

    said: list[str] = []
    assert log_run(run, targets_of(["tensorboard"]), said.append)
    folder = run.parent / "tensorboard" / "a"
    assert said[0].startswith(f"logged to tensorboard: {folder}/events.out.tfevents.")
    read = EventAccumulator(str(folder))
    read.Reload()
    value = ScoredRun.open(run).rows["vqav2/val"].value
    assert read.Scalars("evalkit/vqav2.val/accuracy")[0].value == pytest.approx(value)

    (run.parent / "busy").write_text("a file, no folder")
    assert not log_run(run, targets_of([f"tensorboard:{run.parent / 'busy'}"]), said.append)
    assert said[-1].startswith("not logged: ")
    assert said[-1].endswith(f"'evalkit export {run} --to tensorboard' tries again.")
    with pytest.raises(UserError, match=r"--log-to comet: unknown; use tensorboard\[:FOLDER\] or wandb\[:PROJECT\]\."):
        targets_of(["comet"])
    monkeypatch.setattr("evalkit.runner.trackers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape(f"install it with: {install_command('wandb')}")):
        targets_of(["wandb"])


@pytest.mark.slow
def test_logging_failure_does_not_affect_the_run(evalkit: Evalkit, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "busy").write_text("a file, no folder")
    done = evalkit(
        "run", "-t", "vqav2", "--limit", "3", "--data", "tiny", "--device", "cpu", "--name", "r",
        "--log-to", "tensorboard", "--log-to", "tensorboard:busy", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "logged to tensorboard: runs/tensorboard/r/events.out.tfevents." in done.stderr
    assert "not logged: " in done.stderr
    assert json.loads((tmp_path / "runs" / "r" / "manifest.json").read_text())["state"] == "complete"


# --------------------------------------------------------------------------------------------------------------- mistakes


def test_usage_errors_exit_with_2(evalkit: Evalkit, two_runs: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("mine")
    shutil.copytree(two_runs / "runs" / "b", tmp_path / "runs" / "b")
    for arguments, sentence in (
        (("nowhere", "--to", "csv"), "nowhere is not a run folder"),
        (("runs/a", "--to", "xlsx"), "--to xlsx: unknown; use one of csv, parquet, hub, results"),
        (("runs/a", "--to", "csv", "-t", "gqa"), "--tasks gqa: not in runs/a"),
        (("runs/a", "--to", "csv", "--out", "there.csv"), "there.csv exists already"),
        (("runs/a", "--to", "csv", "--out", "runs"), "--out runs is a folder; give a file's name"),
        (("runs/a", "runs/b", "--to", "csv"), "2 runs: add --out"),
        (("runs/a", "runs/a", "--to", "csv", "--out", "x"), "given twice"),
        (("runs/a", "runs/b", "--to", "results", "--out", "x"), "--to results is for a single run"),
        (("runs/a", "--to", "results", "-t", "refcoco"), "refcoco/val: the official scorer reads no file of answers"),
        (("runs/a", "--to", "csv", "--images"), "--images is for --to hub"),
        (("runs/a", "--to", "csv", "--step", "3"), "--step has no effect with --to csv"),
        (("runs/a", "--to", "hub", "--out", "there.csv"), "--out there.csv is a file; give a folder"),
    ):
        done = evalkit("export", *arguments, cwd=tmp_path)
        assert done.returncode == 2, (arguments, done.stderr)
        assert sentence in " ".join(done.stderr.split()), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert evalkit("export", "runs/a", "--to", "csv", "--out", "there.csv", "--force", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_missing_tracker_is_one_sentence(
    evalkit: Evalkit, run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name, *(m for m in sys.modules if m.startswith(f"{name}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    done = evalkit("export", "runs/a", "--to", name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(f"--to {name} needs {name}; install it with: {install_command(name)}.")


def test_lone_surrogates_and_non_finite_numbers(two_runs: Path) -> None:
    run = ScoredRun.open(two_runs / "runs" / "a")
    (found,) = records_of(run, ["docvqa/val"])
    for record in found[1]:
        json.dumps(record, ensure_ascii=False).encode()
        assert record["score"] is None or not math.isnan(record["score"])


def test_old_spelling_of_images_works(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    done = evalkit("export", "runs/a", "--to", "csv", "--pictures", cwd=tmp_path)
    assert done.returncode == 2
    assert "--images is for --to hub" in done.stderr
    assert "--pictures" not in evalkit("export", "--help", cwd=tmp_path).stdout
