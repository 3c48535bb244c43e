"""Every number's interval, as ``scores.json`` has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from evalkit.jobs import Job, Record
from evalkit.results.stats.intervals import of_values
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import sample_lines, score_row, write_results
from evalkit.scoring import Result, score_job
from evalkit.types import Box, Prediction, Response, Sample, Scores, Split


@dataclass(frozen=True)
class Own:
    """A task of these samples."""

    metric: str
    name: str = "own"
    version: int = 1
    kind: str = "vqa"

    @property
    def splits(self) -> dict[str, Split]:
        return {"val": Split(None)}


def scored(metric: str, samples: list[Sample], texts: Sequence[str | Box | None]) -> Result:
    job = Job(Own(metric), "val", samples, limited=False, all_samples=samples)  # type: ignore[arg-type]
    records = [Record(s, "", Response(s.id), Prediction(t)) for s, t in zip(samples, texts, strict=True)]
    return score_job(job, records)


def question(i: int, answer: str, cluster: int, **meta: str) -> Sample:
    return Sample(str(i), (), "?", (answer,), str(cluster), meta=meta)


def chartqa(human: int, augmented: int) -> Result:
    samples = [
        question(i, "yes", i // 2, subset="human" if i < human else "augmented") for i in range(human + augmented)
    ]
    return scored("relaxed_accuracy", samples, ["yes" if i % 3 else "no" for i in range(human + augmented)])


@pytest.mark.parametrize("sizes", [(40, 40), (60, 20)])
def test_chartqa_is_a_mean_of_halves_and_so_is_its_interval(sizes: tuple[int, int]) -> None:
    result = chartqa(*sizes)
    found = of_values(result)
    assert {"accuracy", "accuracy[human]", "accuracy[augmented]"} <= set(found)
    halves = [found[f"accuracy[{half}]"]["stderr"] for half in ("human", "augmented")]
    # The halves share no image, so that their errors add up as independent ones do.
    assert found["accuracy"]["stderr"] == pytest.approx(np.hypot(*halves) / 2, rel=0.06)
    assert [line["stratum"] for line in sample_lines(result)] == ["human"] * sizes[0] + ["augmented"] * sizes[1]


def test_rows_have_what_two_runs_must_share(tmp_path: Path) -> None:
    result = chartqa(40, 40)
    row = score_row(result)
    assert row["low"] < row["value"] < row["high"]
    assert row["interval"] == "bootstrap"
    assert len(row["annotations"]) == 16
    assert len(row["samples"]) == 12
    rows, _ = write_results(RunFolder.create(tmp_path, "r"), [result], {})
    assert rows[0] == {**row, "submission": None}, "and are the same every time"


def test_one_cluster_has_no_interval() -> None:
    result = scored("exact_match", [question(i, "a", 0) for i in range(5)], ["a", "b", "a", "a", "b"])
    row = score_row(result)
    assert (row["value"], row["stderr"], row["ci95"], row["low"], row["high"], row["intervals"]) == (
        60.0, None, None, None, None, {},
    )  # fmt: skip


def test_bleu_comes_from_its_sufficient_statistics() -> None:
    """The resampled corpus's BLEU is that which pycocoevalcap computes of the resampled captions."""
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    from evalkit.metrics.cider import BLEU, CaptionScores, _counts, bleu_of_sums

    rng = np.random.default_rng(0)
    words = ["a", "dog", "runs", "over", "the", "green", "grass", "near", "some", "tall", "trees"]
    captions = [" ".join(rng.choice(words, rng.integers(3, 12))) for _ in range(60)]
    references = [
        [" ".join(w if rng.random() < 0.8 else "cat" for w in c.split()), c.replace("the", "this") + " again"]
        for c in captions
    ]
    counts = np.array(_counts(references, captions), dtype=float)
    for _ in range(20):
        chosen = rng.integers(0, 60, 60)
        expected, _ = bleu.Bleu(4).compute_score(
            {i: references[c] for i, c in enumerate(chosen)},
            {i: [captions[c]] for i, c in enumerate(chosen)},
            verbose=0,
        )
        found = bleu_of_sums(counts[chosen].sum(axis=0)[None])
        assert [float(found[name][0]) for name in BLEU] == pytest.approx([100 * value for value in expected])

    whole = {name: float(value[0]) for name, value in bleu_of_sums(counts.sum(axis=0)[None]).items()}
    ids = [str(i) for i in range(60)]
    statistics = {i: [int(v) for v in row] for i, row in zip(ids, counts, strict=True)}
    scores = CaptionScores("bleu_4", whole, {i: {"x": 0.0} for i in ids}, "s", statistics, bleu_of_sums)
    samples = [question(int(i), "x", int(i)) for i in ids]
    base = scored("exact_match", samples, ["x"] * 60)
    clusters = {i: i for i in ids}
    found = of_values(Result(base.job, scores, 60, 0, 0, 0, 0.0, clusters))
    assert set(found) == set(BLEU)
    for name, value in whole.items():
        assert found[name]["low"] < value < found[name]["high"], name
        assert (found[name]["high"] - found[name]["low"]) / 2 == pytest.approx(found[name]["ci95"], rel=0.15)
    other = replace(scores, values={**whole, "bleu_1": whole["bleu_1"] + 0.01})
    found = of_values(Result(base.job, other, 60, 0, 0, 0, 0.0, clusters))
    assert "bleu_1" not in found, "the sums do not give it"


def test_how_many_boxes_were_read_has_an_interval_too() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    samples = [Sample(str(i), (), "?", (box,), str(i // 3)) for i in range(60)]
    found = of_values(scored("iou", samples, [box if i % 4 else None for i in range(60)]))
    assert set(found) == {"acc@0.5", "mean_iou", "parse_rate"}
    assert found["parse_rate"]["ci95"] == found["acc@0.5"]["ci95"] > 5, "here all that is read is right"


def test_a_value_that_no_column_gives_has_no_interval() -> None:
    base = scored("exact_match", [question(i, "a", i) for i in range(9)], ["a", "b", "a"] * 3)
    assert base.scores is not None
    other = Scores("odd", {"odd": 12.5, "accuracy": fmean([100, 0, 100])}, base.scores.per_sample, "s")
    found = of_values(Result(base.job, other, 9, 0, 0, 0, 0.0, base.clusters))
    assert set(found) == {"accuracy"}


def test_breakdowns_have_intervals_too() -> None:
    types = ["number", "other"]
    samples = [Sample(str(i), (), "?", ("3",) * 10, str(i // 3), meta={"answer_type": types[i % 2]}) for i in range(60)]
    result = scored("vqa_accuracy", samples, ["3" if i % 5 else "4" for i in range(60)])
    found = of_values(result)
    assert set(found) == {"accuracy", "accuracy_normalised", "accuracy[number]", "accuracy[other]"}
