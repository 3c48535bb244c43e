"""Weighted sums of means, and means in which groups of samples count once: values, intervals, stored contributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.aggregation import Aggregation, Mean, MeanOfGroups, MeanWhere, SumOfMeans
from evalkit.interfaces import Task
from evalkit.jobs import Job
from evalkit.results.stats.clustered import Measured, sums_by
from evalkit.results.stats.intervals import delta, headline, of_values
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.sample_scores import read_sample_scores
from evalkit.results.store.scores import write_results
from evalkit.scoring import Result
from evalkit.types import Sample, Scores, Split

RIGHT, ALL = "right", "all"
FIGURES = SumOfMeans(((0.5, Mean(RIGHT)), (0.5, Mean(ALL, unit="figure"))))
SUBTASKS = SumOfMeans(
    tuple(
        (1.0, mean)
        for task in ("count", "color")
        for mean in (
            MeanWhere(RIGHT, key="task", value=task),
            MeanWhere(ALL, key="task", value=task, unit="figure"),
        )
    ),
    maximum=400.0,
)


class Own(Task):
    name = "own"
    version = 1
    kind = "yes_no"
    splits = {"val": Split(None)}
    metric = "yes_no_accuracy"


def questions(answers: list[list[bool]]) -> tuple[list[Sample], dict[str, dict[str, float]]]:
    """Samples and their columns; a list of right answers per figure, two figures of a set are a cluster."""
    samples, rows = [], {}
    for figure, right in enumerate(answers):
        for number, one in enumerate(right):
            meta = {"figure": str(figure), "task": "count" if figure // 2 % 3 else "color"}
            samples.append(Sample(f"{figure}-{number}", (), "?", ("yes",), str(figure // 2), meta=meta))
            rows[samples[-1].id] = {RIGHT: 100.0 * one, ALL: 100.0 * all(right)}
    return samples, rows


def result_of(answers: list[list[bool]], declared: Aggregation) -> Result:
    samples, rows = questions(answers)
    value = declared.compute("score", rows, {s.id: s.meta for s in samples})
    assert value is not None
    scores = Scores("score", {"score": value}, rows, "own|v1", {"score": declared})
    job = Job(Own(), "val", samples, limited=False, all_samples=samples)
    return Result(job, scores, len(samples), 0, 0, 0, 0.0, {s.id: s.cluster for s in samples})


def drawn(seed: int, figures: int = 60, level: float = 0.7) -> list[list[bool]]:
    rng = np.random.default_rng(seed)
    return [list(map(bool, rng.random(rng.integers(1, 5)) < level)) for _ in range(figures)]


ANSWERS = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=12)


@given(ANSWERS)
def test_a_figure_counts_once_and_only_if_all_is_right(answers: list[list[bool]]) -> None:
    samples, rows = questions(answers)
    meta = {s.id: s.meta for s in samples}
    figures = 100 * fmean(all(right) for right in answers)
    assert Mean(ALL, unit="figure").compute("x", rows, meta) == pytest.approx(figures)
    single = 100 * fmean(one for right in answers for one in right)
    assert FIGURES.compute("x", rows, meta) == pytest.approx((single + figures) / 2)


@given(
    ANSWERS,
    st.sampled_from([FIGURES, SUBTASKS, Mean(ALL, unit="figure"), MeanOfGroups(ALL, key="task", unit="figure")]),
)
def test_mean_of_contributions_is_the_value(answers: list[list[bool]], declared: Aggregation) -> None:
    result = result_of(answers, declared)
    assert result.scores is not None
    found = headline(result)
    assert found is not None
    assert found[1] is None
    assert fmean(found[0].values()) == pytest.approx(result.scores.values["score"], abs=1e-9)


def test_terms_without_samples_are_left_out() -> None:
    samples, rows = questions([[True], [True]])
    meta = {s.id: s.meta for s in samples}
    assert SUBTASKS.compute("x", rows, meta) == 200.0
    assert math.isnan(SUBTASKS.compute("x", {}, {}) or 0.0)


@pytest.mark.parametrize("declared", [FIGURES, SUBTASKS, Mean(ALL, unit="figure")])
def test_standard_error_is_that_of_the_sum_of_ratios(declared: Aggregation) -> None:
    """By the delta method on numerators and denominators, which knows nothing of strata."""
    result = result_of(drawn(1), declared)
    samples, rows = questions(drawn(1))
    clusters = np.array([int(s.cluster) for s in samples])
    sizes = {s.meta["figure"]: 0 for s in samples}
    for sample in samples:
        sizes[sample.meta["figure"]] += 1
    terms: list[tuple[float, str, bool, str | None]] = {
        id(FIGURES): [(0.5, RIGHT, False, None), (0.5, ALL, True, None)],
        id(SUBTASKS): [(1.0, c, c == ALL, t) for t in ("count", "color") for c in (RIGHT, ALL)],
    }.get(id(declared), [(1.0, ALL, True, None)])
    columns = []
    for _, column, per_figure, task in terms:
        share = np.array(
            [(task is None or s.meta["task"] == task) / (sizes[s.meta["figure"]] if per_figure else 1) for s in samples]
        )
        value = np.array([rows[s.id][column] for s in samples])
        columns += [share * value, share]
    totals = np.stack([sums_by(clusters, column, clusters.max() + 1) for column in columns], axis=1)
    weights = np.array([weight for weight, *_ in terms])

    def statistic(sums: Any) -> Any:
        return (sums[:, ::2] / sums[:, 1::2]) @ weights

    found = of_values(result)["score"]
    assert float(statistic(totals.sum(axis=0)[None])[0]) == pytest.approx(result.scores.values["score"])  # type: ignore[union-attr]
    assert found["stderr"] == pytest.approx(delta(totals, statistic), rel=1e-5)
    assert found["low"] < result.scores.values["score"] < found["high"]  # type: ignore[union-attr]


def test_nominal_coverage() -> None:
    """The 95 % interval of an accuracy of figures holds the truth about 95 times in a hundred."""
    truth = 100 * fmean(0.7**size for size in (1, 2, 3, 4))
    hits = 0
    for seed in range(300):
        row = of_values(result_of(drawn(seed), Mean(ALL, unit="figure")))["score"]
        hits += bool(row["low"] <= truth <= row["high"])
    assert 0.9 <= hits / 300 <= 0.985


@pytest.mark.parametrize("right", [True, False])
def test_end_of_the_scale_has_an_interval(right: bool) -> None:
    row = of_values(result_of([[right] * 2] * 40, SUBTASKS))["score"]
    assert row["interval"] == "wilson"
    assert (row["high"] if right else row["low"]) == (400.0 if right else 0.0)
    assert 300 < row["low"] < 400 if right else 0 < row["high"] < 100


def test_coefficients_of_a_plain_mean_change_nothing() -> None:
    rng = np.random.default_rng(0)
    values, clusters = list(rng.random(50)), [str(i // 3) for i in range(50)]
    strata = [str(i % 2) for i in range(50)]
    plain = Measured.of(values, clusters, strata)
    same = Measured.of(values, clusters, strata, {"0": 0.5, "1": 0.5})
    assert same.mean == pytest.approx(plain.mean)
    assert same.standard_error == pytest.approx(plain.standard_error)
    assert same.of_totals(same.totals()[:1]) == pytest.approx(plain.of_totals(plain.totals()[:1]), nan_ok=True)
    double = Measured.of(values, clusters, strata, {"0": 1.0, "1": 1.0})
    assert double.standard_error == pytest.approx(2 * (plain.standard_error or 0))


def test_stored_contributions_give_the_value_again(tmp_path: Path) -> None:
    result = result_of(drawn(1), SUBTASKS)
    folder = RunFolder.create(tmp_path, "a")
    (row,), _ = write_results(folder, [result], {"run": "a", "model": "m"})
    assert row.aggregation == "weighted"
    stored = read_sample_scores(folder.scores_path("own", "val"), row)
    assert not stored.corpus
    assert stored.checked(row.score).measured().mean == pytest.approx(row.score)


def difference(first: Mapping[str, float], second: Mapping[str, float], clusters: Mapping[str, str]) -> Any:
    from evalkit.results.stats.paired import compare

    sides = [Measured.of(list(side.values()), [clusters[s] for s in side]) for side in (first, second)]
    return compare(*sides, seed=0)


def test_paired_comparison_of_contributions() -> None:
    """The difference is that of the values, and better answers are found to be better."""
    before, after = drawn(1), [[one or i % 2 == 0 for one in right] for i, right in enumerate(drawn(1))]
    results = [result_of(answers, SUBTASKS) for answers in (before, after)]
    values = [result.scores.values["score"] for result in results if result.scores is not None]
    sides = [found[0] for result in results if (found := headline(result)) is not None]
    found = difference(*sides, results[0].clusters)
    assert found.difference == pytest.approx(values[1] - values[0])
    assert found.chance.p < 0.01
    assert found.losses == 0
    same = difference(sides[0], sides[0], results[0].clusters)
    assert same.chance.p == 1.0
