"""The regression gate: is a run as good as its baseline?

``exact`` requires the same answers; ``tolerance`` allows a drop up to a limit; ``significant`` fails if a test finds
the run worse (one-sided, at α, Holm's correction over the tasks) by more than a margin: a paired permutation test, or
of a subset's estimates a t test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal, get_args

from evalkit.errors import UserError
from evalkit.results.stats.clustered import seed_of
from evalkit.results.stats.paired import Difference, compare, detectable, holm
from evalkit.results.store.outdated import outdated
from evalkit.results.store.scored_run import ScoredRun, data_differences, digest_of_images
from evalkit.results.store.signature import Signature
from evalkit.results.tables import p_text

from .baseline import Baseline, BaselineSplit
from .comparison import of_corpus, unshared
from .subsets import estimated

Mode = Literal["exact", "tolerance", "significant"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class Rule:
    """The rule that a run must meet.

    Attributes:
        tolerance: the largest drop that passes, in the unit of the score; for ``tolerance``.
        alpha: the probability of failing when nothing is worse; for ``significant``.
        margin: a drop up to this never fails, even if significant; for ``significant``.
    """

    mode: Mode = "significant"
    tolerance: float = 0.0
    alpha: float = 0.05
    margin: float = 0.0


@dataclass(frozen=True)
class Change:
    """A sample whose answers or score differ from the baseline's, with the first answer that does."""

    id: str
    before: float
    after: float
    answer_before: str
    answer_after: str


@dataclass(frozen=True)
class TaskCheck:
    """One task against the baseline: the difference, the samples that changed, and why it fails (None: it passes).

    ``images``: whether its images differ from the baseline's; ``estimated``: whether a subset was run, so that the
    difference is the estimate of that of the complete splits.
    """

    task: str
    metric: str
    found: Difference
    changes: tuple[Change, ...]
    p_worse: float
    detectable: float | None
    failure: str | None
    images: bool = False
    estimated: bool = False


def check(run: ScoredRun, baseline: Baseline, rule: Rule) -> list[TaskCheck]:
    """Check every task of the baseline.

    Raises:
        UserError: a task is missing or not comparable, so that the gate can neither pass nor fail.
    """
    problems = [problem for name, held in baseline.tasks.items() if (problem := _problem(run, baseline, name, held))]
    if problems:
        raise UserError(
            f"{run.path} cannot be checked against {baseline.path}: {'; '.join(problems)}. Run the tasks of the "
            "baseline, or make the run the new baseline with --update."
        )
    alpha = rule.alpha / len(baseline.tasks)
    found = [_compared(run, name, held, alpha) for name, held in baseline.tasks.items()]
    corpus = [one for one in found if not one.found.chance.tested]
    if corpus and rule.mode == "significant":
        raise UserError(
            f"{corpus[0].task}: {corpus[0].metric} is computed from all samples together, not from per-sample scores: "
            "a drop cannot be tested; use --mode tolerance, or --mode exact."
        )
    worse = iter(holm([one.p_worse for one in found if one.found.chance.tested]))
    corrected = [replace(one, p_worse=next(worse)) if one.found.chance.tested else one for one in found]
    return [replace(one, failure=one.failure or _failure(one, rule)) for one in corrected]


def _problem(run: ScoredRun, baseline: Baseline, name: str, held: BaselineSplit) -> str | None:
    """Why a task cannot be compared; None if it can."""
    if name not in run.rows:
        return f"{name} was not run"
    if name not in run.splits:
        failed = run.rows[name].errors
        return f"{name} has no score{f': {failed:,} samples failed' if failed else ''}"
    was, now = Signature.parse(held.signature), run.rows[name].parsed_signature
    reasons = [] if run.rows[name].errors else was.differences(now)
    if reasons and (was.scorer, was.parsing) != (now.scorer, now.parsing):
        if (before := outdated(held.signature)) is not None:
            reasons.append(f"the baseline was scored by {before}")
        if (before := outdated(run.rows[name].signature)) is not None:
            reasons.append(f"the run was scored by {before}: 'evalkit rescore {run.path}' scores it again")
    reasons += data_differences((was, held.annotations), (now, run.annotations(name)))
    estimate = run.rows[name].estimate
    if held.complete is not None and estimate is None and not run.rows[name].errors:
        reasons.append(
            "the baseline has a subset's samples only, and the run no estimate from them: run it with --subset"
        )
    elif estimate is not None and len(held.sampled.ids) == estimate["size"]:
        pass  # the baseline has all samples, the run some
    elif not run.rows[name].errors:
        reasons += unshared(held.sampled, run.sampled(name))
    return f"{name}: {', '.join(reasons)}" if reasons else None


def _compared(run: ScoredRun, name: str, held: BaselineSplit, alpha: float) -> TaskCheck:
    new = run.sampled(name)
    ids = [sample for sample in held.sampled.ids if sample in new.place]
    failed = run.rows[name].errors
    if not ids:
        raise UserError(f"{run.path}: no sample of {name} has an answer; run the same command again.")
    corpus = held.sampled.corpus or new.corpus
    before = held.sampled.measured(ids)
    after = replace(before, values=new.measured(ids).values)
    answers = run.answers(name)
    changes = []
    for place, sample in enumerate(ids):
        texts, then = answers[sample].texts if sample in answers else ("",), held.answers[sample]
        old, now = float(before.values[place]), float(after.values[place])
        if texts != then or (old != now and not corpus):
            pairs = zip_longest(then, texts, fillvalue="")
            changes.append(Change(sample, old, now, *next((p for p in pairs if p[0] != p[1]), (then[0], texts[0]))))
    changes.sort(key=lambda c: c.after - c.before)
    if run.rows[name].estimate is not None and not failed:
        found = estimated(run, name, held, new)
    elif corpus:
        found = of_corpus(held.sampled, new, ids, held.value, run.rows[name].score, seed_of(name))
    else:
        found = compare(before, after, seed=seed_of(name))
    error = found.stderr
    return TaskCheck(
        name, held.metric, found, tuple(changes), found.chance.worse,
        detectable(error, alpha=alpha, sides=1) if error else None,
        f"{failed} samples failed in the run; run the same command again to retry them" if failed else None,
        held.images is not None and len(ids) == len(held.sampled.ids)
        and digest_of_images(run.image_digests(name), ids) not in (None, held.images),
        run.rows[name].estimate is not None,
    )  # fmt: skip


def _failure(one: TaskCheck, rule: Rule) -> str | None:
    """Why a task does not meet the rule, with the corrected p-value; None if it does."""
    d = one.found
    if rule.mode == "exact":
        same = "1 answer is" if len(one.changes) == 1 else f"{len(one.changes):,} answers are"
        return f"{same} not the baseline's" if one.changes else None
    if rule.mode == "tolerance":
        # A drop of exactly 0.5 passes a tolerance of 0.5 despite rounding.
        return (
            f"{-d.difference:.2f} lower, and {rule.tolerance:g} is allowed"
            if (-d.difference > rule.tolerance + 1e-9)
            else None
        )
    if one.p_worse > rule.alpha or -d.difference <= rule.margin + 1e-9:
        return None
    over = f" and by more than {rule.margin:g}" if rule.margin else ""
    return f"worse by {-d.difference:.2f}{over} (p {p_text(one.p_worse)}, α {rule.alpha:g})"
