"""Which samples ``--limit`` draws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalkit import registry
from evalkit.subset import choose
from evalkit.types import Sample

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=20)


def samples_of(sizes: list[int]) -> list[Sample]:
    return [
        Sample(f"{cluster}-{n}", (), "?", (), str(cluster)) for cluster, size in enumerate(sizes) for n in range(size)
    ]


@given(SIZES, st.integers(1, 60), st.integers(0, 3))
def test_single_samples(sizes: list[int], limit: int, seed: int) -> None:
    samples = samples_of(sizes)
    chosen = choose(samples, limit, seed)
    assert len(chosen) == min(limit, len(samples))
    assert [s.id for s in chosen] == [s.id for s in samples if s in chosen]
    assert set(map(id, chosen)) <= set(map(id, choose(samples, limit + 1, seed)))


@given(SIZES, st.integers(1, 60), st.integers(0, 3))
def test_complete_clusters(sizes: list[int], limit: int, seed: int) -> None:
    samples = samples_of(sizes)
    chosen = choose(samples, limit, seed, together=True)
    for cluster in {s.cluster for s in chosen}:
        assert sum(s.cluster == cluster for s in chosen) == sizes[int(cluster)]
    assert chosen
    assert len(chosen) <= limit or len({s.cluster for s in chosen}) == 1
    assert set(map(id, chosen)) <= set(map(id, choose(samples, limit + 1, seed, together=True)))
    assert choose(samples, None, seed, together=True) == samples


def test_tasks_whose_samples_are_scored_together() -> None:
    together = {task.name for task in registry.tasks.all() if task.complete_clusters}
    assert {"mme", "hallusionbench", "mmbench_en", "ccbench"} <= together
    assert not together & {"pope", "ocrbench", "vqav2", "ai2d"}
