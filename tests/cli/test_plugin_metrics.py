"""Metrics of other packages on the command line: what they give is used by every command, or refused with a sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

Evalkit = Callable[..., "CompletedProcess[str]"]

HEAD = """
import math
import numpy as np
from evalkit.aggregation import Corpus, Mean, MeanWhere, OfSums
from evalkit.interfaces import Metric
from evalkit.types import Scores


def right(a):
    return a.prediction.value == a.sample.references[0]

"""
ANSWERS = ["2", "3", "2", "x", "2", "3"]
"""Of six questions whose answer is 2."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path`` with a package that offers the metric ``odd``, which tests write."""
    site = tmp_path / "site"
    info = site / "odd-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[evalkit.metrics]\nodd = odd_metric:METRIC\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("odd_metric", None)


def metric(site: Path, body: str, attributes: str = "") -> None:
    """Write the metric: the body of ``score``, and more attributes."""
    lines = "\n".join("        " + line for line in body.strip().splitlines())
    more = "\n".join("    " + line for line in attributes.strip().splitlines())
    text = f'{HEAD}class Odd(Metric):\n    name = "odd"\n{more}\n    def score(self, answers):\n{lines}\n\n\nMETRIC = Odd()\n'
    (site / "odd_metric.py").write_text(text)
    sys.modules.pop("odd_metric", None)


