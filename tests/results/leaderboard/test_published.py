from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.results.leaderboard.published import (
    FILE,
    published,
    published_rows,
    records_of_published,
    same_model,
)
from evalkit.results.leaderboard.reproduction import GAPS, known_gaps, reproduction
from evalkit.results.leaderboard.rows import Entry, entries_of
from evalkit.results.leaderboard.trend import step_of, trend_of, trend_table
from evalkit.results.store.score_row import ScoreRow

ROOT = Path(__file__).resolve().parents[3]


def row(task: str, split: str, metric: str, value: float, n: int, **changes: Any) -> dict[str, Any]:
    return {
        "task": task, "split": split, "metric": metric, "value": value, "stderr": 0.5, "ci95": 0.98, "n": n,
        "clusters": n, "unparsed": 0, "errors": 0, "truncated": 0, "limited": False, "values": {},
        "signature": f"{task}:{split}|n:{n}", **changes,
    }  # fmt: skip


def of(model: str, *rows: dict[str, Any]) -> list[Entry]:
    return entries_of("r", model, [ScoreRow.from_dict(row) for row in rows])


def test_has_every_row_of_the_shared_table() -> None:
    shared = ROOT.parent / "shared" / "published" / "scores.csv"
    if not shared.is_file():
        pytest.skip("the shared table is not here")
    assert set(shared.read_text().splitlines()) <= set(FILE.read_text().splitlines())
    with FILE.open() as file:
        assert len(published()) == sum(1 for _ in csv.DictReader(file))


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B", True),
        ("/models/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B", True),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "Qwen2.5-VL-7B", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "Qwen2.5-VL-7B", False),
        ("Qwen/Qwen-VL", "Qwen-VL-Chat", False),
        ("Qwen/Qwen-VL (4-shot)", "Qwen-VL", True),
        ("/models/Qwen-VL/", "Qwen-VL", True),
    ],
)
def test_models_are_matched_by_name(ours: str, theirs: str, same: bool) -> None:
    assert same_model(ours, theirs) is same


@pytest.mark.parametrize(
    ("scorer", "shown"),
    [
        ("norm:normalised|loo:entry|v2", True),
        ("norm:official|loo:entry|v1", False),
        ("norm:official_script|loo:entry|v2", False),
    ],
)
def test_published_vqa_accuracy_is_compared_with_normalised_one_only(scorer: str, shown: bool) -> None:
    """The server, which the published scores come from, normalises every answer."""
    signature = f"okvqa:val|v1|protocol:official|shots:0|vqa_accuracy|{scorer}|n:5046"
    entries = of("Qwen/Qwen-VL", row("okvqa", "val", "accuracy", 58.0, 5_046, signature=signature))
    rows, _ = published_rows(entries)
    assert ("Qwen-VL (published)" in {str(r[0]) for r in rows}) is shown
    assert bool(reproduction(entries).rows) is shown


@pytest.mark.parametrize(
    ("task", "split", "metric", "size", "published"),
    [
        ("mme", "test", "mme_sum", 2_374, "2347"),
        ("hallusionbench", "image", "average", 951, "52.9"),
        ("ocrbench", "test", "score", 1_000, "864"),
        ("mtvqa", "test", "macro", 6_778, "29.2"),
    ],
)
def test_published_scores_of_headlines(task: str, split: str, metric: str, size: int, published: str) -> None:
    entries = of("Qwen/Qwen2.5-VL-7B-Instruct", row(task, split, metric, 50.0, size))
    rows, _ = published_rows(entries)
    assert published in {str(cell) for found in rows for cell in found}
    assert reproduction(entries).rows


def test_published_scores_only_in_columns_of_complete_splits() -> None:
    whole = row("refcoco", "testA", "acc@0.5", 92.0, 5_657)
    rows, notes = published_rows(of("m", whole))
    shown = {str(r[0]): str(r[1]) for r in rows}
    assert shown["Qwen2.5-VL-7B (published)"] == "92.5"
    assert notes[0].startswith("(published)")
    for part in ({**whole, "n": 100, "limited": True}, {**whole, "n": 138}, {**whole, "errors": 1}):
        rows, notes = published_rows(of("m", part))
        assert rows == []
        assert "none is shown in refcoco/testA" in notes[0]


