"""Runs, baselines and journals written by evalkit as it was at commit 54ec510 are read, continued and compared.

Everything goes through the command line; ``54ec510/README.md`` says how the files were made.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoint import bundled_folder

OLD = Path(__file__).with_name("54ec510")
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
SEVERAL = "refcoco/val,vqav2,docvqa,scienceqa_img,textvqa"
MINE = "/proc/self/cwd/mine.jsonl"
# 54ec510 named the images of custom task files, and digested their samples, by absolute paths.
BY_CONTENT = {
    "/proc/self/cwd/pictures/": "pictures/",
    "d92b2e806af8e484401d3a7c29d9b206": "3b8efc9d5e828e0851ccff943e7dc176",
    "d92b2e806af8e484": "3b8efc9d5e828e08",
}
# What make.sh ran, without --name and --device; a run is named after its folder.
COMMANDS = {
    "complete": f"--tasks {SEVERAL} --limit 12",
    "early": f"--tasks {SEVERAL} --limit 12 --model tiny-early",
    "captions": "--tasks coco_caption/val2014 --limit 4",
    "grounding": "--tasks refcoco-all --limit 2",
    "shots": "--tasks refcoco/val,vqav2 --limit 5 --shots 2",
    "similar": "--tasks vqav2 --limit 4 --shots 1 --shots-by similar",
    "likelihood": "--tasks scienceqa_img --limit 12 --choice loglikelihood",
    "drawn": "--tasks vqav2,textvqa --limit 6 --temperature 0.7 --seed 3 --max-new-tokens 8",
    "lmms": "--tasks refcoco/val,scienceqa_img --limit 4 --protocol lmms-eval --max-pixels 20000",
    "unanswered": "--tasks docvqa/test,chartqa --data data",
    "anywhere": f"--tasks {MINE}",
}
SERVED = "--tasks vqav2,refcoco/val --backend server --data tiny --family qwen2.5-vl"
KINDS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "captions" else name  # its scorer is a Java program
    for name in COMMANDS
]

RESCORED = ("vqa_accuracy|norm:official|loo:entry|v1", "vqa_accuracy|norm:normalised|loo:entry|v2")
"""The signature of VQA accuracy before and after its headline became the one that normalises every answer."""
PARSED = re.compile(r"(\|protocol:[^|]+\|(?:(?:shots|choice|decoding):[^|]+\|)*)(?!parsing:)(?=\w)")
"""Where a signature names the version of the rules that parsed raw answers."""
MEAN = ("refcoco-all:mean|splits:8|f1804df1b1fe", "refcoco-all:mean|splits:8|59e78f9fbdaf")
"""A mean's signature holds a digest of those of its splits."""
LETTERS = ("choice_accuracy|", "letters:evalkit-2|choice_accuracy|")
"""The signature of choice accuracy before and after the rule that reads letters had a name."""
LMMS_EVAL = ("choice_accuracy|", "letters:lmms-eval-75571cf-scienceqa|choice_accuracy|")
"""The same under the protocol lmms-eval, which has a rule of its own for ScienceQA now."""
VALUES = {"accuracy_normalised": "accuracy_official_script"}
REWORDED = {
    "the signs of whole images are flipped.": "that flips signs per image.",
    "paired permutation test; that": "paired permutation test that",
    "takes the questions of one image as independent": "treats the questions about an image as independent",
    "difference that this many samples show 80 % of the time": "difference found with 80 % power in this many samples",
    "how many samples would show a true difference as large as the observed one in the same way.": (
        "the number of samples for the same power, if the observed difference is the true one."
    ),
    "fails where a paired permutation test says worse": "fails if a paired permutation test finds the run worse",
    "(one-sided, corrected over the tasks) and the drop is more than": "(one-sided, corrected over the tasks) by more than",
    "tolerance: a score may be 1 lower.": "tolerance: a score may be lower by up to 1.",
    "every answer must be the baseline's.": "every answer must equal the baseline's.",
}
"""Sentences of 54ec510, in part, and as they are now."""
ADDED = ("reasoning", "reasoning_tokens", "answer_tokens", "final")
"""Columns and keys that 54ec510 did not have."""

Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoints as 54ec510 had them."""
    to = tmp_path_factory.mktemp("checkpoints")
    for folder in (OLD / "checkpoints").iterdir():
        shutil.copytree(bundled_folder(folder.name), to / folder.name)
        shutil.copytree(folder, to / folder.name, dirs_exist_ok=True)
    return to


@pytest.fixture
def evalkit(tmp_path: Path, checkpoints: Path) -> Run:
    """The installed command, in the test's folder and in this process: importing torch takes seconds."""
    (command,) = entry_points(group="console_scripts", name="evalkit")
    main = command.load()

    def call(arguments: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in [name for name in os.environ if name.startswith("EVALKIT_")]:
                patch.delenv(name)
            patch.setattr("evalkit.checkpoint.bundled_folder", lambda name: checkpoints / name)
            patch.setenv("COLUMNS", "160")
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["evalkit", *arguments.split()])
            with pytest.raises(SystemExit) as end:
                main()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), out.getvalue(), err.getvalue())

    return call


