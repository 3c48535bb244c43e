from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.metrics import cc_ocr
from evalkit.metrics.cc_ocr import METRICS
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "cc_ocr.json").read_text())
HEADLINE = {"official": ("macro_f1_score", "score", "f1_score"), "vlmevalkit": ("macro_f1_score", "score", "acc")}
NAMES = {"official": "cc_ocr", "vlmevalkit": "cc_ocr_vlmevalkit"}


def answered(key: str, track: str, set_: str, op: str, answer: str, predict: str | None) -> Answered:
    meta = {"category": track, "set": set_, "op": op}
    return Answered(Sample(key, (), "?", (answer,), key, meta=meta), Prediction(predict))


def of_case(case: dict[str, Any]) -> Answered:
    inputs = case["inputs"]
    return answered(
        str(case["id"]),
        inputs["track"],
        inputs["set"],
        inputs["op"],
        inputs["answer"],
        inputs["predict"].strip() or None,
    )


def official(summary: dict[str, float], rule: str) -> float:
    return 100 * next(summary[name] for name in HEADLINE[rule] if name in summary)


@pytest.mark.parametrize("rule", ["official", "vlmevalkit"])
def test_every_case_as_the_official_script(rule: str) -> None:
    metric = METRICS[NAMES[rule]]
    metric.check([of_case(case).sample for case in GOLDEN["cases"]], "vqa")
    assert len(GOLDEN["cases"]) == 120
    for case in GOLDEN["cases"]:
        scores = score_answers(metric, [of_case(case)])
        expected = official(case["expected"][rule], rule)
        inputs = case["inputs"]
        # The constants that keep divisors above 0 are 1e-6 and 1e-9.
        assert math.isclose(scores.values["total"], expected, rel_tol=2e-6, abs_tol=1e-6), (case["id"], inputs)
        assert math.isclose(scores.values[f"score[{inputs['track']}/{inputs['set']}]"], scores.values["total"])


@pytest.mark.parametrize("rule", ["official", "vlmevalkit"])
def test_sets_and_their_means_as_the_official_script(rule: str) -> None:
    scores = score_answers(METRICS[NAMES[rule]], [of_case(case) for case in GOLDEN["cases"]])
    sets = {name: official(summary, rule) for name, summary in GOLDEN["sets"][rule].items()}
    assert len(sets) > 15
    tracks: dict[str, list[float]] = {}
    for name, expected in sets.items():
        assert math.isclose(scores.values[f"score[{name}]"], expected, rel_tol=2e-6, abs_tol=1e-6), name
        tracks.setdefault(name.partition("/")[0], []).append(expected)
    for track, values in tracks.items():
        assert math.isclose(scores.values[f"score[{track}]"], fmean(values), rel_tol=1e-5), track
    assert math.isclose(scores.values["total"], fmean(map(fmean, tracks.values())), rel_tol=1e-5)


def test_a_draw_without_a_set_has_the_mean_of_the_others() -> None:
    pair = [
        answered("a", "multi_lan_ocr", "French", "French", "oui", "oui"),
        answered("b", "multi_lan_ocr", "German", "German", "ja", "nein"),
        answered("c", "doc_parsing", "doc_scan_eng", "doc", "abc", "abc"),
    ]
    scores = score_answers(METRICS["cc_ocr"], pair)
    assert math.isclose(scores.values["total"], 75, rel_tol=1e-6)
    values = scores.aggregation["total"].values  # type: ignore[attr-defined]
    rows = np.array([scores.aggregation["total"].statistics[key] for key in ("a", "c")])  # type: ignore[attr-defined]
    found = values(rows.sum(axis=0)[None])
    assert math.isclose(found["total"][0], 100, rel_tol=1e-6)
    assert math.isnan(found["score[multi_lan_ocr/German]"][0])


def test_no_answers_and_unparsed_ones() -> None:
    assert math.isnan(score_answers(METRICS["cc_ocr"], []).values["total"])
    unparsed = [
        answered("a", "kie", "CORD", "constrained_category", '{"a": "1"}', None),
        answered("b", "doc_parsing", "table_scan_eng", "table", "<table></table>", None),
        answered("c", "multi_scene_ocr", "IC15", "scene_text", "a", None),
    ]
    for metric in METRICS.values():
        assert score_answers(metric, unparsed).values["total"] == 0


@pytest.mark.parametrize(
    ("track", "set_", "op", "answer", "message"),
    [
        ("poems", "IC15", "", "a", "has the track 'poems'"),
        ("kie", None, "", '{"a": "1"}', "the set None"),
        ("doc_parsing", "doc", "song", "a", "has 'song' in meta"),
        ("kie", "CORD", "", "[1]", "not a JSON object"),
        ("kie", "CORD", "", "{", "not a JSON object"),
        ("kie", "CORD", "", "{}", "not a JSON object"),
    ],
)
def test_wrong_references_are_refused(track: str, set_: Any, op: str, answer: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^cc_ocr: sample 'a' .*{message}"):
        METRICS["cc_ocr"].check([answered("a", track, set_, op, answer, None).sample], "vqa")


def test_missing_packages_are_reported_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cc_ocr, "find_spec", lambda name: None if name == "lxml" else name)
    with pytest.raises(UserError, match=r"scoring needs lxml; install the extra: pip install 'evalkit-vlm\[ocr\]'"):
        METRICS["cc_ocr"].check([], "vqa")


@pytest.mark.parametrize(
    ("track", "op", "text"),
    [
        ("kie", "", "[" * 900 + "]" * 900),
        ("kie", "", '{"a":' * 900 + "1" + "}" * 900),
        ("kie", "", '{"a": ' + "9" * 5_000 + "}"),
        ("doc_parsing", "table", "<table><tr><td colspan=x>1</td></tr></table>"),
        ("doc_parsing", "table", "<table>" * 2_000),
        ("doc_parsing", "table", "<table>\x00</table>"),
        # Each would take minutes if the time grew with the square of the length.
        ("kie", "", '{"b": "x' + " " * 200_000 + '"}'),
        ("doc_parsing", "table", "<table" * 50_000),
    ],
)
def test_hostile_answers_are_wrong(track: str, op: str, text: str) -> None:
    answer = '{"a": "1"}' if track == "kie" else "<table><tr><td>1</td></tr></table>"
    for metric in METRICS.values():
        scores = score_answers(metric, [answered("a", track, "CORD", op, answer, text)])
        assert scores.values["total"] <= 50  # a table with a row of one cell