def files(folder: Path, answers: list[str] = ANSWERS, name: str = "mine", metric: str = "odd") -> None:
    """A custom task of two images scored by ``metric``, and the answers to it."""
    for image in ("1.png", "2.png"):
        Image.new("RGB", (8, 8)).save(folder / image)
    rows: list[dict[str, Any]] = [{"evalkit": 1, "kind": "vqa", "metric": metric}]
    rows += [
        {"id": str(n), "image": f"{n % 2 + 1}.png", "question": "How many?", "answers": ["2"]}
        for n in range(len(answers))
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [{"id": str(n), "text": text} for n, text in enumerate(answers)]
    (folder / f"{name}-answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))


def score(evalkit: Evalkit, folder: Path, *names: str, run: str = "r") -> CompletedProcess[str]:
    names = names or ("mine",)
    tasks, answers = (",".join(f"{name}{end}.jsonl" for name in names) for end in ("", "-answers"))
    return evalkit("score", "-t", tasks, "-p", answers, "--name", run, cwd=folder)


def rows(folder: Path, run: str = "r") -> list[dict[str, Any]]:
    return json.loads((folder / "runs" / run / "scores.json").read_text())["results"]  # type: ignore[no-any-return]


def printed(text: str) -> str:
    return " ".join(text.split())


def test_numpy_numbers_are_numbers(evalkit: Evalkit, site: Path, tmp_path: Path) -> None:
    metric(
        site,
        """
per = {a.sample.id: {"acc": np.float32(100 * right(a)), "len": np.int64(len(a.prediction.value or ""))} for a in answers}
means = {k: np.mean([row[k] for row in per.values()]) for k in ("acc", "len")}
return Scores("acc", means, per, "odd|v1")
""",
    )
    files(tmp_path)
    done = score(evalkit, tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path)[0]["values"] == {"acc": 50.0, "len": 1.0}
    lines = (tmp_path / "runs" / "r" / "mine.own.scores.jsonl").read_text().splitlines()
    assert [json.loads(line)["acc"] for line in lines] == [100.0, 0.0, 100.0, 0.0, 100.0, 0.0]


FAILS = """
if any(a.prediction.value == "x" for a in answers):
    raise IndexError("list index out of range")
per = {a.sample.id: {"acc": 100.0 * right(a)} for a in answers}
return Scores("acc", {"acc": sum(r["acc"] for r in per.values()) / len(per)}, per, "odd|v1")
"""


def test_failing_scorer_leaves_other_splits_their_scores(evalkit: Evalkit, site: Path, tmp_path: Path) -> None:
    metric(site, FAILS)
    files(tmp_path)
    files(tmp_path, ["2", "3"], "before", "exact_match")
    files(tmp_path, ["2", "2"], "after", "exact_match")
    done = score(evalkit, tmp_path, "before", "mine", "after")
    assert done.returncode == 1
    reason = "the metric odd failed: IndexError: list index out of range (odd_metric.py, line "
    assert f"mine/own has no score: {reason}" in printed(done.stderr)
    assert "Traceback" not in done.stderr
    found = {row["task"]: row for row in rows(tmp_path)}
    assert {name: row["value"] for name, row in found.items()} == {"before": 50.0, "mine": None, "after": 100.0}
    assert found["mine"]["failure"].startswith(reason)
    assert "failure" not in found["after"]
    assert "Traceback" in (tmp_path / "runs" / "r" / "log.txt").read_text(), "for the metric's author"
    table = printed(evalkit("leaderboard", "runs/r", cwd=tmp_path).stdout)
    assert f"mine/own (r) has no score: {reason}" in table
    assert evalkit("show", "runs/r", "--any", "9", cwd=tmp_path).returncode == 0

    metric(site, FAILS.replace("raise IndexError", "str"))
    done = evalkit("rescore", "runs/r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["task"]: row["value"] for row in rows(tmp_path)} == {"before": 50.0, "mine": 50.0, "after": 100.0}
    metric(site, FAILS)
    done = evalkit("rescore", "runs/r", cwd=tmp_path)
    assert done.returncode == 1
    assert "mine/own has no score" in done.stderr
    assert not (tmp_path / "runs" / "r" / "mine.own.scores.jsonl").exists(), "of the scoring before"


def test_run_writes_each_score_when_it_is_done(evalkit: Evalkit, site: Path, tmp_path: Path, http_server: Any) -> None:
    """The second split's scorer fails; the third is asked and scored nevertheless."""
    metric(site, FAILS.replace('== "x"', "is not None and len(answers) > 4"))
    files(tmp_path)
    done = evalkit(
        "run", "--tasks", "vqav2,mine.jsonl,textvqa", "--limit", "5", "--backend", "server", "--base-url",
        http_server.url, "--family", "qwen2.5-vl", "--data", "tiny", "--name", "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = {row["task"]: row["value"] for row in rows(tmp_path)}
    assert list(found) == ["vqav2", "mine", "textvqa"]
    assert found["mine"] is None
    assert None not in (found["vqav2"], found["textvqa"])
    assert json.loads((tmp_path / "runs" / "r" / "manifest.json").read_text())["state"] == "incomplete"


@pytest.mark.parametrize(
    ("body", "attributes", "sentence"),
    [
        ("return {}", "", "score() returned dict; return evalkit.types.Scores"),
        ('return Scores("f1", {"f1": 28.6}, {a.sample.id: {} for a in answers}, "odd|v1")', "",
         "its headline f1 is neither a column of the per-sample scores, whose mean it would be, nor declared; declare how"),
        ("""
per = {a.sample.id: {"f1": 100.0 * right(a)} for a in answers}
hits = sum(r["f1"] > 0 for r in per.values())
return Scores("f1", {"f1": 200.0 * hits / (hits + 2 * len(per))}, per, "odd|v1")
""", "", "declare how the value is computed (evalkit.aggregation; Corpus if not from per-sample scores)"),
        ('return Scores("f1", {"acc": 1.0}, {a.sample.id: {"acc": 1.0} for a in answers}, "odd|v1")', "",
         "its headline 'f1' is not among its values (acc)"),
        ('return Scores("acc", {"acc": "high"}, {a.sample.id: {"acc": 1.0} for a in answers}, "odd|v1")', "",
         "gives acc = 'high', which is not a number"),
        ('return Scores("acc", {"acc": 1.0}, {a.sample.id: {"acc": None} for a in answers}, "odd|v1")', "",
         "gives acc = None for sample '0', which is not a number"),
        ('return Scores("acc", {"acc": float("nan")}, {a.sample.id: {"acc": float("nan")} for a in answers}, "odd|v1")',
         "", "a score must be a number"),
        ('return Scores("acc", {"acc": 1.0}, {a.sample.id: {"acc": 1.0} for a in answers[1:]}, "odd|v1")', "",
         "per_sample must have an entry for each of the"),
        ('return Scores("acc", {"acc": 1.0}, {a.sample.id: {"acc": 1.0, "id": 2.0} for a in answers}, "odd|v1")', "",
         "a per-sample column is called 'id'; rename it, it is reserved"),
        ('return Scores("acc", {"acc": 1.0}, {a.sample.id: {"acc": 1.0} for a in answers}, "other|v1")', "",
         "its signature is 'other|v1'; expected one line that begins with its name, such as odd|v1"),
        ("return None", 'aggregation = {"f1": "corpus"}', "aggregation['f1'] is 'corpus'; expected an instance"),
        ("return None", "running_score = 1", "running_score is 1; expected True or False"),
        ("raise KeyError('gold')", "", "failed before the run: KeyError: 'gold' (odd_metric.py, line "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "score"])
def test_metric_that_breaks_contract_is_refused_before_anything_is_done(
    command: str, body: str, attributes: str, sentence: str, evalkit: Evalkit, site: Path, tmp_path: Path
) -> None:
    metric(site, body, attributes)
    files(tmp_path)
    if command == "score":
        done = score(evalkit, tmp_path)
    else:
        done = evalkit("run", "--tasks", "mine.jsonl", "--model", "tiny", cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in printed(done.stderr)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("metric", "kind", "row", "sentence"),
    [
        ("textvqa_accuracy", "vqa", {"answers": ["2"]}, "sample '1' has 1 annotators' answers to score against, expected 10"),
        ("iou", "vqa", {"answers": ["2"]}, "iou: this metric scores boxes, and the task asks for text"),
        ("exact_match", "grounding", {"box": [1, 1, 4, 4]}, "exact_match: this metric scores texts, and the task asks for"),
        ("cider", "grounding", {"box": [1, 1, 4, 4]}, "cider: this metric scores texts, and the task asks for boxes"),
    ],
)  # fmt: skip
def test_metric_that_does_not_fit_its_data_is_found_before_model_is_loaded(
    metric: str, kind: str, row: dict[str, Any], sentence: str, evalkit: Evalkit, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    lines = [
        {"evalkit": 1, "kind": kind, "metric": metric},
        {"id": "1", "image": "1.png", "question": "?", **row},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = evalkit("run", "--tasks", "mine.jsonl", "--model", "tiny", cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in printed(done.stderr)
    assert "loaded" not in done.stderr
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------------------------- a headline of all samples

F1 = """
hits = sum(map(right, answers))
f1 = 200.0 * hits / (hits + len(answers)) if answers else math.nan
per = {a.sample.id: {"acc": 100.0 * right(a), "f1": 100.0 * right(a)} for a in answers}
return Scores("f1", {"f1": f1, "acc": sum(r["acc"] for r in per.values()) / max(1, len(per))}, per, "odd|v1")
"""
OF_CORPUS = 'aggregation = {"f1": Corpus()}'
OF_SUMS = """
return_sums = lambda self, sums: {"f1": 200.0 * sums[:, 0] / (sums[:, 0] + sums[:, 1])}
"""
F1_OF_SUMS = F1.replace(
    'per, "odd|v1")',
    'per, "odd|v1", {"f1": OfSums({a.sample.id: (float(right(a)), 1.0) for a in answers}, self.return_sums)})',
)


@pytest.mark.parametrize(("body", "attributes"), [(F1, OF_CORPUS), (F1_OF_SUMS, OF_SUMS)], ids=["corpus", "sums"])
def test_headline_of_all_samples_is_same_in_every_command(
    body: str, attributes: str, evalkit: Evalkit, site: Path, tmp_path: Path
) -> None:
    """3 of 6 right: F1 66.67, and never the mean of the per-sample column of that name, 50."""
    metric(site, body, attributes)
    files(tmp_path)
    assert score(evalkit, tmp_path).returncode == 0
    files(tmp_path, ["2", "2", "2", "x", "2", "2"])
    assert score(evalkit, tmp_path, run="better").returncode == 0
    (row,) = rows(tmp_path)
    assert row["value"] == pytest.approx(200 / 3)
    assert (row["interval"] is None) == (body == F1)

    def told(*arguments: str) -> str:
        done = evalkit(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "50.00" not in done.stdout
        return printed(done.stdout)

    table = told("leaderboard", "runs/r")
    assert "66.67" in table
    if body == F1:
        assert "No interval for f1: it is computed from all samples together" in table
        assert "fewer than two images" not in table
    compared = told("compare", "runs/r", "runs/better")
    assert "66.67" in compared
    assert "90.91" in compared
    assert ("not tested: f1 is computed from all samples together" in compared) == (body == F1)
    (record,) = json.loads(evalkit("compare", "runs/r", "runs/better", "--format", "json", cwd=tmp_path).stdout)[
        "compared"
    ]
    if body == F1:
        assert (record["verdict"], record["p"], record["p_holm"]) == ("not tested", None, None)
    else:  # two samples of one image differ: nothing can be shown with a single cluster
        assert (record["wins"], record["losses"], record["ties"], record["mcnemar"]) == (2, 0, 4, None)
        assert (record["p"], record["verdict"]) == (1, "not shown")
    assert record["difference"] == pytest.approx(1000 / 11 - 200 / 3)

    told("baseline", "runs/better", "--out", "b.json")
    done = evalkit("check", "runs/r", "--baseline", "b.json", cwd=tmp_path)
    if body == F1:
        assert done.returncode == 2
        assert (
            "f1 is computed from all samples together, not from per-sample scores: a drop cannot be tested; use --mode"
            in (printed(done.stderr))
        )
    else:
        assert done.returncode == 0, done.stderr
        assert "nan" not in done.stdout
    for mode, run, code in (
        ("tolerance", "r", 1),
        ("tolerance", "better", 0),
        ("exact", "r", 1),
        ("exact", "better", 0),
    ):
        done = evalkit("check", f"runs/{run}", "--baseline", "b.json", "--mode", mode, cwd=tmp_path)
        assert done.returncode == code, (mode, run, done.stderr)
        assert "90.91" in done.stdout
        assert "nan" not in done.stdout

    assert "3/6" in told("show", "runs/r", "--any", "9") or "wrong" in told("show", "runs/r", "--wrong", "9")
    told("report", "runs/r", "runs/better", "--out", "report")
    assert "66.67" in (tmp_path / "report" / "index.html").read_text()
    told("export", "runs/r", "--to", "csv", "--out", "rows.csv")
    assert "unchanged" in evalkit("rescore", "runs/r", cwd=tmp_path).stderr


def test_mean_over_some_samples_is_compared_over_them(evalkit: Evalkit, site: Path, tmp_path: Path) -> None:
    metric(
        site,
        """
per = {a.sample.id: {"right": 100.0 * right(a)} for a in answers}
counted = [per[a.sample.id]["right"] for a in answers if a.sample.meta.get("hard")]
return Scores("hard", {"hard": sum(counted) / len(counted) if counted else 0.0}, per, "odd|v1")
""",
        'aggregation = {"hard": MeanWhere("right", key="hard")}',
    )
    for run, answers in (("a", ANSWERS), ("b", ["x", "2", *ANSWERS[2:]])):
        files(tmp_path, answers)
        lines = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
        marked = [lines[0], *({**line, "hard": "yes"} if n % 2 == 0 else line for n, line in enumerate(lines[1:]))]
        (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in marked))
        assert score(evalkit, tmp_path, run=run).returncode == 0
    assert [rows(tmp_path, run)[0]["value"] for run in "ab"] == [100.0, pytest.approx(200 / 3)]
    done = evalkit("compare", "runs/a", "runs/b", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["compared"]
    assert (record["n"], record["base_score"], record["candidate_score"]) == (3, 100.0, pytest.approx(200 / 3))
    assert evalkit("show", "runs/b", "--wrong", "9", cwd=tmp_path).returncode == 0
    assert evalkit("baseline", "runs/a", "--out", "b.json", cwd=tmp_path).returncode == 0
    assert evalkit("check", "runs/a", "--baseline", "b.json", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("column", [True, False])
def test_run_of_evalkit_that_took_every_headline_for_mean(
    column: bool, evalkit: Evalkit, site: Path, tmp_path: Path
) -> None:
    """Its rows do not say how the headline was computed; its per-sample scores may have a column of that name."""
    metric(site, F1, OF_CORPUS)
    files(tmp_path)
    assert score(evalkit, tmp_path).returncode == 0
    run = tmp_path / "runs" / "r"
    content = json.loads((run / "scores.json").read_text())
    content.pop("checksum")
    for key in ("aggregation", "journal", "scores"):
        del content["results"][0][key]
    (run / "scores.json").write_text(json.dumps(content))
    path = run / "mine.own.scores.jsonl"
    if column:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**line, "f1": line["acc"]}) + "\n" for line in lines))
    done = evalkit("compare", "runs/r", "runs/r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "66.67" in done.stdout
    assert "50.00" not in done.stdout
    assert "not tested" in done.stdout
