from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.results.statistics import clustered_standard_error, half_width, standard_error_of_mean

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=40)


@given(VALUES)
def test_alone_in_its_cluster_each_sample_gives_the_usual_standard_error(values: list[float]) -> None:
    named = {str(i): v for i, v in enumerate(values)}
    mean = sum(values) / len(values)
    usual = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    assert clustered_standard_error(named, {k: k for k in named}) == pytest.approx(usual, abs=1e-9)


@given(VALUES, st.integers(2, 5))
def test_copies_of_a_sample_in_one_cluster_add_no_certainty(values: list[float], copies: int) -> None:
    single = {str(i): v for i, v in enumerate(values)}
    many = {f"{k}/{c}": v for k, v in single.items() for c in range(copies)}
    once = clustered_standard_error(single, {k: k for k in single})
    assert clustered_standard_error(many, {k: k.split("/")[0] for k in many}) == pytest.approx(once, abs=1e-9)


def test_it_covers_what_it_says() -> None:
    """Clusters of correlated right/wrong answers: the 95 % interval holds the truth about 95 times in a hundred."""
    rng = random.Random(3)
    hits = 0
    for _ in range(400):
        values, clusters = {}, {}
        for image in range(60):
            level = rng.choice((0.2, 0.9))
            for k in range(rng.choice((3, 5))):
                values[f"{image}-{k}"] = 100.0 * (rng.random() < level)
                clusters[f"{image}-{k}"] = str(image)
        mean = sum(values.values()) / len(values)
        width = half_width(clustered_standard_error(values, clusters))
        assert width is not None
        hits += abs(mean - 55.0) <= width
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize("values", [{}, {"a": 1.0}, {"a": 1.0, "b": 0.0}])
def test_fewer_than_two_clusters_have_no_interval(values: dict[str, float]) -> None:
    assert clustered_standard_error(values, dict.fromkeys(values, "one")) is None
    assert half_width(None) is None


@given(VALUES)
def test_a_second_split_over_the_same_pictures_adds_no_certainty(values: list[float]) -> None:
    named = {str(i): v for i, v in enumerate(values)}
    part = (named, {k: k for k in named})
    once = clustered_standard_error(*part)
    assert standard_error_of_mean([part, part]) == pytest.approx(once, abs=1e-9)


def test_splits_over_other_pictures_are_independent() -> None:
    rng = random.Random(1)
    parts = []
    for split in range(2):
        values = {f"{split}/{i}": rng.random() for i in range(500)}
        parts.append((values, {k: k for k in values}))
    alone = [clustered_standard_error(*part) for part in parts]
    assert None not in alone
    expected = math.sqrt(sum(a * a for a in alone if a is not None)) / 2
    assert standard_error_of_mean(parts) == pytest.approx(expected, rel=2e-3)


def test_no_mean_has_an_interval_when_a_part_has_none() -> None:
    wide = {"a": 1.0, "b": 0.0}
    part = (wide, {k: k for k in wide})
    assert standard_error_of_mean([part]) is not None
    assert standard_error_of_mean([part, ({"c": 1.0}, {"c": "c"})]) is None
    assert standard_error_of_mean([]) is None
