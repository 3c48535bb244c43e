from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.metrics import omnidocbench
from evalkit.metrics.ocr.trees import teds
from evalkit.metrics.omnidoc.markdown import blocks_of
from evalkit.metrics.omnidoc.matching import quick_match
from evalkit.metrics.omnidoc.normal_forms import formula_form, table_form, text_form
from evalkit.metrics.omnidocbench import METRICS
from evalkit.types import Answered, Prediction, Sample, Scores

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "omnidocbench.json").read_text())
GOLDEN_SETS = {**GOLDEN["sets"], **json.loads((FOLDER / "omnidocbench_more.json").read_text())["sets"]}
NAMES = {"v1.5": "omnidocbench", "v1.0": "omnidocbench_v1", "vlmevalkit": "omnidocbench_v1_vlmevalkit"}
SETS = ("mixed", "short", "latex_tables", "more")
ATTRIBUTES = {"language": "english", "data_source": "book", "layout": "single_column", "special_issue": ["None"]}


def answered(key: str, page: dict[str, Any], markdown: str | None, meta: dict[str, Any] | None = None) -> Answered:
    return Answered(Sample(key, (), "?", (json.dumps(page),), key, meta=meta or ATTRIBUTES), Prediction(markdown))


def of_set(name: str) -> list[Answered]:
    return [
        answered(case["id"], inputs["page"], inputs["markdown"] or None, inputs["page"]["page_info"]["page_attribute"])
        for case in GOLDEN_SETS[name]["cases"]
        for inputs in [case["inputs"]]
    ]


def page(*boxes: dict[str, Any], relations: tuple[tuple[int, int], ...] = ()) -> dict[str, Any]:
    listed = [{"anno_id": n, "order": n, "attribute": {}, **box} for n, box in enumerate(boxes, 1)]
    relation = [{"source_anno_id": a, "target_anno_id": b, "relation_type": "truncated"} for a, b in relations]
    return {"layout_dets": listed, "extra": {"relation": relation}}


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"category_type": "text_block", "text": content, **more}


def table(html: str, **more: Any) -> dict[str, Any]:
    return {"category_type": "table", "html": html, "latex": "x", **more}


def score(metric: str, *pairs: tuple[dict[str, Any], str | None]) -> Scores:
    return score_answers(METRICS[metric], [answered(str(n), *pair) for n, pair in enumerate(pairs)])


@pytest.mark.parametrize(
    ("name", "version"), [*((name, version) for name in SETS for version in ("v1.5", "v1.0")), ("more", "vlmevalkit")]
)
def test_every_page_as_the_official_scorer(name: str, version: str) -> None:
    answers = of_set(name)
    METRICS[NAMES[version]].check([a.sample for a in answers], "document")
    per_sample = score_answers(METRICS[NAMES[version]], answers).per_sample
    for case in GOLDEN_SETS[name]["cases"]:
        found = {key: value for key, value in per_sample[case["id"]].items() if key != "score"}
        assert found == pytest.approx(case["expected"][version], abs=1e-9), case["id"]


@pytest.mark.parametrize("version", NAMES)
@pytest.mark.parametrize("name", SETS)
def test_means_and_breakdowns_as_the_official_scorer(name: str, version: str) -> None:
    expected = GOLDEN_SETS[name]["totals"][version]
    values = score_answers(METRICS[NAMES[version]], of_set(name)).values
    unknown = () if name == "more" else ("[sample_avg]", "[whole]")  # not in the older file
    found = {k: v for k, v in values.items() if not k.startswith("overall") and not k.endswith(unknown)}
    assert len(found) > 40
    assert ("text_edit[whole]" in values) == (version == "v1.5")
    assert found == pytest.approx({key: expected[key] for key in found}, abs=1e-9)
    if version == "v1.5":
        overall = (100 * (1 - expected["text_edit"]) + expected["TEDS"]) / 2
        assert math.isclose(values["overall_without_cdm"], overall)
        assert "overall" not in values
    else:
        edit = sum(expected[key] for key in ("text_edit", "formula_edit", "table_edit", "order_edit")) / 4
        assert math.isclose(values["overall_edit"], edit)
        assert math.isclose(values["overall_score"], 100 * (1 - edit))


@pytest.mark.parametrize("version", ["v1.5", "v1.0"])
def test_blocks_and_forms_of_any_text(version: str) -> None:
    current = version == "v1.5"
    assert len(GOLDEN["texts"]) > 100
    for case in GOLDEN["texts"]:
        markdown, expected = case["inputs"]["markdown"], case["expected"][version]
        blocks: dict[str, list[list[Any]]] = {}
        for block in blocks_of(markdown, current=current):
            blocks.setdefault(block.kind, []).append([block.start, block.content, block.detail])
        assert blocks == expected["blocks"]
        assert text_form(markdown) == expected["text"]
        assert formula_form(markdown, current=current) == expected["formula"]
        assert table_form(markdown) == expected["table"]


