"""Differences of runs of a subset, which estimate those of complete splits."""

from __future__ import annotations

from evalkit.errors import UserError
from evalkit.results.stats.paired import Difference
from evalkit.results.store.sample_scores import SampleScores
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.subsets.estimates import Reference, difference, subset_of

from .baseline import BaselineSplit


def estimated(run: ScoredRun, name: str, held: BaselineSplit, new: SampleScores) -> Difference:
    """The difference of the complete splits' scores, estimated from the subset that was run."""
    chosen = subset_of(run.path, name)
    lacking = [sample for sample in chosen.ids if sample not in held.sampled.place or sample not in new.place]
    if lacking:
        raise UserError(f"{run.path}: {name}: its subset has the sample {lacking[0]}, which the baseline lacks.")
    before = {sample: held.sampled.values[held.sampled.place[sample]] for sample in chosen.ids}
    after = {sample: new.values[new.place[sample]] for sample in chosen.ids}
    complete = held.known if held.complete is not None or len(held.sampled.ids) == chosen.size else None
    return difference(chosen, Reference(before, complete), after)
