"""``evalkit subset``, the scores of its samples, and ``check`` against a baseline.  No model is run here."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from evalkit.api import load_task
from evalkit.results.subsets.subset_file import read_subset

from .conftest import moved, scored

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
WRONG = {
    # Models of one family: what is hard for one is hard for the others.
    "a": range(0, 324, 4), "b": range(0, 324, 5), "c": [*range(0, 324, 4), *range(0, 324, 7)], "d": range(0, 324, 8),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of four models, and a subset chosen from three of them."""
    folder = tmp_path_factory.mktemp("subsets")
    for name, wrong in WRONG.items():
        scored(evalkit, folder, name, wrong)
    done = evalkit("subset", "runs/a", "runs/b", "runs/d", "--size", "60", "--out", "ci.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    moved(made, tmp_path)
    return tmp_path


def of_subset(evalkit: Evalkit, cwd: Path, name: str, wrong: Sequence[int], subset: str = "ci.json") -> Path:
    """A run over the samples of the subset."""
    ids = [
        sample for unit in json.loads((cwd / subset).read_text())["tasks"]["vqav2/val"]["units"] for sample in unit[2]
    ]
    wanted = {sample for sample, _ in ids}
    rows = [
        {"id": s.id, "text": "nothing of the kind" if i in wrong else s.references[0]}
        for i, s in enumerate(load_task("vqav2/val", data="tiny"))
        if s.id in wanted
    ]
    (cwd / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit("score", "--subset", subset, "-p", f"{name}.jsonl", "--data", "tiny", "--name", name, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


def row_of(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "scores.json").read_text())["results"][0]
    return found


def test_file_has_ids_and_numbers_only_and_is_the_same_each_time(evalkit: Evalkit, made: Path) -> None:
    content = json.loads((made / "ci.json").read_text())
    held = content["tasks"]["vqav2/val"]
    assert sum(len(unit[2]) for unit in held["units"]) == 60
    assert held["size"] == 324
    assert [name for name, _ in held["references"]] == ["a", "b", "d"]
    text = (made / "ci.json").read_text()
    assert not any(f'"{s.text}"' in text for s in load_task("vqav2/val", data="tiny")[:20])
    evalkit("subset", "runs/a", "runs/b", "runs/d", "--size", "60", "--out", "again.json", cwd=made)
    assert (made / "again.json").read_text() == text
    evalkit("subset", "runs/a", "runs/b", "runs/d", "--size", "60", "--seed", "1", "--out", "other.json", cwd=made)
    assert (made / "other.json").read_text() != text


def test_output_says_what_was_chosen_and_what_it_is_worth(evalkit: Evalkit, made: Path) -> None:
    shown = evalkit("subset", "runs/a", "runs/b", "runs/d", "--size", "60", cwd=made).stdout
    assert "60 of 324" in shown
    assert "by leaving out each of 3 runs" in " ".join(shown.split())
    one = " ".join(evalkit("subset", "runs/a", "runs/a", cwd=made).stdout.split())
    assert "Not cross-validated" in one
    assert "100 of 324" in one


def test_estimate_is_near_the_complete_score_and_marked(evalkit: Evalkit, folder: Path) -> None:
    run = of_subset(evalkit, folder, "c-sub", WRONG["c"])
    estimate = row_of(run)["estimate"]
    assert isinstance(estimate, dict)
    complete = row_of(folder / "runs" / "c")["value"]
    assert estimate["low"] <= complete <= estimate["high"]
    assert (estimate["size"], estimate["references"]) == (324, 3)
    assert row_of(run)["limited"] is True
    assert f"|subset:{estimate['subset']}|n:60" in str(row_of(run)["signature"])
    shown = evalkit("leaderboard", "runs/c-sub", "runs/c", cwd=folder).stdout
    assert "≈ vqav2/val" in shown
    assert f"vqav2/val ≈ {estimate['value']:.1f}" in " ".join(shown.split())
    assert "(60 of 324, from 3 reference runs)" in " ".join(shown.split())
    table = evalkit("leaderboard", "runs/c-sub", "runs/c", "--format", "csv", cwd=folder).stdout
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(table))}
    assert (rows["c-sub"]["estimate_of"], rows["c"]["estimate_of"]) == ("324", "")
    assert float(rows["c-sub"]["value"]) == pytest.approx(estimate["value"])


