"""Damaged subset files: one sentence, or a file that says the same."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np

from evalkit.errors import UserError
from evalkit.results.stats.designs import Strata
from evalkit.results.store.seal import sealed
from evalkit.results.subsets.estimates import estimated
from evalkit.results.subsets.subset_file import Expected, SplitSubset, Subset, read_subset

from ..mutations import structure, text

MUTATIONS = 1000
FORGED = 300


def subset() -> Subset:
    rng = np.random.default_rng(0)
    stratum = np.repeat([0, 1], [6, 4])
    held = SplitSubset(
        "accuracy", "vqav2:val|v1|vqa_accuracy", "0123456789abcdef", 40, 100.0, "sample", 10.0, "stratified",
        Expected(3.0, 4.0, 9.0, 1.0, 0.1, 5), [("a", 70.0), ("b", 60.0)],
        Strata(np.array([20.0, 20]), rng.random((2, 1)), np.array([0.1, 0.2]), 6.25), stratum, rng.random((10, 1)),
        [[(f"q{place}", 1 / 40)] for place in range(10)], [(70.0, 0.3), (60.0, -0.1)],
    )  # fmt: skip
    return Subset(0, {"vqav2/val": held})


def read(path: Path) -> Subset | str:
    """The subset in a file, or why it is refused."""
    try:
        return read_subset(path)
    except UserError as error:
        return str(error)


def test_changed_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = subset()
    path = tmp_path / "ci.json"
    whole.write(path)
    content = path.read_bytes()
    random = Random(0)
    refused = 0
    for _ in range(MUTATIONS):
        path.write_bytes(text(content, random))
        found = read(path)
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found
            assert str(path) in found
        else:
            assert found.digest == whole.digest, "only white space can have changed"
    assert refused > 0.9 * MUTATIONS


def test_forged_files_with_a_right_checksum_are_refused_or_harmless(tmp_path: Path) -> None:
    """Somebody who writes the checksum too."""
    whole = json.loads(subset().text())
    del whole["checksum"]
    random = Random(1)
    path = tmp_path / "ci.json"
    for _ in range(FORGED):
        changed = structure(whole, random)
        try:
            path.write_text(json.dumps(sealed(changed)), errors="surrogatepass")
        except (TypeError, ValueError, OverflowError):
            continue
        found = read(path)
        if isinstance(found, Subset):
            for held in found.splits.values():
                estimated(held, dict.fromkeys(held.ids, 50.0))
