"""``evalkit show`` as a user calls it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from evalkit.api import load_task

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

STEERING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029",
]


def blocks(text: str) -> list[str]:
    """The samples as they are printed, an empty line after each."""
    return [block for block in text.split("\n\n") if block.strip()]


def test_wrong_answers_are_shown_with_all_details(evalkit: Evalkit, two_runs: Path) -> None:
    done = evalkit("show", "runs/a", "--tasks", "refcoco", "--wrong", "5", cwd=two_runs)
    assert done.returncode == 0, done.stderr
    found = blocks(done.stdout)
    assert len(found) == 5
    samples = {s.id: s for s in load_task("refcoco/val", data="tiny")}
    wrong = []
    for block in found:
        first, *lines = block.splitlines()
        place, _, status = first.partition(": ")
        assert status in ("wrong", "unparsed")
        split, _, name = place.partition(" ")
        assert split == "refcoco/val"
        sample = samples[name]
        labels = [line[2:12].strip() for line in lines if line[2:12].strip()]
        assert labels == ["image", "prompt", "answer", "parsed", "score", "reference"]
        assert sample.images[0].name in lines[0]
        width, height = sample.images[0].size()
        assert f"({width}×{height})" in lines[0]
        assert sample.text in lines[1]
        wrong.append(name)
    places = {key: place for place, key in enumerate(samples)}
    assert wrong == sorted(wrong, key=places.__getitem__), "in the official order"


def test_answers_are_neither_control_codes_nor_markup(evalkit: Evalkit, two_runs: Path) -> None:
    for form in ("text", "md"):
        done = evalkit("show", "runs/a", "-t", "vqav2,docvqa", "--any", "1000", "--format", form, cwd=two_runs)
        assert done.returncode == 0
        assert not set(done.stdout) & set(STEERING) - {"\n"}
        assert "[bold]not bold[/bold] **nor this** <img src=x>" in done.stdout
        assert "\N{REPLACEMENT CHARACTER}[31mred" in done.stdout
    fences = [line for line in done.stdout.splitlines() if line.startswith("```")]
    assert "`````text" in fences, "a fence longer than any in the answer"
    inside, outside = False, []
    fence = ""
    for line in done.stdout.splitlines():
        if not inside and line.startswith("```"):
            inside, fence = True, line.removesuffix("text")
        elif inside and line == fence:
            inside = False
        elif not inside:
            outside.append(line)
    assert not inside
    said = {line for line in outside if line and not line.startswith("### ")}
    assert said <= {"image:", "prompt:", "question:", "answer:", "parsed:", "score:", "reference:", "error:"}


def test_terminal_output_is_colored_and_safe(two_runs: Path) -> None:
    import io

    from rich.console import Console

    from evalkit.results.samples.context import context_of
    from evalkit.results.samples.join import split_of
    from evalkit.results.samples.text import on_terminal
    from evalkit.results.store.scored_run import ScoredRun

    run = ScoredRun.open(two_runs / "runs" / "a")
    split = split_of([run], "vqav2/val", context_of([run], "vqav2/val", None))
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=200)
    for shown in split.samples[:48]:
        on_terminal(console, split, shown)
    text = out.getvalue()
    assert "\x1b[1;31m" in text, "wrong ones are red"
    styles = {"\x1b[1;31m", "\x1b[1;32m", "\x1b[1;33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"}
    assert set(re.findall(r"\x1b\[[0-9;]*m", text)) <= styles
    rest = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not set(rest) & set(STEERING) - {"\n"}
    assert "[bold]not bold[/bold]" in rest


def test_every_status_filter(evalkit: Evalkit, two_runs: Path) -> None:
    def statuses(*options: str) -> Counter[str]:
        done = evalkit("show", "runs/a", "-t", "vqav2", *options, "--format", "json", cwd=two_runs)
        assert done.returncode == 0, done.stderr
        return Counter(record["status"] for record in json.loads(done.stdout))

    assert statuses("--errors", "9") == {"error": 1}
    assert statuses("--right", "7") == {"right": 7}
    assert set(statuses("--wrong", "7")) <= {"wrong", "unparsed"}
    assert statuses("--right", "2", "--wrong", "3").total() == 5
    every = statuses("--any", "1000")
    assert every.total() == len(load_task("vqav2/val", data="tiny"))
    assert statuses("--partly", "1000")["partly"] == every["partly"]
    assert statuses("--unparsed", "1000")["unparsed"] == every["unparsed"]
    assert statuses().total() == 3, "a few where nothing is asked for"


def test_sorted_searched_and_by_id(evalkit: Evalkit, two_runs: Path) -> None:
    def records(*options: str) -> list[dict[str, object]]:
        done = evalkit("show", "runs/a", *options, "--format", "json", cwd=two_runs)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    found = records("-t", "refcoco/val", "--any", "40", "--sort", "worst")
    ious = [r["scores.iou"] for r in found]
    assert ious == sorted(ious)  # type: ignore[type-var]
    assert ious[0] == 0
    best = [r["scores.iou"] for r in records("-t", "refcoco/val", "--any", "4", "--sort", "best")]
    assert best == sorted(best, reverse=True)  # type: ignore[type-var]
    assert best[0] > ious[-1]  # type: ignore[operator]
    longest = [len(str(r["text"])) for r in records("-t", "vqav2", "--any", "9", "--sort", "longest")]
    assert longest == sorted(longest, reverse=True)
    random = [r["id"] for r in records("-t", "vqav2", "--any", "9", "--sort", "random")]
    assert random == [r["id"] for r in records("-t", "vqav2", "--any", "9", "--sort", "random")]
    assert random != [r["id"] for r in records("-t", "vqav2", "--any", "9")]
    assert all("color" in str(r["question"]) for r in records("-t", "vqav2", "--any", "5", "--search", "What Color"))
    ids = [s.id for s in load_task("vqav2/val", data="tiny")][5:7]
    assert [r["id"] for r in records("--id", ids[0], "--id", ids[1], "-t", "vqav2")] == ids


def test_json_has_answers_exactly(evalkit: Evalkit, two_runs: Path) -> None:
    done = evalkit("show", "runs/a", "-t", "docvqa", "--any", "1000", "--format", "json", cwd=two_runs)
    given = {row["id"]: row["text"] for row in map(json.loads, (two_runs / "a-docvqa.jsonl").open())}
    assert {r["id"]: r["text"] for r in json.loads(done.stdout)} == given
    assert done.stdout.isascii()


def test_two_runs_side_by_side(evalkit: Evalkit, two_runs: Path) -> None:
    done = evalkit("show", "runs/a", "runs/b", "-t", "vqav2,refcoco", "--flipped", "4", cwd=two_runs)
    assert done.returncode == 0, done.stderr
    assert len(blocks(done.stdout)) == 8
    for block in blocks(done.stdout):
        assert "A right, B " in block or ", B right" in block
        assert "  A answer  " in block
        assert "  B answer  " in block
        assert "  B − A     " in block
    done = evalkit(
        "show", "runs/a", "runs/b", "-t", "refcoco", "--any", "6", "--sort", "losses", "--format", "json", cwd=two_runs
    )
    rows = json.loads(done.stdout)
    pairs = [(a["scores.iou"], b["scores.iou"]) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    assert [r["run"] for r in rows[:2]] == ["a", "b"]
    losses = [b - a for a, b in pairs]
    assert losses == sorted(losses)
    assert losses[0] < 0


def test_captions_have_no_status(evalkit: Evalkit, captions: Path) -> None:
    done = evalkit("show", str(captions), "--wrong", "2", "--right", "1", "--format", "json", cwd=captions)
    low, second, high = (record["scores.cider"] for record in json.loads(done.stdout))
    assert low <= second < high
    assert "has no right and wrong: showing the lowest scores as wrong" in done.stderr


def test_missing_data_is_reported_and_rest_shown(evalkit: Evalkit, two_runs: Path, tmp_path: Path) -> None:
    done = evalkit("show", "runs/a", "-t", "vqav2", "--any", "1", "--data", str(tmp_path), cwd=two_runs)
    assert done.returncode == 0, done.stderr
    assert "note: vqav2/val: questions and references are left out, because the data is missing" in done.stderr
    (block,) = blocks(done.stdout)
    assert "  answer    " in block
    assert "question" not in block


def test_usage_errors_exit_with_2(evalkit: Evalkit, two_runs: Path) -> None:
    for arguments, sentence in (
        (("nowhere",), "nowhere is not a run folder"),
        (("runs/a", "-t", "gqa"), "--tasks gqa: not in runs/a, which has vqav2/val, refcoco/val"),
        (("runs/a", "--flipped", "3"), "--flipped compares two runs"),
        (("runs/a", "--sort", "gains"), "--sort gains compares two runs"),
        (("runs/a", "--sort", "up"), "--sort up: unknown; use one of official, worst"),
        (("runs/a", "--format", "xml"), "--format xml: unknown; use one of text, md, json"),
        (("runs/a", "runs/a"), "are the same run"),
        (("runs/a", "--id", "no such"), "--id no such: no such sample in vqav2/val, refcoco/val"),
        (("runs/a", "--id", "1", "--wrong", "2"), "drop the counts, --search and --sort"),
    ):
        done = evalkit("show", *arguments, cwd=two_runs)
        assert done.returncode == 2, arguments
        assert sentence in " ".join(done.stderr.split())
        assert len(done.stderr.strip().splitlines()) == 1
    nothing = evalkit("show", "runs/a", "-t", "vqav2", "--any", "2", "--search", "xyzzy", cwd=two_runs)
    assert nothing.returncode == 0
    assert nothing.stdout == ""
    assert "vqav2/val: no sample matches (of" in nothing.stderr


def test_light_imports(two_runs: Path) -> None:
    code = (
        "import sys\nfrom evalkit.cli import main\n"
        "sys.argv = ['evalkit', 'show', 'runs/a', '--wrong', '2']\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "print('HEAVY', sorted(set(sys.modules) & {'torch', 'transformers', 'pandas', 'datasets', 'pyarrow'}))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=two_runs, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout[-300:]