def test_published_test_sets_are_shown_against_our_public_split_without_verdict() -> None:
    model = "Qwen/Qwen2.5-VL-7B-Instruct"
    docvqa = row("docvqa", "val", "anls", 95.0, 5_349)
    rows, _ = published_rows(of(model, docvqa))
    assert {str(r[0]): str(r[1]) for r in rows}["Qwen2.5-VL-7B (published)"] == "95.7 (test)"
    (line,) = reproduction(of(model, docvqa)).rows
    assert [str(cell) for cell in line] == [
        model, "docvqa/val", "95.00 ± 0.98", "95.7 (test)", "−0.70", "−1.4", "– (another split)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "changes", "said"),
    [
        (92.0, {}, "in the interval"),
        (90.0, {}, "outside"),
        (93.54, {}, "outside"),
        (93.52, {}, "in the interval"),  # 92.5 may have been 92.549…
        (92.0, {"n": 138}, "– (a subset)"),
        (92.0, {"stderr": None, "ci95": None}, "– (no interval)"),
        (92.0, {"interval": "wilson", "low": 90.0, "high": 92.4}, "outside"),
    ],
)
def test_verdict(value: float, changes: dict[str, Any], said: str) -> None:
    measured = row("refcoco", "testA", "acc@0.5", value, 5_657) | changes
    (line,) = reproduction(of("Qwen/Qwen2.5-VL-7B-Instruct", measured)).rows
    assert str(line[-1]) == said


@pytest.mark.parametrize(
    ("name", "asked", "printed"),
    [
        ("Qwen/Qwen-VL", "protocol:official|shots:0", "58.6 (val)"),
        ("Qwen/Qwen-VL (4-shot)", "protocol:official|shots:4-random", "63.6 (val)"),
        ("Qwen/Qwen-VL", "protocol:official|shots:4-fixed", "63.6 (val)"),  # rescored: the name says nothing of shots
        ("Qwen/Qwen-VL (8-shot)", "protocol:official|shots:8-random", None),
    ],
)
def test_score_with_examples_is_matched_by_one_with_as_many(name: str, asked: str, printed: str | None) -> None:
    """Qwen-VL's README prints OK-VQA 58.6, and 63.6 with four shots."""
    measured = row("okvqa", "val", "accuracy", 60.0, 5_046) | {"signature": f"okvqa:val|v1|{asked}|vqa|n:5046"}
    assert [str(line[3]) for line in reproduction(of(name, measured)).rows] == ([printed] if printed else [])


def test_published_scores_with_examples_have_rows_of_their_own() -> None:
    rows, _ = published_rows(of("m", row("vizwiz", "val", "accuracy", 40.0, 4_319)))
    shown = {str(r[0]): str(r[1]) for r in rows}
    assert shown["Qwen-VL (published)"] == "35.2 (test-dev)"
    assert shown["Qwen-VL, 4-shot (published)"] == "39.1"


def test_published_digits_are_kept() -> None:
    rows, _ = published_rows(of("m", row("refcoco+", "testA", "acc@0.5", 80.0, 5_726)))
    assert {str(r[0]): str(r[1]) for r in rows}["OFA-L (published)"] == "76.00"


def test_mean_of_eight_splits_has_published_one() -> None:
    mean = row("refcoco-all", "mean of 8", "acc@0.5", 87.0, 57_457)
    (line,) = reproduction(of("Qwen/Qwen3-VL-8B-Instruct", mean)).rows
    assert str(line[3]).endswith("(all-8-splits)")
    assert str(line[-1]) in ("in the interval", "outside")


def test_records_of_published_scores_are_labelled() -> None:
    found = records_of_published(of("m", row("docvqa", "val", "anls", 95.0, 5_349)))
    assert {record["run"] for record in found} == {"published"}
    assert {record["split"] for record in found} == {"test"}
    assert all(record["signature"].startswith("published|") for record in found)