def test_rescoring_gives_the_same_estimate(evalkit: Evalkit, folder: Path) -> None:
    run = of_subset(evalkit, folder, "c-sub", WRONG["c"])
    before = row_of(run)
    done = evalkit("rescore", "runs/c-sub", "--rule", "official", cwd=folder)
    assert done.returncode in (0, 2), done.stderr
    done = evalkit("rescore", "runs/c-sub", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert row_of(run)["estimate"] == before["estimate"]


@pytest.mark.parametrize("kind", ["complete", "cut", "subset"])
def test_check_passes_an_equal_run_and_fails_a_worse_one(evalkit: Evalkit, folder: Path, kind: str) -> None:
    if kind == "subset":
        of_subset(evalkit, folder, "base", WRONG["d"])
    run, options = ("base" if kind == "subset" else "d"), (["--subset", "ci.json"] if kind == "cut" else [])
    done = evalkit("baseline", f"runs/{run}", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{324 if kind == 'complete' else 60} samples" in done.stdout
    of_subset(evalkit, folder, "same", WRONG["d"])
    done = evalkit("check", "runs/same", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    of_subset(evalkit, folder, "bad", range(0, 324, 3))
    done = evalkit("check", "runs/bad", "--junit", "j.xml", "--summary", "s.md", cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert "fails if a t test of the difference that its subset estimates finds the run worse" in text
    assert "vqav2/val: worse by" in text
    assert "≈" in (folder / "s.md").read_text()


def test_check_against_the_complete_baseline_knows_its_score(evalkit: Evalkit, folder: Path) -> None:
    evalkit("baseline", "runs/d", "--subset", "ci.json", cwd=folder)
    of_subset(evalkit, folder, "same", WRONG["d"])
    shown = evalkit("check", "runs/same", cwd=folder).stdout
    assert f"{row_of(folder / 'runs' / 'd')['value']:.2f}" in shown


def test_complete_run_is_refused_against_a_cut_baseline(evalkit: Evalkit, folder: Path) -> None:
    evalkit("baseline", "runs/d", "--subset", "ci.json", cwd=folder)
    done = evalkit("check", "runs/c", cwd=folder)
    assert done.returncode == 2
    assert "run it with --subset" in done.stderr


@pytest.mark.parametrize("kind", ["complete", "cut"])
def test_update_keeps_the_complete_score(evalkit: Evalkit, folder: Path, kind: str) -> None:
    cut = kind == "cut"
    evalkit("baseline", "runs/d", *(["--subset", "ci.json"] if cut else []), cwd=folder)
    before = (folder / "baseline.json").read_text()
    of_subset(evalkit, folder, "same", WRONG["d"])
    done = evalkit("check", "runs/same", "--update", cwd=folder)
    assert done.returncode == 2
    assert "has the complete score of vqav2/val, of which runs/same ran only a part" in done.stderr
    assert (folder / "baseline.json").read_text() == before
    assert evalkit("check", "runs/c", "--update", cwd=folder).returncode == 0
    head = json.loads((folder / "baseline.json").read_text())["tasks"]["vqav2/val"]
    assert len(head["samples"]) == (60 if cut else 324)
    assert head["complete" if cut else "value"] == row_of(folder / "runs" / "c")["value"]
    of_subset(evalkit, folder, "like-c", WRONG["c"])
    assert evalkit("check", "runs/like-c", cwd=folder).returncode == 0


def test_compare_estimates_the_difference_of_two_runs_of_a_subset(evalkit: Evalkit, folder: Path) -> None:
    of_subset(evalkit, folder, "one", WRONG["d"])
    of_subset(evalkit, folder, "two", range(0, 324, 3))
    done = evalkit("compare", "runs/one", "runs/two", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "≈ vqav2/val" in done.stdout
    done = evalkit("compare", "runs/one", "runs/c", cwd=folder)
    assert done.returncode == 2
    assert "samples differ" in done.stderr


def test_detect_says_how_many_samples_a_loss_needs(evalkit: Evalkit, made: Path) -> None:
    runs = ["runs/a", "runs/b", "runs/c", "runs/d"]
    sizes = []
    for loss in ("20", "10"):
        done = evalkit("subset", *runs, "--detect", loss, "--out", f"detect-{loss}.json", cwd=made)
        assert done.returncode == 0, done.stderr
        assert f"find a loss of {loss} with 80 % power" in " ".join(done.stdout.split())
        units = json.loads((made / f"detect-{loss}.json").read_text())["tasks"]["vqav2/val"]["units"]
        sizes.append(len(units))
    assert sizes[0] < sizes[1]
    done = evalkit("subset", *runs, "--detect", "0.01", cwd=made)
    assert done.returncode == 2
    assert "run all 324 samples" in " ".join(done.stdout.split())


def test_budget_counts_cost(evalkit: Evalkit, made: Path) -> None:
    done = evalkit("subset", "runs/a", "runs/b", "runs/c", "--budget", "30", "--out", "budget.json", cwd=made)
    assert done.returncode == 0, done.stderr
    held = json.loads((made / "budget.json").read_text())["tasks"]["vqav2/val"]
    samples = sum(len(unit[2]) for unit in held["units"])
    assert held["cost"] <= 45
    assert (held["unit"] == "image") is (samples > held["cost"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/a", "--size", "324"], "is all of it"),
        (["runs/a", "--size", "3"], "too few"),
        (["runs/a", "--size", "9", "--budget", "9"], "give one of the two"),
        (["runs/a", "--detect", "-1"], "give a loss in points"),
        (["runs/a", "--detect", "2"], "at least two runs"),
        (["runs/a", "--tasks", "refcoco"], "not scored in all of the runs"),
        (["runs/none"], "runs/none"),
    ],
)
def test_mistakes_are_one_sentence(evalkit: Evalkit, made: Path, arguments: list[str], message: str) -> None:
    done = evalkit("subset", *arguments, cwd=made)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_subset_runs_and_corpus_metrics_are_no_references(evalkit: Evalkit, folder: Path, captions: Path) -> None:
    of_subset(evalkit, folder, "part", WRONG["c"])
    done = evalkit("subset", "runs/part", cwd=folder)
    assert done.returncode == 2
    assert "chosen from complete runs" in done.stderr


def test_other_data_are_refused(evalkit: Evalkit, folder: Path) -> None:
    content = json.loads((folder / "ci.json").read_text())
    del content["checksum"]
    content["tasks"]["vqav2/val"]["annotations"] = "0" * 16
    (folder / "ci.json").write_text(json.dumps(content))
    done = evalkit("run", "--subset", "ci.json", "--dry-run", cwd=folder)
    assert done.returncode == 2
    assert "no checksum" in done.stderr
    done = evalkit("run", "--subset", "ci.json", "--limit", "3", cwd=folder)
    assert done.returncode == 2
    assert "drop one" in done.stderr


def test_model_card_leaves_estimates_out(evalkit: Evalkit, folder: Path) -> None:
    of_subset(evalkit, folder, "part", WRONG["c"])
    done = evalkit("export", "runs/part", "--to", "model-card", "--out", "card.md", cwd=folder)
    assert done.returncode == 2
    assert "has no score" in done.stderr


def test_bundled_subset_is_of_the_bundled_data(evalkit: Evalkit, tmp_path: Path) -> None:
    """Data that were made again need another: CONTRIBUTING.md has the command."""
    held = read_subset(Path("tiny")).splits["vqav2/val"]
    right = {s.id: s.references[0] for s in load_task("vqav2/val", data="tiny")}
    rows = [{"id": sample, "text": right[sample]} for sample in held.ids]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--subset", "tiny", "--tasks", "vqav2/val", "-p", "a.jsonl", "--data", "tiny", "--name", "all-right"]
    done = evalkit("score", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    estimate = row_of(tmp_path / "runs" / "all-right")["estimate"]
    assert isinstance(estimate, dict)
    assert estimate["value"] > 95  # some annotators disagree with the first
    assert (estimate["size"], estimate["low"] < 98) == (324, True)