def test_vlmevalkit_splits_a_page_with_crlf_at_every_line() -> None:
    pair = page(text("One two three"), text("Four")), "One two\r\nFour\r\n\r\nthree"
    assert math.isclose(score("omnidocbench_v1", pair).values["text_edit"], 0.4)
    assert math.isclose(score("omnidocbench_v1_vlmevalkit", pair).values["text_edit"], 0.5)


def test_edit_distances_of_all_elements_together() -> None:
    pairs = (
        (page(text("abcd"), text("The long second one")), "abcx\n\nThe long second one"),
        (page(text("wxyz")), "wxyz"),
    )
    values = score("omnidocbench", *pairs).values
    assert math.isclose(values["text_edit"], 1 / 20 / 2)
    assert math.isclose(values["text_edit[sample_avg]"], 1 / 4 / 3)
    assert math.isclose(values["text_edit[whole]"], 1 / 24)


def test_right_pages_have_no_edits() -> None:
    right = page(
        text("One two three."),
        {"category_type": "equation_isolated", "latex": "\\[x=1\\]"},
        table("<table><tr><td>1</td></tr></table>"),
    )
    markdown = "One two three.\n\n$$x=1$$\n\n<table><tr><td>1</td></tr></table>"
    for metric in ("omnidocbench", "omnidocbench_v1", "omnidocbench_v1_vlmevalkit"):
        scores = score(metric, (right, markdown), (right, markdown))
        assert scores.values[scores.headline] == 100
        assert scores.per_sample["0"] == {"score": 100, "text_edit": 0, "formula_edit": 0, "table_edit": 0, "order_edit": 0, "TEDS": 100, "TEDS_S": 100}  # fmt: skip


def test_an_answer_that_is_not_parsed_has_all_edits() -> None:
    for metric in METRICS:
        scores = score(metric, (page(text("One"), table("<table><tr><td>1</td></tr></table>")), None))
        assert scores.values[scores.headline] == 0
        assert scores.per_sample["0"]["score"] == 0


def test_reading_order_of_swapped_texts() -> None:
    texts = ("The first paragraph of this page.", "Something else entirely here.", "A third one about 1 or 2 things.")
    scores = score("omnidocbench", (page(*map(text, texts)), "\n\n".join([texts[1], texts[0], texts[2]])))
    assert scores.values["text_edit"] == 0
    assert math.isclose(scores.values["order_edit"], 2 / 3)


def test_interrupted_texts_are_joined_and_the_middle_of_three_twice() -> None:
    parts = [text("one "), text("two "), text("three")]
    assert score("omnidocbench", (page(*parts, relations=((1, 2),)), "one two\n\nthree")).values["text_edit"] == 0
    assert (
        score("omnidocbench", (page(*parts, relations=((1, 2), (2, 3))), "one two two three")).values["text_edit"] == 0
    )


def test_text_that_belongs_to_nothing_counts_in_v1_0_only() -> None:
    pair = (
        page(text("The only paragraph."), text("And another one.")),
        "The only paragraph.\n\nAnd another one.\n\nHere it ends",
    )
    assert score("omnidocbench", pair).values["text_edit"] == 0
    assert score("omnidocbench_v1", pair).values["text_edit"] > 0


def test_headers_and_captions_do_not_count() -> None:
    right = page(text("A paragraph of text."), {"category_type": "header", "text": "Journal of Tests", "order": None})
    for markdown in ("A paragraph of text.", "Journal of Tests\n\nA paragraph of text."):
        assert score("omnidocbench", (right, markdown)).values["text_edit"] == 0


def test_a_formula_as_text_counts_as_text_in_v1_5() -> None:
    pair = (
        page(text("A paragraph."), {"category_type": "equation_isolated", "latex": "$$x = 1 + y$$"}),
        "A paragraph.\n\nx = 1 + y",
    )
    scores = score("omnidocbench", pair)
    assert scores.values["text_edit"] == 0
    assert "formula_edit" not in scores.values
    assert score("omnidocbench_v1", pair).values["formula_edit"] == 1


def test_tables_in_latex() -> None:
    html = "<table><tr><td>1</td></tr></table>"
    latex = "\\begin{tabular}{c}\n1 \\\\\n\\end{tabular}\n"
    pairs = [(page(table(html)), latex), (page(table(html)), latex), (page(table(html)), html)]
    assert math.isclose(score("omnidocbench", *pairs).values["TEDS"], 100 / 3)
    assert math.isclose(score("omnidocbench_v1_vlmevalkit", *pairs).values["TEDS"], 100 / 3)
    mostly = score("omnidocbench_v1", *pairs)
    assert mostly.values["TEDS"] == 0
    assert "LaTeXML" in mostly.notes[0]
    half = score("omnidocbench_v1", *pairs[1:])
    assert half.values["TEDS"] == 100
    assert not half.notes
    assert "TEDS" not in half.per_sample["0"]


def test_teds_of_the_structure() -> None:
    documents = [f"<html><body><table><tr><td>{n}</td><td>x</td></tr></table></body></html>" for n in (1, 2)]
    assert math.isclose(teds(*documents), 1 - 1 / 3)
    assert teds(*documents, structure_only=True) == 1


