"""Custom task files are what is in them: the same file and images are the same data wherever they lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evalkit.cli import main

Evalkit = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def evalkit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Evalkit:
    """The command in this process: importing torch takes seconds."""

    def call(arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr("sys.argv", ["evalkit", *arguments.split()])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, " ".join(err.split())

    return call


@pytest.fixture
def checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders ``a`` and ``b`` with the same file and images; the first is the current one."""
    first = tmp_path / "a"
    (first / "images").mkdir(parents=True)
    for number, colour in enumerate(("red", "green", "blue", "yellow")):
        Image.new("RGB", (120, 90), colour).save(first / "images" / f"{number}.png")
    write(first / "mine.jsonl", [line(number) for number in range(4)])
    write(first / "shots.jsonl", [line(number) for number in (3, 2)])
    shutil.copytree(first, tmp_path / "b")
    monkeypatch.chdir(first)
    return tmp_path


def line(number: int) -> dict[str, object]:
    return {"id": str(number), "image": f"images/{number}.png", "question": "What color is it?", "answers": ["red"]}


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


RUN = "run --tasks mine.jsonl --model tiny --device cpu --out ../runs"


@pytest.mark.parametrize("more", ["", " --shots 1 --shots-from shots.jsonl"])
def test_another_checkout_is_same_data(
    evalkit: Evalkit, checkouts: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    assert evalkit(f"{RUN} --name x{more}")[0] == 0
    assert evalkit("baseline ../runs/x --out ../base.json")[0] == 0
    assert str(checkouts) not in (checkouts / "base.json").read_text()
    assert str(checkouts) not in (checkouts / "runs" / "x" / "mine.own.scores.jsonl").read_text()

    monkeypatch.chdir(checkouts / "b")
    code, _, said = evalkit(f"{RUN} --name x{more}")
    assert code == 0, said
    assert "0 answered" in said
    assert evalkit(f"{RUN}{more}")[2].count("0 answered") == 1
    assert [path.name for path in (checkouts / "runs").iterdir()] == ["x"]
    code, _, said = evalkit(f"run --tasks mine.jsonl --model tiny --device cpu --out ../other --name x{more}")
    assert code == 0, said
    for command in ("check ../other/x --baseline ../base.json --mode exact", "compare ../runs/x ../other/x"):
        code, _, said = evalkit(command)
        assert code == 0, said


def test_other_content_is_other_data(evalkit: Evalkit, checkouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evalkit(f"{RUN} --name x")[0] == 0
    assert evalkit("baseline ../runs/x --out ../base.json")[0] == 0
    monkeypatch.chdir(checkouts / "b")
    Image.new("RGB", (120, 90), "black").save("images/2.png")
    code, _, said = evalkit(f"{RUN} --name x")
    assert code == 0, said
    assert "mine/own: re-running 1 samples: image changed (2)" in said
    assert evalkit("run --tasks mine.jsonl --model tiny --device cpu --out ../other --name y")[0] == 0
    code, out, said = evalkit("check ../other/y --baseline ../base.json")
    assert "mine/own: the images differ from the baseline's" in " ".join(out.split())
    code, out, said = evalkit("compare ../runs/x ../other/y")
    assert code == 0, said
    assert "other images" not in out, "both have the black one"
    monkeypatch.chdir(checkouts / "a")
    assert evalkit("run --tasks mine.jsonl --model tiny --device cpu --out ../other --name z")[0] == 0
    code, out, said = evalkit("compare ../other/y ../other/z")
    assert code == 0, said
    assert "! mine/own, B: 1 of 4 samples were answered on other images than A's" in " ".join(out.split())
    assert "images" not in evalkit("check ../other/z --baseline ../base.json")[1]
    monkeypatch.chdir(checkouts / "b")
    write(Path("mine.jsonl"), [line(number) for number in range(3)])
    code, _, said = evalkit(f"{RUN} --name x")
    assert code == 2
    assert "differs from this command (mine/own: annotations" in said
    assert evalkit("run --tasks mine.jsonl --model tiny --device cpu --out ../other --name x")[0] == 0
    code, _, said = evalkit("check ../other/x --baseline ../base.json")
    assert code == 2
    assert "the data differ" in said


def test_after_move_data_says_where_file_is(evalkit: Evalkit, checkouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evalkit(f"{RUN} --name x --shots 1 --shots-from shots.jsonl")[0] == 0
    monkeypatch.chdir(checkouts)
    shutil.rmtree("b")
    (checkouts / "a").rename("moved")
    code, _, said = evalkit("rescore runs/x")
    assert code == 2
    assert f"there is no file {checkouts}/a/mine.jsonl; give the folder that has mine.jsonl now with --data" in said
    for place in ("moved", "moved/mine.jsonl", str(checkouts / "moved")):
        code, _, said = evalkit(f"rescore runs/x --data {place}")
        assert code == 0, said
        assert "mine/own: unchanged" in said
        code, out, said = evalkit(f"show runs/x --any 4 --format json --data {place}")
        assert code == 0, said
        assert [len(sample["references"]) for sample in json.loads(out)] == [1] * 4
    code, _, said = evalkit("report runs/x --out report --data moved")
    assert code == 0, said
    assert "4 images" in said
    code, _, said = evalkit("rescore runs/x --data runs")
    assert code == 2
    assert f"there is no file {checkouts}/a/mine.jsonl or runs; give the folder" in said

    write(checkouts / "moved" / "mine.jsonl", [{**line(number), "answers": ["blue"]} for number in range(4)])
    assert "mine.jsonl has changed since the run was made" in " ".join(evalkit("show runs/x --data moved")[1:])
