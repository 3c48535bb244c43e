"""Tables in the formats that people paste, and what models and ids could put into them."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from evalkit.results.html import page
from evalkit.results.tables import Cell, Note, Table, flat, latex, markdown, plain, short

HOSTILE = (
    "</b><img src=x onerror=alert(1)> | `a` \\| *b* _c_ [d](http://e) & } # $ % ~~f~~ \x1b[31m\u202a \x00\ud800\nnew"
)


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_control_characters_are_removed() -> None:
    assert flat(" a\tb\r\n c\u2028d ") == "a b c d"
    assert flat("\x1b[31mred\x00\ud800") == "\ufffd[31mred\ufffd\ufffd"
    assert flat("\u202eabc\u2066") == "\ufffdabc\ufffd"
    assert flat("日本 – ± 🙂👩‍🔬") == "日本 – ± 🙂👩‍🔬"
    assert short("x" * 161) == "x" * 159 + "…"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"), (r"a\|b", r"a\\\|b"), ("85.2 ± 1.9*", r"85.2 ± 1.9\*"), ("<b>", r"\<b>"), ("</b>", r"\</b>"),
        ("<0.001", "<0.001"), ("a < b", "a < b"), ("[d](http://e)", r"[d]\(http://e)"), ("[85.3, 99.4]", "[85.3, 99.4]"),
        ("coco_caption", "coco_caption"), ("_c_", r"\_c\_"), ("`a`", r"\`a\`"), ("~~f~~", r"\~~f\~~"),
    ],
)  # fmt: skip
def test_markdown_keeps_content(text: str, written: str) -> None:
    assert plain(text) == written


def test_markdown_notes_are_one_list_and_keep_their_signatures() -> None:
    text = markdown([Table(["a", "b"], [["x", "1"]], 1, "", ["* failed: <b>", Note("c: ", "s|v1_*")])])
    assert text.splitlines()[-2:] == [r"- \* failed: \<b>", "- c: `s|v1_*`"]


@pytest.mark.parametrize(
    "name", ["``<img src=x>", "```<img src=x>", "`<img src=x>`", "<img src=x>", "a`b``c <img src=x>"]
)
def test_markdown_has_no_markup_of_names(name: str) -> None:
    notes = [f"{name}: no score", Note("", f"{name}:own|v1"), Note(f"{name}, unparsed: {name} 1; ", f"{name}|v1")]
    rendered = MarkdownIt().enable("table").render(markdown([Table(["model"], [[name]], notes=notes, title=name)]))
    found = Tags()
    found.feed(rendered)
    assert "img" not in found.tags
    assert found.tags.count("code") == 2
    assert found.text.count(name) == 7


def test_row_of_hostile_cells_is_one_row_in_each_format() -> None:
    table = Table(["task", HOSTILE], [[HOSTILE, Cell(HOSTILE, bold=True)]], 2, HOSTILE, [HOSTILE])
    lines = markdown([table]).splitlines()
    assert len(lines) == 7
    assert lines[4].replace(r"\|", "").count("|") == 3
    assert "<img" not in lines[4].replace(r"\<img", "")

    tex = latex([table]).splitlines()
    assert tex[1].startswith("% ")
    assert len(tex) == 10
    assert tex[6].replace(r"\&", "").count("&") == 1
    tex[6].encode()  # half a character cannot be written

    parser = Tags()
    html = page([table], HOSTILE)
    parser.feed(html)
    assert "img" not in parser.tags
    assert parser.tags.count("td") == parser.tags.count("th") == 2
    assert not {"\x00", "\x1b", "\ud800"} & set(html)


def test_latex_escapes_arguments_and_dashes() -> None:
    text = latex([Table(["a", "b"], [["[x]", "1"], ["*y", "2"], ["Qwen--7B", "–"], ["", ""]])])
    assert "\n{}[x] & 1" in text
    assert "\n{}*y & 2" in text
    assert "Qwen-{}-7B & --" in text


def test_table_without_rows_is_its_title_and_notes() -> None:
    empty = Table(["a", "b"], [], 1, "Title", ["nothing"])
    assert markdown([empty]) == "**Title**\n\n- nothing\n"
    assert "tabular" not in latex([empty])
    assert "nothing" in latex([empty])
    assert "<table" not in page([empty], "t")