def old(to: Path, *names: str) -> Path:
    """Copies of the runs ``names``, or of all, in ``to/runs``, with what they are about beside them; gives the first."""
    for extra in ("data", "pictures"):
        shutil.copytree(OLD / extra, to / extra)
    for extra in ("mine.jsonl", "predictions.jsonl", "baseline.json"):
        shutil.copy(OLD / extra, to)
    for name in names or [folder.name for folder in (OLD / "folders").iterdir()]:
        shutil.copytree(OLD / "folders" / name, to / "runs" / name)
    return to / "runs" / names[0] if names else to / "runs"


def journals(run: Path) -> dict[str, bytes]:
    """The answers' files of a run."""
    return {p.name: p.read_bytes() for p in run.glob("*.jsonl") if not p.name.endswith(".scores.jsonl")}


def samples(run: Path) -> dict[str, bytes]:
    """What else a run says of samples: their scores, and what goes to an official server."""
    return {p.name: p.read_bytes() for pattern in ("*.scores.jsonl", "*submission*") for p in run.glob(pattern)}


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "manifest.json").read_text())  # type: ignore[no-any-return]


def results(run: Path, *, seconds: bool = True) -> list[dict[str, Any]]:
    """The rows of scores.json, without the digests of files that 54ec510 did not write."""
    rows = json.loads((run / "scores.json").read_text())["results"]
    left_out = ("journal", "scores", *(() if seconds else ("seconds",)))
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows]


def scored_today(content: Any) -> Any:
    """What 54ec510 wrote of scores, as this version writes it.

    In these runs both values of VQA accuracy are the same.  Signatures name the rules that parsed raw answers and, if
    letters were generated, the rule that read them; in these runs they read what the first ones read.
    """
    if isinstance(content, dict):
        return {VALUES.get(key, key): scored_today(value) for key, value in content.items()}
    if isinstance(content, list):
        return [scored_today(value) for value in content]
    if not isinstance(content, str):
        return content
    parsed = PARSED.sub(r"\1parsing:3|", content.replace(*RESCORED).replace(*MEAN))
    letters = LMMS_EVAL if "protocol:lmms-eval" in content else LETTERS
    return parsed if "choice:loglikelihood" in content else parsed.replace(*letters)


def answers(run: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Every answer by file and sample, without what is a matter of time and place."""
    left_out = ("sum", "seconds", "images")
    return {
        name: {
            row["id"]: {key: value for key, value in row.items() if key not in left_out}
            for row in map(json.loads, content.splitlines())
        }
        for name, content in journals(run).items()
    }


def by_content(value: Any) -> Any:
    """``value`` of 54ec510 as it is now where custom task files are named by their content."""
    text = json.dumps(value)
    for old_name, name in BY_CONTENT.items():
        text = text.replace(old_name, name)
    return json.loads(text)


def reworded(text: str) -> str:
    """A text of 54ec510 in the words of this version."""
    for before, now in REWORDED.items():
        text = text.replace(before, now)
    return text


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Equal but for the paths of pictures, and for the last digits of numbers."""
    if isinstance(expected, str):
        assert found == reworded(expected), where
    elif isinstance(expected, Mapping):
        assert [key for key in found if key in expected or key not in ADDED] == list(expected), where
        for key in expected:
            if key != "images":
                assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{place}]")
    elif isinstance(expected, float):
        # 54ec510 approximated Student's quantiles, which are off by up to 0.13 % for few clusters.
        approximated = where.rsplit(".", 1)[-1] in ("ci95", "low", "high", "half", "half_width")
        assert math.isclose(found, expected, rel_tol=2e-3 if approximated else 1e-9, abs_tol=1e-9), where
    else:
        assert found == expected, where


