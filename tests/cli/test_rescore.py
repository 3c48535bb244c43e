"""``evalkit rescore`` as a user calls it, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from evalkit.api import load_task
from evalkit.data import bundled_root
from evalkit.results.store.journal import seal

from ..run_folders import edit_json
from .conftest import moved

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

BOX = '{{"bbox_2d": [{0}, {0}, 40, 40]}}'


def alone(*arguments: str, cwd: Path, code: str = "pass") -> subprocess.CompletedProcess[str]:
    """The command line; ``code`` runs after it, in the same process."""
    base = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    program = f"import sys\nfrom evalkit.cli import main\ntry:\n    main()\nfinally:\n    {code}"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd, env={**base, "COLUMNS": "160"}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def sealed(line: dict[str, object]) -> bytes:
    """A journal line that has been edited, with its checksum made right again."""
    body = {key: value for key, value in line.items() if key not in ("sum", "seconds")}
    return seal(json.dumps(body).encode(), 0.0)


def contents(run: Path, *, without: Sequence[str] = ("manifest.json", ".lock", "log.txt")) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(run.iterdir()) if p.name not in without}


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def made(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every test here begins with: a folder with a scored run and its data."""
    tmp_path = tmp_path_factory.mktemp("made")
    shutil.copytree(bundled_root(), tmp_path / "data")
    vqa = [{"id": s.id, "text": s.references[0]} for s in load_task("vqav2/val", data="tiny")]
    boxes = [{"id": s.id, "text": BOX.format(n % 7)} for n, s in enumerate(load_task("refcoco/val", data="tiny"))]
    for name, rows in (("vqa", vqa), ("boxes", boxes)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit(
        "score", "-t", "vqav2/val,refcoco/val", "-p", "vqa.jsonl,boxes.jsonl", "--data", "data", "--name", "r",
        "--family", "qwen2.5-vl", "--max-pixels", "15360", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A scored run over VQAv2 val and RefCOCO val in ``runs/r``, its data beside it under a relative path."""
    moved(made, tmp_path)
    return tmp_path / "runs" / "r"


def rows_of(run: Path) -> dict[str, dict[str, object]]:
    return {r["task"]: r for r in json.loads((run / "scores.json").read_text())["results"]}


def test_rescoring_an_unchanged_run_changes_nothing(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    (tmp_path / "elsewhere").mkdir()
    done = alone(
        "rescore", str(run), cwd=tmp_path / "elsewhere",
        code="print('TORCH', sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "TORCH []" in done.stdout
    assert "vqav2/val: unchanged" in said(done)
    assert "refcoco/val: unchanged" in said(done)
    assert contents(run) == before
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["rescored"]["data"] == str(tmp_path / "data")


def test_corrupt_or_deleted_scores_are_restored(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    before = contents(run)
    assert before["vqav2.val.scores.jsonl"]
    (run / "scores.json").write_text('{"schema": 1, "resu')
    for name in ("vqav2.val.scores.jsonl", "leaderboard.md", "leaderboard.csv"):
        (run / name).unlink()
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "scores.json is corrupt; rewriting it" in said(done)
    assert "vqav2/val: scored for the first time" in said(done)
    after = contents(run)
    assert after.keys() == before.keys()
    for name, text in before.items():
        if name.endswith(".jsonl"):
            assert after[name] == text, name
    assert [{**r, "seconds": 0} for r in rows_of(run).values()] == [
        {**r, "seconds": 0} for r in json.loads(before["scores.json"])["results"]
    ]


def test_changes_are_reported(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    """Annotations that were corrected since: the first two questions have other answers now."""
    samples = load_task("vqav2/val", data="tiny")
    file = tmp_path / "data" / "vqav2" / "v2_mscoco_val2014_annotations.json"
    content = json.loads(file.read_text())
    changed = [samples[0].id, samples[1].id]
    for annotation in content["annotations"]:
        if str(annotation["question_id"]) in changed:
            for answer in annotation["answers"]:
                answer["answer"] = "something else"
    file.write_text(json.dumps(content))
    old = rows_of(run)
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    new = rows_of(run)
    assert new["vqav2"]["value"] < old["vqav2"]["value"]  # type: ignore[operator]
    assert new["refcoco"] == old["refcoco"]
    sentence = (
        f"vqav2/val: accuracy {old['vqav2']['value']:.2f} → {new['vqav2']['value']:.2f}; "
        f"2 of {len(samples):,} samples changed ({', '.join(changed)})"
    )
    assert sentence in said(done)
    assert "refcoco/val: unchanged" in said(done)
    assert f"{new['vqav2']['value']:.2f} ± " in done.stdout
    assert "vqav2/val: unchanged" in said(evalkit("rescore", str(run), cwd=tmp_path))


def test_raw_answers_are_parsed_with_recorded_sizes(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    """The journal's raw text and image sizes count, not the answer read at the time."""
    journal = run / "refcoco.val.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    references = {s.id: s.references[0] for s in load_task("refcoco/val", data="tiny")}
    for row in rows:
        row["answer"] = None
        row["frames"][0]["resized"] = [1000, 1000]
        (width, height), (x1, y1, x2, y2) = row["frames"][0]["original"], references[row["id"]]
        box = [x1 * 1000 / width, y1 * 1000 / height, x2 * 1000 / width, y2 * 1000 / height]
        row["text"] = json.dumps({"bbox_2d": [round(v, 2) for v in box]})
    journal.write_bytes(b"".join(sealed(row) for row in rows))
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows_of(run)["refcoco"]["value"] == 100.0
    assert rows_of(run)["refcoco"]["unparsed"] == 0


def test_truncated_last_line_is_dropped_and_reported(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    journal = run / "vqav2.val.jsonl"
    whole = journal.read_bytes()
    last = len(whole[:-1].rpartition(b"\n")[0]) + 1
    journal.write_bytes(whole[: last + 25])
    n = rows_of(run)["vqav2"]["n"]
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "vqav2.val.jsonl: the last line is truncated and was ignored" in said(done)
    assert "refcoco.val.jsonl" not in said(done)
    row = rows_of(run)["vqav2"]
    assert (row["n"], row["errors"]) == (n - 1, 1)  # type: ignore[operator]
    assert f"n {n} → {row['n']}" in said(done)
    lost = json.loads(whole[last:])["id"]
    assert f"errors 0 → 1; signature {row['signature'].rpartition('n:')[0]}n:{n} → {row['signature']}; " in said(done)  # type: ignore[attr-defined]
    assert f"1 of {n} samples changed ({lost})" in said(done)

    # A last line that is whole but for its line break is an answer like any other.
    journal.write_bytes(whole[:-1])
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cut off" not in done.stderr
    assert rows_of(run)["vqav2"]["n"] == n


def test_errors_truncation_and_repeats_are_kept(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    journal = run / "vqav2.val.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    rows[0] |= {"finish": "error", "text": "", "error": "OSError: gone"}
    rows[1] |= {"finish": "length"}
    rows[2] |= {"text": "  "}
    again = {**rows[3], "text": "no such answer"}
    journal.write_bytes(b"".join(sealed(row) for row in [*rows, again]))
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    row = rows_of(run)["vqav2"]
    assert (row["n"], row["errors"], row["truncated"], row["unparsed"]) == (len(rows) - 1, 1, 1, 1)
    scores = [json.loads(line) for line in (run / "vqav2.val.scores.jsonl").read_text().splitlines()]
    values = {score["id"]: score["accuracy"] for score in scores}
    assert rows[0]["id"] not in values
    assert values[rows[2]["id"]] == values[rows[3]["id"]] == 0


def test_limited_run_keeps_its_limit(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"] |= {"seed": 3}
    manifest["splits"] = {"vqav2/val": {**manifest["splits"]["vqav2/val"], "limit": 5}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    chosen = {s.id for s in load_task("vqav2/val", data="tiny", limit=5, seed=3)}
    journal = run / "vqav2.val.jsonl"
    kept = [line for line in journal.read_text().splitlines(keepends=True) if json.loads(line)["id"] in chosen]
    journal.write_text("".join(kept))
    done = evalkit("rescore", str(run), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = rows_of(run)["vqav2"]
    assert (row["n"], row["limited"], row["errors"]) == (5, True, 0)


def test_run_over_a_custom_file(evalkit: Evalkit, tmp_path: Path) -> None:
    shutil.copy(bundled_root() / "coco" / "val2014" / "COCO_val2014_000000000001.jpg", tmp_path / "a.jpg")
    (tmp_path / "mine.jsonl").write_text('{"id": 1, "image": "a.jpg", "question": "?", "answers": ["yes"]}\n')
    (tmp_path / "p.jsonl").write_text('{"id": 1, "text": "Yes "}\n')
    command = ("score", "-t", "mine.jsonl", "--kind", "document", "-p", "p.jsonl", "--name", "x")
    assert evalkit(*command, cwd=tmp_path).returncode == 0
    (tmp_path / "below").mkdir()
    done = evalkit("rescore", "../runs/x", cwd=tmp_path / "below")
    assert done.returncode == 0, done.stderr
    assert "mine/own: unchanged" in said(done)
    with (tmp_path / "mine.jsonl").open("a") as file:
        file.write("\n")
    done = evalkit("rescore", "runs/x", cwd=tmp_path)
    assert "mine/own: signature mine:own|v1|file:" in said(done)


def test_submission_is_written_again(evalkit: Evalkit, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("vqav2", "coco/test2015"):
        (root / folder).mkdir(parents=True)
    question = {"question_id": 5, "image_id": 1, "question": "?"}
    (root / "vqav2" / "v2_OpenEnded_mscoco_test-dev2015_questions.json").write_text(
        json.dumps({"questions": [question]})
    )
    (tmp_path / "p.jsonl").write_text('{"id": 5, "text": "yes"}\n')
    done = evalkit("score", "-t", "vqav2/testdev", "--data", "root", "-p", "p.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "runs" / "x" / str(rows_of(tmp_path / "runs" / "x")["vqav2"]["submission"])
    written = file.read_text()
    assert '"yes"' in written
    file.unlink()
    done = evalkit("rescore", "runs/x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == written
    assert "vqav2/testdev: unchanged" in said(done)


def test_run_of_first_schema_is_read(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    """Its lines had no checksum, its manifest one list of jobs and one limit, and its signatures no protocol."""
    file = run / "scores.json"
    edit_json(file, lambda content: None)  # without a checksum
    file.write_text(file.read_text().replace("|protocol:official|", "|").replace("|parsing:3|", "|"))
    before = contents(run)
    for name in ("vqav2.val.jsonl", "refcoco.val.jsonl"):
        rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for row in rows:
            del row["sum"], row["seconds"], row["digests"]
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["splits"]
    manifest |= {"schema": 1, "jobs": ["vqav2/val", "refcoco/val"]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    for _ in range(2):
        done = evalkit("rescore", str(run), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "vqav2/val: unchanged" in said(done)
        assert contents(run)["vqav2.val.scores.jsonl"] == before["vqav2.val.scores.jsonl"]
        assert json.loads((run / "manifest.json").read_text())["schema"] == 1, "its journals are what they were"


@pytest.mark.slow
def test_run_of_bundled_checkpoint(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit("run", "-t", "refcoco/val,vqav2", "--limit", "6", "--data", "tiny", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = contents(tmp_path / "runs" / "x")
    done = evalkit("rescore", "runs/x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "refcoco/val: unchanged" in said(done)
    assert "vqav2/val: unchanged" in said(done)
    assert contents(tmp_path / "runs" / "x") == before


# ----------------------------------------------------------------------------------------------------------- refusals


def _replace(run: Path, name: str, old: str, new: str) -> None:
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(re.sub('  "checksum": "[0-9a-f]{16}",\n', "", text).replace(old, new, 1))


def _edit(run: Path, name: str, **changes: object) -> None:
    """Change fields of the first line (None: take away), its checksum with it."""
    first, *rest = (run / name).read_bytes().splitlines(keepends=True)
    line = {key: value for key, value in {**json.loads(first), **changes}.items() if value is not None}
    (run / name).write_bytes(b"".join([sealed(line), *rest]))


def _append(run: Path, name: str, text: str) -> None:
    with (run / name).open("a") as file:
        file.write(text)


DAMAGE = {
    "no run": (lambda run: (run / "manifest.json").unlink(), "is not a run folder (no manifest.json)"),
    "corrupt manifest": (lambda run: (run / "manifest.json").write_text("{"), "manifest.json is not a manifest that evalkit wrote"),
    "manifest of something else": (lambda run: (run / "manifest.json").write_text('{"schema": 1}'), "manifest.json is not a manifest that evalkit wrote (it has no settings)"),
    "newer manifest": (lambda run: _replace(run, "manifest.json", '"schema": 2', '"schema": 9'), "manifest.json has schema 9, and this evalkit reads up to 2; upgrade evalkit"),
    "settings": (lambda run: _replace(run, "manifest.json", '"seed": 0', '"sed": 0'), "manifest.json is corrupt (KeyError('seed'))"),
    "unknown task": (lambda run: _replace(run, "manifest.json", '"reference": "vqav2/val"', '"reference": "vqav9/val"'), "unknown task 'vqav9'"),
    "unknown family": (lambda run: _replace(run, "manifest.json", '"name": "qwen2.5-vl"', '"name": "qwen9"'), "unknown model family 'qwen9'"),
    "no family for boxes": (lambda run: _replace(run, "manifest.json", '"family": {', '"family": null, "was": {'), "refcoco asks for boxes"),
    "data gone": (lambda run: shutil.rmtree(run.parents[1] / "data"), "there is no folder"),
    "no journal": (lambda run: (run / "vqav2.val.jsonl").unlink(), "vqav2.val.jsonl cannot be read (No such file or directory)"),
    "a line in the middle": (lambda run: _replace(run, "vqav2.val.jsonl", '"text": "', '"text": "x'), "vqav2.val.jsonl: line 1 is corrupt (its checksum is wrong); restore the file, or resume the run"),
    "no JSON": (lambda run: (run / "vqav2.val.jsonl").write_bytes(seal(b'{"finish: "stop"}', 0.0)), "line 1 is corrupt ("),
    "a last line that is whole": (lambda run: _append(run, "vqav2.val.jsonl", '{"id": "1\n'), " is corrupt ("),
    "a field gone": (lambda run: _edit(run, "refcoco.val.jsonl", frames=None), "refcoco.val.jsonl: line 1 is corrupt (it has no 'frames'); restore the file"),
    "a wrong field": (lambda run: _edit(run, "refcoco.val.jsonl", frames=[{"original": [1, 1], "resized": [0, 1]}]), "refcoco.val.jsonl: line 1 is corrupt ("),
    "a wrong finish": (lambda run: _edit(run, "vqav2.val.jsonl", finish="stopped"), "line 1 is corrupt (finish is not what evalkit writes)"),
    "no object": (lambda run: _replace(run, "vqav2.val.jsonl", "{", "7\n{"), "line 1 is corrupt (its checksum is wrong)"),
    "other samples": (lambda run: _edit(run, "vqav2.val.jsonl", id="x"), "has 1 answer to a sample that vqav2/val lacks (x"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_gets_sentence_and_exit_code_2(
    evalkit: Evalkit, run: Path, tmp_path: Path, damage: object, sentence: str
) -> None:
    damage(run)  # type: ignore[operator]
    before = contents(run, without=())
    done = evalkit("rescore", "runs/r", cwd=tmp_path)
    assert done.returncode == 2, done.stderr + done.stdout
    assert sentence in said(done), done.stderr
    assert "Traceback" not in done.stderr
    assert contents(run, without=()) == before, "a run that cannot be scored again stays as it was"


def test_moved_data_can_be_given(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    done = evalkit("rescore", "runs/r", "--data", "moved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "vqav2/val: unchanged" in said(done)


def test_missing_run_folder(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit("rescore", "runs/none", cwd=tmp_path)
    assert done.returncode == 2
    assert "runs/none is not a run folder" in done.stderr
