"""Answers of VILA with the scores that VLMEvalKit stored beside them, by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..published import Call, columns_of, readings, rows_of, scores
from ..rows import write_tsv

WORDS = "vlmevalkit-yes-no"
UNREAD = "Unknown"


def agrees(folder: Path, task: str, split: str, rows: list[dict[str, Any]]) -> None:
    """Every stored reading and score is what VLMEvalKit's rule gives here."""
    read = readings(folder, task, split, WORDS)
    assert len(read) == len(rows)
    for row in rows:
        found = read[str(row["index"])]
        assert row["extracted"] == (UNREAD if found is None else found.capitalize()), row
        assert bool(row["score"]) == (found == row["answer"].lower()), row


def test_mme(evalkit: Call, tmp_path: Path) -> None:
    rows = rows_of("vlmevalkit/vila_8b_MME_auxmatch.xlsx")
    write_tsv(tmp_path / "mme/MME.tsv", columns_of(rows, "index", "category", "image_path", "question", "answer"))
    texts = {str(row["index"]): row["prediction"] for row in rows}
    found = scores(evalkit, tmp_path, "mme", texts, "official", WORDS, "lmms-eval-75571cf")
    stored = {
        "perception": 1558.5247098839536, "cognition": 282.5, "OCR": 162.5, "artwork": 127.25,
        "celebrity": 147.3529411764706, "code_reasoning": 47.5, "color": 175.0, "commonsense_reasoning": 125.0,
        "count": 163.33333333333334, "existence": 185.0, "landmark": 157.0, "numerical_calculation": 47.5,
        "position": 143.33333333333331, "posters": 137.75510204081633, "scene": 160.0, "text_translation": 62.5,
    }  # fmt: skip
    for name, value in stored.items():
        key = name if name in ("perception", "cognition") else f"score[{name}]"
        assert found[WORDS][key] == pytest.approx(value, abs=1e-9), name
    assert found[WORDS]["mme_sum"] == pytest.approx(1841.0247098839536, abs=1e-9)
    assert round(found["official"]["perception"], 4) == 1563.5247
    assert round(found["official"]["cognition"], 4) == 283.2143
    agrees(tmp_path, "mme", "test", rows)


def test_pope(evalkit: Call, tmp_path: Path) -> None:
    rows = rows_of("vlmevalkit/vila_13b_POPE_auxmatch.xlsx")
    write_tsv(tmp_path / "pope/POPE.tsv", columns_of(rows, "index", "question", "answer", "category"))
    texts = {str(row["index"]): row["prediction"] for row in rows}
    found = scores(evalkit, tmp_path, "pope", texts, "official", WORDS, "lmms-eval-75571cf")
    stored = {
        "f1_pooled": 84.95773247140727, "accuracy": 86.55555555555556, "precision": 96.41647855530474,
        "recall": 75.93333333333334,
        "f1[random]": 85.83270535041446, "accuracy[random]": 87.46666666666667,
        "precision[random]": 98.70017331022531, "recall[random]": 75.93333333333334,
        "f1[adversarial]": 84.18329637841832, "accuracy[adversarial]": 85.73333333333333,
        "precision[adversarial]": 94.44444444444444, "f1[popular]": 84.87332339791355,
        "accuracy[popular]": 86.46666666666667, "precision[popular]": 96.19932432432432,
    }  # fmt: skip
    for name, value in stored.items():
        assert found[WORDS][name] == pytest.approx(value, abs=1e-9), name
    assert found[WORDS]["f1"] == pytest.approx((85.83270535041446 + 84.18329637841832 + 84.87332339791355) / 3)
    assert round(found["lmms-eval-75571cf"]["accuracy"], 1) == 3.9
    agrees(tmp_path, "pope", "test", rows)


def test_hallusionbench(evalkit: Call, tmp_path: Path) -> None:
    rows = rows_of("vlmevalkit/vila_8b_HallusionBench_auxmatch.xlsx")
    write_tsv(tmp_path / "hallusionbench/HallusionBench.tsv", columns_of(rows, "index", "question", "answer"))
    texts = {str(row["index"]): row["prediction"] for row in rows}
    found = scores(evalkit, tmp_path, "hallusionbench", texts, WORDS, "evalkit-yes-no-1")[WORDS]
    stored = {
        "": (52.26077812828601, 22.254335260115607, 20.659340659340657),
        "[VD]": (54.145516074450086, 28.695652173913043, 21.660649819494584),
        "[VS]": (49.166666666666664, 9.482758620689655, 19.101123595505616),
        "[VD_math]": (51.85185185185185, 11.11111111111111, 25.925925925925924),
        "[VS_map]": (45.3125, 13.636363636363635, 3.125),
        "[VD_figure]": (62.5, 36.58536585365854, 25.64102564102564),
        "[VS_chart]": (52.307692307692314, 7.5, 32.89473684210527),
        "[VD_video]": (42.35294117647059, 8.333333333333332, 4.3478260869565215),
        "[VS_ocr]": (55.55555555555556, 19.230769230769234, 14.814814814814813),
        "[VS_table]": (44.642857142857146, 0.0, 9.30232558139535),
        "[VD_ocr]": (73.03370786516854, 48.837209302325576, 46.51162790697674),
        "[VD_illusion]": (53.47222222222222, 35.483870967741936, 18.055555555555554),
    }
    for key, values in stored.items():
        for name, value in zip(("aAcc", "fAcc", "qAcc"), values, strict=True):
            assert found[f"{name}{key}"] == pytest.approx(value, abs=1e-9), (name, key)
    assert found["average"] == pytest.approx(sum(stored[""]) / 3)
    agrees(tmp_path, "hallusionbench", "image", rows)