def test_intervals_are_of_pages_and_draws_may_lack_elements() -> None:
    scores = score(
        "omnidocbench_v1", (page(text("One two")), "One two"), (page(table("<table><tr><td>1</td></tr></table>")), "")
    )
    declared: Any = scores.aggregation["overall_edit"]
    rows = np.array([declared.statistics["0"], declared.statistics["1"]])
    assert declared.values(rows[:1])["overall_edit"][0] == 0
    assert declared.values(rows[1:])["overall_edit"][0] == 1
    assert math.isnan(declared.values(rows[:1])["TEDS"][0])
    assert scores.aggregation["overall_edit"].maximum == 1  # type: ignore[attr-defined]
    assert scores.aggregation["overall_score"].maximum == 100  # type: ignore[attr-defined]


def test_no_answers_and_pages_without_elements() -> None:
    for metric in METRICS.values():
        assert math.isnan(score_answers(metric, []).values[metric.headline])
    scores = score("omnidocbench", (page({"category_type": "figure"}), "text"), (page(text("a")), "a"))
    assert scores.per_sample["0"] == {"score": 100}


def test_repeated_parts_are_joined_as_others() -> None:
    """As the official scorer: what follows a text is computed once where it repeats, anew where it differs."""
    parts = ["abcdefgh", "ijklmnop"]
    right = ["abcdefgh ijklmnop", "0123456789" * 3]
    found = [*parts, "0123456789" * 3, *parts, "abcdefgh"]
    assert quick_match(right, found, current=True) == [([0], (0, 1)), ([1], (2,)), ([], (3, 4, 5))]
    found = [found[2], "abcdefgh", *parts]
    assert quick_match(right, found, current=True) == [([0], (2, 3)), ([1], (0,)), ([], (1,))]


def test_matching_joins_parts_and_assigns_what_is_left() -> None:
    right = ["abcdefghijklmnopqrstuvwxyz", "0123456789"]
    assert quick_match(right, ["abcdefghijkl", "mnopqrstuvwxyz", "!?"], current=True) == [([0], (0, 1)), ([1], (2,))]
    assert quick_match(right, ["abcdefghijklmnopqrstuvwxyz0123456789"], current=True) == [([0, 1], (0,))]
    assert quick_match(right, [], current=True) == [([0], ()), ([1], ())]
    assert quick_match(["abc", "xyz"], ["abc"], current=False) == [([0], (0,)), ([1], ()), ([1], ())]


@pytest.mark.parametrize(
    "markdown",
    ["<table>" * 3000, "|" * 5000 + "\n", "$" * 4001, "```" * 900, "\\begin{tabular}" * 900, "[" * 3000, "{" * 3000, "a\n\n" * 2000,
     "<table>" + "<td>" * 2000 + "</table>", "| a |\n" * 400, "$" + "{" * 2000 + "^" + "}" * 2000 + "$", "\\frac" * 1500, "\x00\ud800<table>\x00</table>"],
)  # fmt: skip
def test_any_text_is_scored(markdown: str) -> None:
    right = page(
        text("a b c " * 30),
        {"category_type": "equation_isolated", "latex": "\\frac{1}{2}"},
        table("<table><tr><td>1</td></tr></table>"),
    )
    for metric in METRICS:
        assert 0 <= score(metric, (right, markdown)).per_sample["0"]["score"] <= 100


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("[", "Expecting value"),
        ("[]", "list indices"),
        ("{}", "no 'extra'"),
        (json.dumps({"extra": {"relation": []}, "layout_dets": [{"anno_id": 1}]}), "no 'category_type'"),
        (json.dumps(page({"category_type": "text_block"})), "no 'text'"),
        (json.dumps(page({"category_type": "table"})), "no 'html'"),
        (json.dumps(page(text("a", order="first"))), "order is 'first'"),
        (json.dumps(page(text("a", attribute=3))), "attribute is 3"),
        (json.dumps(page(text("a"), relations=((1, 7),))), "no 7"),
        (json.dumps(page(text("a", order=None), text("b"), relations=((1, 2),))), "not supported between"),
        (json.dumps(page({"category_type": "figure"})), "no text, formula or table is annotated in any of the 1 pages"),
    ],
)
def test_wrong_annotations_are_refused(annotation: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^omnidocbench: .*{message}"):
        METRICS["omnidocbench"].check([Sample("a", (), "?", (annotation,), "a", meta=ATTRIBUTES)], "document")


def test_missing_packages_and_other_versions_are_reported_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(omnidocbench, "version", lambda name: "2.10")
    with pytest.raises(
        UserError,
        match=r"only with pylatexenc 3.0a30, and 2.10 is installed; install the extra: pip install 'evalkit-vlm\[ocr\]'",
    ):
        METRICS["omnidocbench"].check([], "document")
    monkeypatch.setattr(omnidocbench, "find_spec", lambda name: None if name == "bs4" else name)
    with pytest.raises(UserError, match=r"scoring needs bs4; install the extra: pip install 'evalkit-vlm\[ocr\]'"):
        METRICS["omnidocbench"].check([], "document")