def assert_continued(run: Path, before: Path, state: str = "complete") -> None:
    """The command went on in ``run`` and nowhere else; ``before`` is the run as it was."""
    assert [path.name for path in run.parent.iterdir()] == [run.name], "another folder was begun, or this moved aside"
    now, then = manifest(run), manifest(before)
    assert {key: now[key] for key in ("identity", "parts", "created")} == {
        key: then[key] for key in ("identity", "parts", "created")
    }
    assert {name: split["parts"] for name, split in now["splits"].items()} == {
        name: by_content(split["parts"]) for name, split in then["splits"].items()
    }
    assert now["state"] == state
    assert now["history"][:-1] == then["history"]


# ------------------------------------------------------------------------------------------------------------ reading


def of(command: str) -> dict[str, Any]:
    (found,) = [one for one in EXPECTED if one["command"].startswith(command)]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("which", EXPECTED, ids=lambda which: which["command"].replace(" ", "_"))
def test_old_runs_print_the_same(which: dict[str, Any], evalkit: Run, tmp_path: Path) -> None:
    """Leaderboards, comparisons, checks, samples and exports."""
    old(tmp_path)
    done = evalkit(which["command"])
    assert done.returncode == which["code"], done.stderr
    if which["command"].startswith("export"):
        with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
            assert_same(list(csv.DictReader(file)), which["out"])
    elif "--format csv" in which["command"]:
        assert_same([*csv.DictReader(io.StringIO(done.stdout))], [*csv.DictReader(which["out"])])
    elif "--format json" in which["command"] and which["out"]:
        assert_same(json.loads(done.stdout), by_content(which["out"]))
    else:
        # The layout of tables has changed: only the words count.
        assert done.stdout.replace("─", "").split() == reworded(" ".join(which["out"]).replace("─", "")).split()


def test_expected_outputs_are_not_empty() -> None:
    """The fixtures hold what they are for: a worse run that fails, and a value for every run that has one."""
    codes = {one["command"]: one["code"] for one in EXPECTED if one["command"].startswith("check")}
    assert set(codes.values()) == {0, 1}
    assert all(code == ("runs/early" in command) for command, code in codes.items())
    rows = list(csv.DictReader(of("leaderboard runs --")["out"]))
    assert {row["run"] for row in rows} == {f.name for f in (OLD / "folders").iterdir()} - {"killed", "torn"}
    compared = of("compare runs/complete runs/early")["out"]["compared"]
    assert {row["verdict"] for row in compared} >= {"worse", "not shown"}


def test_baseline_is_unchanged(evalkit: Run, tmp_path: Path) -> None:
    old(tmp_path, "complete")
    assert evalkit("baseline runs/complete --out again.json").returncode == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again.pop("checksum")
    for split in again["tasks"].values():
        assert len(split.pop("images")) == 16  # which 54ec510 did not write
    assert again == json.loads((OLD / "baseline.json").read_text())


@pytest.mark.parametrize("runs", ["complete early", "shots", "unanswered", "anywhere", "scored", "served"])
def test_report_of_old_runs(runs: str, evalkit: Run, tmp_path: Path) -> None:
    names = runs.split()
    old(tmp_path, *names)
    data = " --data data" if runs in ("unanswered", "scored") else ""
    done = evalkit(f"report {' '.join(f'runs/{name}' for name in names)} --out report --image-size 32{data}")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    for name in names:
        for row in results(OLD / "folders" / name):
            assert row["signature"] in page
            assert row["value"] is None or f"{row['value']:.2f}" in page


def test_other_exports_of_old_runs(evalkit: Run, tmp_path: Path) -> None:
    run = old(tmp_path, "complete")
    for to in ("parquet", "results", "model-card", "csv"):
        done = evalkit(f"export runs/complete --to {to}")
        assert done.returncode == 0, done.stderr
    (vqa,) = [json.loads(p.read_text()) for p in run.rglob("*vqav2*.json")]
    said = {int(key): row["answer"] for key, row in answers(run)["vqav2.val.jsonl"].items()}
    assert {row["question_id"]: row["answer"] for row in vqa} == said


@pytest.mark.parametrize("name", [*KINDS, "scored", "served"])
def test_rescoring_old_runs_changes_nothing(name: str, evalkit: Run, tmp_path: Path) -> None:
    run = old(tmp_path, name)
    done = evalkit(f"rescore runs/{name}" + (" --data data" if name in ("unanswered", "scored") else ""))
    assert done.returncode == 0, done.stderr
    before = OLD / "folders" / name
    assert_same(results(run), by_content(scored_today(results(before))))
    assert journals(run) == journals(before)
    for file, content in samples(before).items():
        if file.endswith(".jsonl"):
            now = samples(run)[file]
            then = scored_today([*map(json.loads, content.splitlines())])
            assert_same([*map(json.loads, now.splitlines())], by_content(then), file)
        else:
            assert samples(run)[file] == content


