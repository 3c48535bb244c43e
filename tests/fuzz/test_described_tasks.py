"""Tasks in TOML that were changed at random: read for what they say, or refused with one sentence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.scoring import check_scorable
from evalkit.task_names import parse_tasks

from ..mutations import text
from .harness import BOTH, Case, Evalkit, Failures, Target, fuzz, limited

CHANGES = 500
ODD = (
    "0", "-1", "1e400", "nan", "inf", "true", '""', '"x"', "[]", "{}", "[[1]]", '["a", 1]', "1979-05-27", "07:32:00", "9" * 400,
    "9" * 5000, "[" * 3000, '"' + "x" * 5000 + '"', '"../../x.csv"', '"/etc/passwd"', '"{"', '"{}"', '"{x!r}"', '"{0.a}"',
    r'"\u0000"', r'"\n"', '{ value = [] }', '{ text = "{file}" }', '{ column = "file" }', '{ hub = "a/b", split = "x" }',
    '"""\nmany\nlines"""', "'''", "0x10", '{ a = { b = { c = 1 } } }',
)  # fmt: skip
"""Values of TOML, and what is none."""
FILES = {
    "vqa.toml": """kind = "vqa"
about = "a small task"
rows = "q.csv"
breakdowns = ["level"]
groups = ["a", "b"]
relative_to = "file"
metric = { name = "anls", variant = "mmf" }

[columns]
id = "id"
image = { column = "file", folder = "images" }
question = { text = "{text} ({level})" }
answers = { column = "gold", split = "|" }
cluster = "level"

[prompts]
all = "{q}\\nShort."
"qwen2.5-vl" = "{q}"

[decoding]
max_new_tokens = 12
temperature = 0.3
stop = ["\\n"]

[shots]
rows = ["q.csv"]
""",
    "places.toml": """evalkit = 1
kind = "grounding"
columns.box = { column = "bbox", format = "xywh" }
columns.image = ["file"]

[[rows]]
file = "images/a.png"
question = "it"
bbox = [1, 2, 30, 20.5]

[[rows]]
file = "images/b.png"
question = "this"
bbox = [3, 2, 30, 20]
""",
    "judged.toml": """kind = "vqa"
rows = { file = "t.jsonl", format = "jsonl" }

[judge]
scale = [1, 5]
image = true
max_new_tokens = 20
rubric = '''
{question} {references} {answer}
Good?'''
""",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "images").mkdir()
    for name in "ab":
        Image.new("RGB", (60, 50)).save(folder / "images" / f"{name}.png")
    (folder / "q.csv").write_text("id,file,text,gold,level\n1,a.png,What?,cat|a cat,x\n2,b.png,Who?,dog,y\n")
    turns = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}]
    rows = [{"image": f"images/{n}.png", "messages": turns, "question": "Why?", "answers": ["so"]} for n in "ab"]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, content in FILES.items():
        (folder / name).write_text(content)
    (folder / "p.jsonl").write_text('{"id": "1", "text": "cat"}\n{"id": "2", "text": "cat"}\n')
    return folder


def damaged(content: bytes, random: Random) -> bytes:
    """One change of bytes or lines, or another value or key in one of its places."""
    if random.random() < 0.4:
        return text(content, random)
    lines = content.decode().split("\n")
    stated = [number for number, line in enumerate(lines) if " = " in line]
    at = random.choice(stated)
    key, _, value = lines[at].partition(" = ")
    how = random.randrange(4)
    if how == 0:
        value = random.choice(ODD)
    elif how == 1:
        values = re.findall(r'"[^"]*"|\d+(?:\.\d+)?', value)
        value = value.replace(random.choice(values), random.choice(ODD), 1) if values else random.choice(ODD)
    elif how == 2:
        key = random.choice([*(lines[other].partition(" = ")[0] for other in stated), "x", key + "s", key[1:]])
    else:
        lines.insert(random.randrange(len(lines)), f"{key} = {random.choice(ODD)}")
    lines[at] = f"{key} = {value}"
    return "\n".join(lines).encode()


def refusal(name: str) -> str:
    """Why a description is refused; empty if it is not."""
    try:
        ((task, split),) = parse_tasks([name])
        check_scorable(load_job(task, split, open_data("tiny"), limit=None, seed=0, judge=True))
    except UserError as error:
        return str(error)
    return ""


def test_damaged_description_is_refused_with_one_sentence(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    random, failures, refused = Random("toml"), Failures(), 0
    for number in range(CHANGES):
        name = list(FILES)[number % len(FILES)]
        (folder / name).write_bytes(damaged(FILES[name].encode(), random))
        with failures.collecting(f"{number}: {name}", folder), limited():
            message = refusal(name)
            refused += bool(message)
            assert "\n" not in message, message
            assert not message or any(stem in message for stem in (name.partition(".")[0], "q.csv", "t.jsonl")), message
        (folder / name).write_text(FILES[name])
    failures.show()
    assert refused > CHANGES / 2


@pytest.mark.parametrize("changes", [40, pytest.param(CHANGES, marks=pytest.mark.slow)])
def test_command_ends_with_exit_code_2(evalkit: Evalkit, made: Path, tmp_path: Path, changes: int) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    random, failures, codes = Random("command"), Failures(), set()
    for number in range(changes):
        (folder / "vqa.toml").write_bytes(damaged(FILES["vqa.toml"].encode(), random))
        with failures.collecting(f"{number}: vqa.toml", folder), limited():
            done = evalkit("tasks", "vqa.toml", cwd=folder)
            codes.add(done.returncode)
            assert done.returncode in (0, 2), done.stderr
            assert done.returncode == 0 or done.stderr.startswith("error: "), done.stderr
    failures.show()
    assert codes == {0, 2}


def other_description(case: Case) -> None:
    """A description that says the same gives the same score; one that says something else has another digest."""
    (after,), (before,) = scores_in(case.folder / "new"), scores_in(case.made / "runs")
    if digest_in(after["signature"]) == digest_in(before["signature"]):
        assert after["value"] == before["value"], "silently changed"


def scores_in(runs: Path) -> list[dict[str, Any]]:
    return list(json.loads((runs / "N" / "scores.json").read_text())["results"])


def digest_in(signature: str) -> str:
    return signature.partition("|file:")[2].partition("|")[0]


@BOTH
def test_changed_description_is_scored_for_what_it_says(
    evalkit: Evalkit, made: Path, tmp_path: Path, total: int
) -> None:
    place, command = tmp_path / "made", ("score", "-t", "vqa.toml", "-p", "p.jsonl", "--name", "N")
    shutil.copytree(made, place)
    assert evalkit(*command, cwd=place).returncode == 0
    target = Target("vqa.toml", damaged, ((*command, "--out", "new"),), 500, other_description)
    assert fuzz(evalkit, place, tmp_path / "copy", "toml", target, total), "every change was refused"
