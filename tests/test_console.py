"""Output of every command to pipes and to terminals whose encoding lacks characters."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table as RichTable
from rich.text import Text

from evalkit.console import HANDLER, encodable, new_console, print_document

TEXT = "65.00 ± 1.2 − 3 … 日本 é \ud800"


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, text: str, format: str) -> bytes:
    """What ``print_document`` writes to a stdout of this encoding."""
    content = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding, errors=HANDLER, write_through=True))
        print_document(text, format)
        return content.getvalue()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "65.00 +/- 1.2 - 3 ... ?? e ?"),
        ("iso-8859-1", "65.00 ± 1.2 - 3 ... ?? é ?"),
        ("cp1252", "65.00 ± 1.2 - 3 … ?? é ?"),
        ("utf-8", "65.00 ± 1.2 − 3 … 日本 é ?"),
    ],
)
def test_missing_characters_are_replaced(encoding: str, shown: str) -> None:
    assert encodable(TEXT, encoding) == shown
    assert TEXT.encode(encoding, HANDLER).decode(encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_json_and_html_keep_every_character(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    text = json.dumps({"a": "± 日本 \N{GRINNING FACE} é"}, ensure_ascii=False)
    content = printed(monkeypatch, encoding, text, "json")
    assert content.isascii()
    assert json.loads(content) == json.loads(text)
    assert printed(monkeypatch, encoding, "<p>± é</p>", "html") == b"<p>&#177; &#233;</p>"


def test_document_in_utf_8_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, "utf-8", '{"a": "é"}', "json").decode() == '{"a": "é"}'


@pytest.mark.parametrize("force", [False, True])
def test_without_terminal_lines_do_not_wrap(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], force: bool
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if force:
        monkeypatch.setenv("FORCE_COLOR", "1")
    console = new_console()
    console.print("word " * 200)
    assert capsys.readouterr().out.count("\n") == 1
    assert not console.is_interactive


def test_columns_limits_width(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    new_console().print("word " * 20)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_texts_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = new_console(highlight=False)
    text = "[/bold] [red]a[/red] :smile: `b` \\[c]"
    table = RichTable(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(text)
    console.print(Text.assemble((text, "bold")))
    console.print(table)
    with console.status(text) as status:
        status.update(Text(text))
    out = capsys.readouterr().out
    assert out.count(text) == 5
    assert "\N{SMILING FACE WITH OPEN MOUTH AND SMILING EYES}" not in out


def test_terminal_gets_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    console = new_console(highlight=False)
    console.print("a\x1b[31mb\x00\x9b2J\x1b]0;title\x07\u202ec")
    console.print(Text("d\x1b[2Je"))
    out = capsys.readouterr().out
    assert not {"\x1b", "\x00", "\x9b", "\x07", "\u202e"} & set(out)
    assert out.split() == ["a\ufffd[31mb\ufffd\ufffd2J\ufffd]0;title\ufffdc", "d\ufffd[2Je"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a custom task whose texts are not ASCII, and answers to it."""
    folder = tmp_path_factory.mktemp("unicode")
    Image.effect_noise((200, 200), 90).save(folder / "1.jpg")
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:5000])
    for name, image in (("mine", "1.jpg"), ("broken", "cut.jpg")):
        rows = [{"id": f"日本-é{i}", "image": image, "question": f"何色? ± {i}", "answers": ["赤"]} for i in range(2)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, text in (("a", "赤"), ("b", "緑 – …")):
        lines = [json.dumps({"id": f"日本-é{i}", "text": text}) + "\n" for i in range(2)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


COMMANDS = (
    "score --tasks mine.jsonl --predictions a.jsonl --name ä",
    "score --tasks mine.jsonl --predictions b.jsonl --name b",
    "run --tasks broken.jsonl --name failed",
    "run --tasks mine.jsonl --dry-run",
    "rescore runs/b",
    "leaderboard",
    "leaderboard runs/failed",
    *(f"leaderboard --format {name}" for name in ("md", "csv", "json", "html", "latex")),
    "show runs/ä --any 2",
    "show runs/ä runs/b --any 2 --format md",
    "show runs/ä --any 2 --format json",
    "compare runs/ä runs/b --show-flips 2",
    *(f"compare runs/ä runs/b --format {name}" for name in ("md", "csv", "json", "html", "latex")),
    "baseline runs/ä",
    "check runs/b --mode exact",
    "report runs/ä runs/b",
    "export --to csv runs/ä",
    "tasks",
    "tasks docvqa",
    "verify tiny --no-forward",
    "verify tiny --no-forward --json",
    "run --help",
    "run --tasks über",
)
FAILING = {"run --tasks broken.jsonl --name failed": 1, "check runs/b --mode exact": 1, "run --tasks über": 2}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_no_command_fails_for_encoding(answers: Path, tmp_path: Path, encoding: str) -> None:
    """Every command with both streams in an encoding that lacks most of what it prints."""
    program = (
        "import shlex, sys\n"
        "from evalkit.cli import main\n"
        "for line in sys.stdin.buffer.read().decode().splitlines():\n"
        "    sys.argv = ['evalkit', *shlex.split(line)]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print(f'\\n[exit {end.code or 0}]')\n"
    )
    for file in answers.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, input="\n".join(COMMANDS).encode(), capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(encoding)
    codes = [int(code) for code in re.findall(rb"^\[exit (\d+)\]", done.stdout, re.MULTILINE)]
    assert codes == [FAILING.get(command, 0) for command in COMMANDS]
    assert b"Traceback" not in done.stderr
    assert b"\\u" not in done.stderr
