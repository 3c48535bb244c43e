"""Which samples ``--limit`` draws from a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from evalkit.types import Sample


def choose(samples: Sequence[Sample], limit: int | None, seed: int, *, together: bool = False) -> list[Sample]:
    """At most ``limit`` samples, drawn by the hash of (seed, id): a larger limit keeps those of a smaller one.

    Args:
        together: draw complete clusters, as many as fit, at least one: their samples are scored together.
    """
    if limit is None or limit >= len(samples):
        return list(samples)

    def order(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()

    if not together:
        drawn = set(sorted((s.id for s in samples), key=order)[:limit])
        return [s for s in samples if s.id in drawn]
    clusters: dict[str, int] = {}
    for sample in samples:
        clusters[sample.cluster] = clusters.get(sample.cluster, 0) + 1
    taken: set[str] = set()
    for cluster in sorted(clusters, key=order):
        if taken and limit < clusters[cluster]:
            break
        taken.add(cluster)
        limit -= clusters[cluster]
    return [s for s in samples if s.cluster in taken]