def test_scores_of_a_named_model_in_the_order_of_its_report() -> None:
    measured = of(
        "my-finetune", row("docvqa", "val", "anls", 95.0, 5_349), row("refcoco", "testA", "acc@0.5", 91.0, 5_657)
    )
    table = reproduction(measured, "qwen2.5-vl-7b")
    assert table.title == "Reproduction of Qwen2.5-VL-7B"
    found = [str(line[0]) for line in table.rows]
    assert found == ["docvqa/val", "refcoco/testA"]  # as in its tables: documents, then grounding
    (line,) = [line for line in table.rows if str(line[0]) == "refcoco/testA"]
    assert [str(cell) for cell in line] == [
        "refcoco/testA", "91.00 ± 0.98", "92.5 (testA)", "−1.50", "−3.0", "outside",
    ]  # fmt: skip
    assert any(note.startswith("Not measured: ") and "refcoco 90.0 (val)" in note for note in table.notes)


def test_known_gaps_are_named() -> None:
    table = reproduction(of("Qwen3-VL-8B", row("docvqa", "val", "anls", 95.0, 5_349)), "qwen3-vl-8b-instruct")
    assert any("scores are sampled" in note for note in table.notes)
    with GAPS.open(newline="") as file:
        assert len(known_gaps()) == len(list(csv.DictReader(file)))


def test_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--reproduce qwen2.5-vl-8b: .* did you mean .*Qwen2.5-VL-7B"):
        reproduction([], "qwen2.5-vl-8b")


def test_unpublished_model() -> None:
    table = reproduction(of("tiny", row("refcoco", "testA", "acc@0.5", 92.0, 5_657)))
    assert table.rows == []
    assert "No published score" in table.notes[0]


# --------------------------------------------------------------------------------------------------------------- trend


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("ckpt-1000", 1000), ("/out/checkpoint_2000/", 2000), ("global_step300", 300), ("run-7b-iter-40", 40),
        ("4000", 4000), ("Qwen2.5-VL-7B", None), ("tiny", None),
    ],
)  # fmt: skip
def test_step_in_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_trend_is_in_order_of_training() -> None:
    entries = [
        e
        for step, value in ((1000, 80.0), (200, 60.5), (900, 70.0))
        for e in entries_of(
            f"r{step}", f"ckpt-{step}", [ScoreRow.from_dict(row("vqav2", "val", "accuracy", value, 300))]
        )
    ]
    assert [step for step, _ in trend_of(entries).steps] == [200, 900, 1000]
    assert [str(r[2]) for r in trend_table(entries).rows] == [
        "60.50 ± 0.98", "70.00 ± 0.98  (+9.50)", "80.00 ± 0.98  (+10.00)",
    ]  # fmt: skip
    with pytest.raises(UserError, match="two different steps are needed"):
        trend_of(entries[:1])
    again = of("other/ckpt-200", row("vqav2", "val", "accuracy", 61.0, 300))
    with pytest.raises(UserError, match="r200 and r both have step 200; give the runs of one training"):
        trend_of([*entries, *again])


def test_trend_has_notes_of_its_own_runs_and_no_best() -> None:
    entries = [
        e
        for name in ("ckpt-1", "ckpt-2", "tiny")
        for e in entries_of(name, name, [ScoreRow.from_dict(row("vqav2", "val", "accuracy", 80.0, 300, unparsed=1))])
    ]
    notes = trend_table(entries).notes
    assert not any("Bold" in note for note in notes)
    assert "unparsed: ckpt-1 1, ckpt-2 1;" in notes[-1]


def test_images_are_pngs() -> None:
    pytest.importorskip("matplotlib")
    from evalkit.results.leaderboard.plot import leaderboard_png, trend_png

    entries = [
        e
        for step in (1, 2)
        for e in entries_of(
            f"r{step}", f"ckpt-{step}", [ScoreRow.from_dict(row("vqav2", "val", "accuracy", 80.0 + step, 300))]
        )
    ]
    for draw in (leaderboard_png, trend_png):
        assert draw(entries).startswith(b"\x89PNG")
