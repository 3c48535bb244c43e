"""Answers of VILA and InternVL with the scores that VLMEvalKit stored beside them, by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..published import Call, columns_of, rows_of, scores
from ..rows import write_tsv


def test_ocrbench(evalkit: Call, tmp_path: Path) -> None:
    rows = rows_of("vlmevalkit/vila_13b_OCRBench.xlsx")
    write_tsv(tmp_path / "ocrbench/OCRBench.tsv", columns_of(rows, "index", "question", "answer", "category"))
    texts = {str(row["index"]): str(row["prediction"]) for row in rows}
    found = scores(evalkit, tmp_path, "ocrbench", texts, "official", "lmms-eval-75571cf")
    stored = {
        "score": 458, "score[Text Recognition]": 181, "score[Scene Text-centric VQA]": 156,
        "score[Doc-oriented VQA]": 73, "score[Key Information Extraction]": 48,
        "score[Handwritten Mathematical Expression Recognition]": 0, "accuracy": 45.8,
    }  # fmt: skip
    for rule, values in found.items():
        assert {name: values[name] for name in stored} == pytest.approx(stored), rule


def test_mtvqa(evalkit: Call, tmp_path: Path) -> None:
    rows = rows_of("mtvqa/InternVL-Chat-V1-5_MTVQA_TEST.xlsx")
    write_tsv(tmp_path / "mtvqa/MTVQA_TEST.tsv", columns_of(rows, "index", "question", "answer", "category"))
    texts = {str(row["index"]): str(row["prediction"]) for row in rows}
    found = scores(evalkit, tmp_path, "mtvqa", texts, "official", "vlmevalkit-e8e78f05", "lmms-eval-75571cf")
    stored = {
        "AR": 0.032716927453769556, "DE": 0.2748091603053435, "FR": 0.3115124153498871, "IT": 0.2669683257918552,
        "JA": 0.09782608695652174, "KR": 0.08960573476702509, "RU": 0.04894179894179894, "TH": 0.08225108225108226,
        "VI": 0.1255656108597285,
    }  # fmt: skip
    for language, value in stored.items():
        assert found["official"][f"accuracy[{language}]"] == pytest.approx(100 * value, abs=1e-9), language
    assert (round(found["official"]["macro"], 2), round(found["official"]["micro"], 2)) == (14.78, 16.54)
    for rule in ("vlmevalkit-e8e78f05", "lmms-eval-75571cf"):
        assert (round(found[rule]["macro"], 2), round(found[rule]["micro"], 2)) == (16.01, 17.94)
