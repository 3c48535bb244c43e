"""What a run tells of itself: time left, speed, score so far; for people and for machines."""

from __future__ import annotations

import io
import json
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from rich.console import Console

from evalkit import registry
from evalkit.data import open_data
from evalkit.interfaces import Backend, JudgedMetric, Metric
from evalkit.jobs import Job, Record, build_requests, load_job
from evalkit.model.backends.hf import HFBackend
from evalkit.progress import display
from evalkit.progress.counters import JobCounters, duration
from evalkit.progress.display import Reporter
from evalkit.progress.eta import TimeEstimate
from evalkit.progress.running_score import RunningScorer
from evalkit.results.stats.intervals import of_values
from evalkit.run import ImageDigests, run_job
from evalkit.scoring import score_job
from evalkit.task_names import parse_tasks
from evalkit.types import Prediction, Request, Response, Sample

TIMINGS = json.loads((Path(__file__).parent / "timings.json").read_text())

# --------------------------------------------------------------------------------------------------------- time left


def at(share: float, recorded: dict[str, Any], *, by_count: bool) -> float:
    """What is told to be left after a ``share`` of a recorded run's time, against what was left."""
    costs = {str(number): 1 if by_count else cost for number, cost in enumerate(recorded["costs"])}
    whole = recorded["answers"][-1][1]
    pace = TimeEstimate(costs, 0.0)
    for number, seconds in recorded["answers"]:
        if seconds <= share * whole:
            pace.answered(str(number), seconds)
    left = pace.left(share * whole)
    assert left is not None
    return left / ((1 - share) * whole)


@pytest.mark.parametrize("run", ["engine", "one at a time"])
def test_time_left_is_estimated_from_tokens(run: str) -> None:
    """Images of 140 to 900 pixels with 1 to 10 questions of 5 to 150 words, as they were answered on a CPU."""
    recorded = TIMINGS[run]
    assert 0.75 < at(0.2, recorded, by_count=False) < 1.25
    assert at(0.2, recorded, by_count=True) > 1.5
    whole = recorded["answers"][-1][1]
    done = sum(seconds <= 0.2 * whole for _, seconds in recorded["answers"])
    each = 0.2 * whole / done
    assert each * (len(recorded["answers"]) - done) > 1.5 * 0.8 * whole, "nor does the plain mean"


@pytest.mark.parametrize(("per_token", "per_sample"), [(1.0, 0.0), (1.0, 500.0), (0.0, 1.0)])
def test_fixed_cost_per_sample_is_learned(per_token: float, per_sample: float) -> None:
    draw = random.Random(0)
    costs = sorted((draw.lognormvariate(6, 0.7) for _ in range(2000)), reverse=True)
    seconds, answers = 0.0, []
    for number, cost in enumerate(costs):
        seconds += (per_token * cost + per_sample) * draw.lognormvariate(0, 0.2)
        answers.append((number, seconds))
    recorded = {"costs": [round(cost) for cost in costs], "answers": answers}
    assert 0.67 < at(0.2, recorded, by_count=False) < 1.25
    assert 0.8 < at(0.5, recorded, by_count=False) < 1.2