def test_rescored_vqa_accuracy_is_never_mixed_with_that_of_old_headline(evalkit: Run, tmp_path: Path) -> None:
    old(tmp_path, "complete", "early")
    assert evalkit("rescore runs/early").returncode == 0
    done = evalkit("compare runs/complete runs/early")
    assert done.returncode == 2, "every split was parsed by other rules"
    assert (
        "vqav2/val: runs/complete and runs/early are not comparable: the signatures differ (norm:official and "
        "norm:normalised|v2); raw answers were parsed by different rules (versions 1 and 3); runs/complete was scored "
        "by earlier parsing rules (version 1; now 3) and an earlier vqa_accuracy (norm:official|v1; now "
        "norm:normalised|v2): 'evalkit rescore runs/complete' scores it again" in done.stderr
    )
    assert (
        "refcoco/val: runs/complete and runs/early are not comparable: raw answers were parsed by different rules "
        "(versions 1 and 3); runs/complete was scored by earlier parsing rules (version 1; now 3): 'evalkit rescore "
        "runs/complete' scores it again" in done.stderr
    )
    table = evalkit("leaderboard runs").stdout
    assert table.partition("Scored by")[0].count("vqav2/val (n=12) #") == 2, "each in a column of its own"
    assert (
        "Scored by earlier parsing rules (version 1; now 3) and an earlier vqa_accuracy (norm:official|v1; now "
        "norm:normalised|v2): complete: vqav2/val" in " ".join(table.split())
    )
    done = evalkit("check runs/early --baseline baseline.json")
    assert done.returncode == 2
    assert (
        "the baseline was scored by earlier parsing rules (version 1; now 3) and an earlier vqa_accuracy "
        "(norm:official|v1; now norm:normalised|v2)" in " ".join(done.stderr.split())
    )
    assert evalkit("rescore runs/complete").returncode == 0
    assert evalkit("compare runs/complete runs/early").returncode == 0


def test_letters_read_by_first_rule_are_told_apart(evalkit: Run, tmp_path: Path) -> None:
    old(tmp_path, "complete", "early", "likelihood")
    assert evalkit("rescore runs/early").returncode == 0
    assert "letters:" not in evalkit("rescore runs/likelihood").stderr, "a ranking of letters reads none"
    done = evalkit("compare runs/complete runs/early")
    assert (
        "scienceqa_img/test: runs/complete and runs/early are not comparable: the signatures differ (none and "
        "letters:evalkit-2); raw answers were parsed by different rules (versions 1 and 3); runs/complete was scored "
        "by earlier parsing rules (version 1; now 3) and an earlier letter rule (without a name; now "
        "letters:evalkit-2): 'evalkit rescore runs/complete' scores it again" in done.stderr
    )
    assert evalkit("rescore runs/complete").returncode == 0
    assert evalkit("compare runs/complete runs/early").returncode == 0


def test_scored_predictions_are_unchanged(evalkit: Run, tmp_path: Path) -> None:
    old(tmp_path)
    done = evalkit("score --tasks chartqa --data data --predictions predictions.jsonl --name again")
    assert done.returncode == 0, done.stderr
    again, before = tmp_path / "runs" / "again", OLD / "folders" / "scored"
    assert_same(results(again), results(before))
    assert answers(again) == answers(before)
    done = evalkit("compare runs/scored runs/again --format json")
    assert done.returncode == 0, done.stderr
    assert [(row["ties"], row["n"]) for row in json.loads(done.stdout)["compared"]] == [(4, 4)]


# --------------------------------------------------------------------------------------------------------- continuing


@pytest.mark.parametrize("name", KINDS)
def test_finished_run_is_found_by_identity(name: str, evalkit: Run, tmp_path: Path) -> None:
    """Without --name, the same command finds it; nothing is answered again."""
    run, before = old(tmp_path, name), OLD / "folders" / name
    done = evalkit(f"run {COMMANDS[name]} --device cpu")
    assert done.returncode == 0, done.stderr
    assert_continued(run, before)
    assert journals(run) == journals(before)
    assert_same(results(run), by_content(scored_today(results(before))))
    if name != "similar":  # which pictures are similar is found by the model's encoder
        assert "loaded in" not in done.stderr, "no weights are needed"


