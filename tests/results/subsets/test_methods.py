"""The choice of a subset: cross-validation, designs, coverage and power in small simulations.

``benchmarks/subsets.py`` measures the same with more models.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from evalkit.results.stats.designs import estimate
from evalkit.results.subsets.methods import (
    METHODS,
    RANDOM,
    WITHOUT_VALIDATION,
    cross_validate,
    design,
    distinct,
    draw,
)

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import _subset_models as models  # type: ignore[import-not-found]
import subsets as simulation  # type: ignore[import-not-found]


def family(count: int, runs: int, discrimination: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    of = models.items(rng, count, discrimination)
    return np.array([models.answers(rng, of, ability) for ability in np.linspace(-1, 1, runs)])


def test_informative_references_are_used_and_noise_is_not() -> None:
    amounts = np.full(1000, 1 / 1000)
    found = cross_validate(family(1000, 8, 4.0) / 1000, amounts, 100)
    assert found.best.strata or found.best.covariates
    assert found.errors[found.best] < 0.7 * found.errors[RANDOM]
    coins = 100.0 * (np.random.default_rng(0).random((8, 1000)) < 0.5) / 1000
    assert cross_validate(coins, amounts, 100).best == RANDOM


def test_one_run_given_three_times_is_one_run() -> None:
    one = family(500, 1, 2.0) / 500
    runs = distinct(np.concatenate([one, one, one]))
    assert len(runs) == 1
    found = cross_validate(runs, np.full(500, 1 / 500), 50)
    assert (found.folds, found.best) == (0, WITHOUT_VALIDATION)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_draws_as_many_as_asked_and_is_nearly_unbiased(method: object) -> None:
    scores = family(600, 6, 3.0)
    amounts = np.full(600, 1 / 600)
    planned = design(method, scores[:5] / 600, amounts, 60)  # type: ignore[arg-type]
    assert planned.drawn.sum() == 60
    rng = np.random.default_rng(0)
    known = planned.known(amounts, 100.0)
    values = []
    for _ in range(400):
        units = draw(planned, rng.random(600))
        drawn = estimate(known, planned.stratum[units], scores[5][units] / 600, planned.covariates[units])
        values.append(drawn.value)
    assert np.mean(values) == pytest.approx(scores[5].mean(), abs=4 * np.std(values) / 20 + 0.3)


def test_whole_images_are_estimated_as_ratios() -> None:
    """Of images with 1 to 9 questions: a constant score is found without error."""
    rng = np.random.default_rng(0)
    amounts = rng.integers(1, 10, 300).astype(float)
    amounts /= amounts.sum()
    runs = rng.random((4, 300)) * 100 * amounts
    planned = design(RANDOM, runs, amounts, 40)
    sampling, noise = planned.variances_of(55.0 * amounts)
    assert sampling == pytest.approx(0, abs=1e-9)
    assert noise == pytest.approx(0, abs=1e-9)


def test_draw_depends_on_the_order_only() -> None:
    planned = design(METHODS[-1], family(400, 6, 3.0) / 400, np.full(400, 1 / 400), 50)
    order = np.random.default_rng(0).random(400)
    assert (draw(planned, order) == draw(planned, order)).all()
    assert len(set(draw(planned, order))) == 50


HARD = ["discrimination 8", "whole images, VQA accuracy", "one reference", "far better than all", "another family"]


@pytest.mark.parametrize("kind", HARD)
def test_intervals_hold_for_any_model(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 120 models; with 95 % coverage, 107 or more are covered in 99 % of such tests.  The benchmark has more kinds."""
    simulation.coverage(120, 60, 600, [kind])
    text = capsys.readouterr().out
    assert float(text.split("coverage")[1].split("%")[0]) >= 89, text


def test_equal_models_are_seldom_found_worse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 200 models as good as the best reference, at most 18 in 99 % of such tests if 5 % are; uncorrected, 10 % are."""
    monkeypatch.setattr(simulation, "LOSSES", (0.0, 30.0))
    simulation.gate(200, 80, 1000, 8, 8.0, broken=False)
    alarms = float(capsys.readouterr().out.split("t test: 0 points")[1].split("%")[0])
    assert 0 < alarms <= 9


def test_gate_finds_smaller_losses_than_on_random_samples(capsys: pytest.CaptureFixture[str]) -> None:
    simulation.gate(60, 80, 800, 6, 6.0, broken=False)
    text = capsys.readouterr().out
    assert float(text.rsplit("ratio", 1)[1]) < 0.8, text


def test_models_like_the_references_fit_and_others_are_told_how_many_samples_they_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulation.drift(100, 80, 800, ["discrimination 4", "another family"])
    fits, other = capsys.readouterr().out.splitlines()
    assert float(fits.split(":")[1].split("%")[0].split(",")[0]) <= 8, fits
    assert float(other.split(":")[1].split("%")[0].split(",")[0]) >= 30, other
    assert 0.8 < float(other.split("the error is")[1].split()[0]) < 1.25, other