def test_pace_between_answers_and_without_any() -> None:
    pace = TimeEstimate({str(n): 10 for n in range(100)}, 5.0)
    assert pace.left(6.0) is None
    pace.answered("0", 6.0)
    assert pace.left(6.0) == pytest.approx(99.0)
    for n in range(1, 50):
        pace.answered(str(n), 6.0 + n)
    assert pace.left(55.0) == pytest.approx(50.0)
    assert pace.left(55.5) == pytest.approx(49.5), "the clock goes on"
    assert pace.left(500.0) == pytest.approx(49.0), "but nothing ends by hanging"
    for n in range(50, 100):
        pace.answered(str(n), 6.0 + n)
    assert pace.left(105.0) == 0


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 89, 95, 3599, 5400, 12000)] == [
        "0 s", "89 s", "2 min", "60 min", "1 h 30 min", "3 h 20 min",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ score so far


def answered(sample: Sample, value: Any, finish: Any = "stop") -> Record:
    return Record(sample, "", Response(sample.id, str(value), (1, 2), finish, prompt_tokens=8), Prediction(value))


def job_of(task: str, split: str, samples: Sequence[Sample]) -> Job:
    return Job(registry.tasks.get(task), split, samples, limited=False)


def charts() -> tuple[Job, list[Record]]:
    draw = random.Random(1)
    samples = [
        Sample(str(n), (), "?", ("7",), cluster=str(n // 2), meta={"subset": "human" if n % 3 else "augmented"})
        for n in range(300)
    ]
    right = {"human": 0.3, "augmented": 0.8}
    return job_of("chartqa", "test", samples), [
        answered(s, "7" if draw.random() < right[s.meta["subset"]] else "9") for s in samples
    ]


def test_running_score_of_all_samples_is_the_score() -> None:
    """ChartQA's is the mean of two halves of unequal size."""
    job, records = charts()
    score = RunningScorer(job)
    for place, record in enumerate(records):
        score.add(record)
        if place in (20, 150, 160):
            score.update(now=True)
    found = score.update(now=True)
    whole = score_job(job, records)
    assert found is not None
    assert whole.scores is not None
    interval = of_values(whole)[whole.scores.headline]
    assert found.value == pytest.approx(whole.scores.values[whole.scores.headline])
    assert found.half == pytest.approx(interval["ci95"])
    assert str(found) == f"accuracy {found.value:.1f} ± {found.half:.1f}"


def test_running_score_is_computed_seldom_with_wilson_intervals() -> None:
    job, records = charts()
    score = RunningScorer(job)
    for record in records[:40]:
        score.add(replace(record, prediction=Prediction("7")))
    first = score.update()
    assert first is not None
    assert (first.value, first.half, first.high) == (100.0, None, 100.0)
    assert 80 < (first.low or 0) < 90, "20 images"
    score.add(records[40])
    assert score.update() is first, "it is not due yet"


@pytest.mark.parametrize(("task", "split"), [("coco_caption", "test"), ("vqav2", "testdev")])
def test_no_running_score_for_corpus_metrics(task: str, split: str) -> None:
    """CIDEr is of a corpus, and the answers of a test split are not public."""
    samples = [Sample(str(n), (), "?", (), cluster=str(n)) for n in range(4)]
    score = RunningScorer(job_of(task, split, samples))
    for sample in samples:
        score.add(answered(sample, "a"))
    assert score.update(now=True) is None


TOGETHER = (
    "cc_ocr", "cider", "circular_accuracy", "coco_ap", "hallusionbench", "mme", "mtvqa", "ocrbench", "omnidocbench",
    "pope",
)  # fmt: skip
"""The beginnings of the names of metrics whose headline is no mean over samples: it depends on groups of them."""


def judged(metric: Metric) -> bool:
    """Whether a judge is asked about the answers when all are there."""
    return isinstance(metric, JudgedMetric)


def test_every_other_metric_has_a_running_score() -> None:
    found = [metric.name for metric in registry.metrics.all() if not (metric.running_score or judged(metric))]
    assert [name for name in found if not name.startswith(TOGETHER)] == []


# ------------------------------------------------------------------------------------------------------------ display


class Plain(Backend):
    """A backend that says nothing of costs or memory."""

    name = "plain"

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        for request in requests:
            yield Response(request.id, "yes", (1,), prompt_tokens=9)

    def describe(self) -> dict[str, str]:
        return {}


def test_counters_with_a_given_clock() -> None:
    now = [0.0]
    job, records = charts()
    counters = JobCounters(job, records[:10], {}, clock=lambda: now[0])
    assert counters.progress().time_left == ""
    todo = [Request(r.sample.id, (), decoding=None) for r in records[10:]]  # type: ignore[arg-type]
    now[0] = 100.0
    counters.begin(todo, Plain())
    for record in records[10:60]:
        now[0] += 2.0
        counters.add(record)
    counters.add(answered(records[60].sample, None))
    counters.add(answered(records[61].sample, None, "error"))
    counters.update()
    state = counters.progress()
    assert (state.done, state.new, state.total, state.unparsed, state.errors) == (62, 52, 300, 1, 1)
    assert state.tokens == 52 * 10
    assert (state.seconds, state.samples_per_second, state.tokens_per_second) == (100.0, 0.52, 5.2)
    assert state.time_left == "about 8 min left (by count)"
    assert state.speed == ["0.52 samples/s", "5.2 tokens/s"]
    assert (state.trouble, state.occupied) == (["1 unparsed", "1 error"], [])
    assert state.score is not None


def shown(reporter: Reporter, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    reporter.console = console
    console.print(reporter.render())
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def test_display_on_wide_and_narrow_terminals(tiny_backend: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "UPDATE_EVERY_SECONDS", 0.0)
    ((task, split),) = parse_tasks(["vqav2/val"])
    job = load_job(task, split, open_data("tiny"), limit=24, seed=0)
    later = [job_of("refcoco", name, ()) for name in ("val", "testA", "testB")]
    family = registry.families.get("qwen2.5-vl")
    questions = build_requests(job, family)
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    screens: dict[int, list[list[str]]] = {80: [], 140: [], 40: []}
    with Reporter(console, [job, *later]) as reporter, reporter.track(job, (), {}) as watch:
        watch.begin([q.request for q in questions.values()], tiny_backend)

        def add(record: Record) -> None:
            watch.add(record)
            for width, found in screens.items():
                found.append(shown(reporter, width))

        with ImageDigests(()) as digests:
            monkeypatch.setattr(digests, "of", lambda request: (None,) * len(request.images))
            run_job(job, questions, family, tiny_backend, add, digests=digests)
        reporter.console = console
    for width, found in screens.items():
        assert len(found) == 24
        for place, lines in enumerate(found, start=1):
            text = "\n".join(lines)
            assert max(map(len, lines)) <= width, text
            assert f"{place}/24" in text
            assert "samples/s" in text
            assert "tokens/s" in text
            assert "accuracy" in text
            assert lines[-1].startswith("  then refcoco/val")
            assert ("left" in lines[0]) == (place < 24)
            assert "(by count)" not in text
            assert len(lines) <= 3 if width >= 80 else len(lines) <= 6
    assert "vqav2/val: 24 answered in " in " ".join(file.getvalue().split())


def test_display_without_token_estimates() -> None:
    job, records = charts()
    console = Console(file=io.StringIO(), width=80)
    assert not console.is_terminal
    with Reporter(console, [job]) as reporter, reporter.track(job, (), {}) as watch:
        watch.begin([Request(r.sample.id, (), decoding=None) for r in records], Plain())  # type: ignore[arg-type]
        for record in records[:100]:
            watch.add(record)
        assert "(by count)" in shown(reporter, 80)[0]
        reporter.console = console


def test_one_line_per_minute_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("evalkit.progress.display.time.monotonic", lambda: now[0])
    job, records = charts()
    console = Console(file=io.StringIO(), width=80)
    with Reporter(console, [job]) as reporter, reporter.track(job, records[:20], {}) as watch:
        watch.begin([Request(r.sample.id, (), decoding=None) for r in records[20:]], Plain())  # type: ignore[arg-type]
        for record in records[20:]:
            now[0] += 1.0
            watch.add(record)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 280 // 60 + 1
    assert lines[0].startswith("chartqa/test: 80 of 300, about ")
    assert " so far, " not in lines[0].split(", accuracy ")[0]
    assert lines[-1].startswith("chartqa/test: 280 answered in ")
    assert ", 20 resumed; accuracy " in lines[-1]


# ------------------------------------------------------------------------------------------------------- the command

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
RUN = ("run", "--data", "tiny", "--limit", "6")


def events_in(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_events(tmp_path: Path, evalkit: Evalkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "UPDATE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(display, "EVENT_EVERY_SECONDS", 0.0)
    done = evalkit(*RUN, "-t", "vqav2,refcoco/val", "--name", "x", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "refcoco" in done.stderr, "the table"
    events = events_in(done)
    kinds = [event["event"] for event in events]
    assert kinds == ["start", *["progress"] * 6, "task", *["progress"] * 6, "task", "end"]
    assert events[0]["tasks"] == [
        {"task": "vqav2", "split": "val", "samples": 6}, {"task": "refcoco", "split": "val", "samples": 6},
    ]  # fmt: skip
    for event in events[1:-1]:
        assert event["run"] == "x"
        assert (event["total"], event["kept"], event["errors"]) == (6, 0, 0)
        assert event["left_by"] == "tokens"
        assert event["seconds_left"] >= 0
        assert event["tokens_per_second"] > event["samples_per_second"] > 0
        assert event["memory_bytes"] > 50e6
    assert [event["done"] for event in events if event["event"] == "task"] == [6, 6]
    end = events[-1]
    rows = json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]
    assert (end["code"], end["error"]) == (0, None)
    (run,) = end["runs"]
    assert (run["run"], run["folder"], run["state"]) == ("x", "runs/x", "complete")
    assert run["results"] == rows
    assert events[7]["score"]["value"] == pytest.approx(rows[0]["value"])

    done = evalkit(*RUN, "-t", "vqav2", "--name", "x", "--json", cwd=tmp_path)
    (task,) = [event for event in events_in(done) if event["event"] == "task"]
    assert (task["kept"], task["done"], task["samples_per_second"], task["seconds_left"]) == (6, 6, None, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--limit", "0"), "--limit 0: give at least 1"),
        (("-t", "refcco"), "unknown task 'refcco'"),
        (("-t", "vqav2", "--batch-size", "0"), "--batch-size 0: give at least 1, or auto"),
        (("-t", "vqav2", "--exact", "-b", "8"), "--exact runs one sample at a time"),
        (("-t", "vqav2", "--dry-run"), "--json reports on a run, and --dry-run runs nothing"),
    ],
)
def test_json_event_of_a_usage_error(
    tmp_path: Path, evalkit: Evalkit, arguments: tuple[str, ...], sentence: str
) -> None:
    done = evalkit("run", "--json", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    (end,) = events_in(done)
    assert (end["event"], end["code"], end["runs"]) == ("end", 2, [])
    assert sentence in end["error"]
    assert sentence in done.stderr


def test_json_event_of_a_stopped_run(tmp_path: Path, evalkit: Evalkit, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(self: HFBackend, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        assert stop is not None
        stop.set()
        yield from real(self, requests, stop)

    real = HFBackend.generate
    monkeypatch.setattr(HFBackend, "generate", stopping)
    done = evalkit(*RUN, "-t", "vqav2", "--name", "x", "--json", cwd=tmp_path)
    assert done.returncode == 1
    end = events_in(done)[-1]
    assert (end["code"], end["error"], end["runs"][0]["state"], end["runs"][0]["results"]) == (1, None, "stopped", [])


def test_exact_has_the_same_identity_and_answers(tmp_path: Path, evalkit: Evalkit) -> None:
    found = {}
    for out, how in {"a": (), "b": ("--exact",), "c": ("-b", "2", "--max-batch-tokens", "100")}.items():
        done = evalkit(*RUN, "-t", "vqav2", "--out", out, *how, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (run,) = (tmp_path / out).iterdir()
        lines = [json.loads(line) for line in (run / "vqav2.val.jsonl").read_text().splitlines()]
        found[out] = run.name, {line["id"]: (line["text"], line["new_tokens"]) for line in lines}
        about = json.loads((run / "manifest.json").read_text())["backend"]
        if out == "b":
            assert "one sample at a time, loaded in" in done.stderr
            assert (about["batch_size"], about["engine"]) == (1, "generate: --exact runs one sample at a time")
        if out == "c":
            assert "batches of up to 2, loaded in" in done.stderr
            assert (about["batch_size"], about["max_batch_tokens"], about["engine"]) == (2, 100, "shared prefixes")
    assert found["a"] == found["b"] == found["c"]