@pytest.mark.parametrize("name", ["killed", "torn"])
def test_killed_run_resumes(name: str, evalkit: Run, tmp_path: Path) -> None:
    run, before = old(tmp_path, name), OLD / "folders" / name
    complete = OLD / "folders" / "complete"
    assert manifest(before)["state"] == "running"
    assert not (before / "scores.json").exists()
    done = evalkit(f"run {COMMANDS['complete']} --device cpu --name {name} --batch-size 1")
    assert done.returncode == 0, done.stderr
    assert_continued(run, before)
    for file, content in journals(before).items():
        whole = content[: content.rfind(b"\n") + 1]
        assert journals(run)[file].startswith(whole), "an answer that was there is not kept as it was"
    assert (run / "vqav2.val.jsonl.rejected").exists() == (name == "torn")
    found = answers(run)
    assert {file: len(journals(run)[file].splitlines()) for file in found} == dict.fromkeys(found, 12)
    assert found == answers(complete)
    assert_same(results(run, seconds=False), scored_today(results(complete, seconds=False)))


def test_larger_limit_resumes(evalkit: Run, tmp_path: Path) -> None:
    run, before = old(tmp_path, "complete"), OLD / "folders" / "complete"
    done = evalkit(f"run --tasks {SEVERAL} --limit 14 --device cpu")
    assert done.returncode == 0, done.stderr
    assert_continued(run, before)
    for file, content in journals(before).items():
        now = journals(run)[file]
        assert now.startswith(content)
        assert len(now.splitlines()) == 14
    assert [row["n"] for row in results(run)] == [14] * 5


@pytest.mark.parametrize(("name", "more"), [("shots", 6), ("likelihood", 13), ("drawn", 7)])
def test_larger_limit_resumes_with_every_option_spelling(name: str, more: int, evalkit: Run, tmp_path: Path) -> None:
    run, before = old(tmp_path, name), OLD / "folders" / name
    done = evalkit(f"run {COMMANDS[name]} --device cpu --limit {more} --name {name}")
    assert done.returncode == 0, done.stderr
    assert_continued(run, before)
    for file, content in journals(before).items():
        assert journals(run)[file].startswith(content)
    assert {row["n"] for row in results(run)} == {more}


@pytest.mark.parametrize("name", ["shots", "likelihood", "drawn", "lmms", "similar", "unanswered", "anywhere"])
def test_missing_answer_is_generated_again(name: str, evalkit: Run, tmp_path: Path) -> None:
    """The last two of each journal; they are what they were."""
    run, before = old(tmp_path, name), OLD / "folders" / name
    for file, content in journals(before).items():
        (run / file).write_bytes(b"".join(content.splitlines(keepends=True)[:-2]))
    done = evalkit(f"run {COMMANDS[name]} --device cpu")
    assert done.returncode == 0, done.stderr
    assert_continued(run, before)
    assert answers(run) == answers(before)
    for file, content in journals(before).items():
        kept = content.splitlines()[:-2]
        assert journals(run)[file].splitlines()[: len(kept)] == kept
    assert_same(results(run, seconds=False), by_content(scored_today(results(before, seconds=False))))


def test_seed_is_part_of_the_identity(evalkit: Run, tmp_path: Path) -> None:
    """What is recognised is not just anything."""
    run = old(tmp_path, "complete")
    done = evalkit("run --tasks vqav2 --limit 2 --seed 1 --device cpu")
    assert done.returncode == 0, done.stderr
    assert len(list(run.parent.iterdir())) == 2
    assert "new run, since runs/complete differs (seed: 0 → 1)" in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["served", "processor"])
def test_server_run_resumes(name: str, evalkit: Run, tmp_path: Path, http_server: Any) -> None:
    http_server.models[0]["root"] = "somebody/one"  # by this it is known, not by its address
    run, before = old(tmp_path, name), OLD / "folders" / name
    command = f"run {SERVED} --base-url {http_server.url}"
    if name == "processor":
        assert evalkit("run --tasks vqav2 --limit 1 --device cpu --out other --name x").returncode == 0
        command += f" --processor {manifest(tmp_path / 'other' / 'x')['model']['location']}"
    done = evalkit(f"{command} --limit 4")
    assert done.returncode == 0, done.stderr
    assert_continued(run, before)
    assert journals(run) == journals(before)
    assert_same(results(run), by_content(scored_today(results(before))))
    assert http_server.bodies == []
    middle = manifest(run)["history"]
    done = evalkit(f"{command} --limit 6")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in run.parent.iterdir()] == [name]
    assert manifest(run)["history"][:-1] == middle
    assert len(http_server.bodies) == 4
    for file, content in journals(before).items():
        assert journals(run)[file].startswith(content)
