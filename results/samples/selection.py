"""Selecting samples of a split: wrong, right, unparsed, failed, or different between two runs.

The terms are those of the report's gallery (``results/report/assets/gallery.js``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from evalkit.errors import UserError

from .view import RunAnswer, SampleView, SplitView

T = TypeVar("T")

WRONG = ("wrong", "unparsed")
"""An answer that could not be parsed counts as wrong."""
JUDGED = ("right", "partly", *WRONG)

FITS: Mapping[str, Callable[[Sequence[RunAnswer | None]], bool]] = {
    "wrong": lambda answer: _status(answer[0]) in WRONG,
    "partly": lambda answer: _status(answer[0]) == "partly",
    "right": lambda answer: _status(answer[0]) == "right",
    "unparsed": lambda answer: _status(answer[0]) == "unparsed",
    "errors": lambda answer: _status(answer[0]) == "error",
    "flipped": lambda answer: flipped(answer),
    "any": lambda answer: True,
}
"""What can be selected; with two runs, all but ``flipped`` refer to the first."""
SORTS = ("official", "worst", "best", "longest", "random", "gains", "losses")
OF_TWO = ("flipped", "gains", "losses")


def _status(answer: RunAnswer | None) -> str:
    return "" if answer is None else answer.status


def flipped(answer: Sequence[RunAnswer | None]) -> bool:
    """Whether a sample is right in one run and not in the other."""
    a, b = (None if one is None or one.status not in JUDGED else one.status == "right" for one in (*answer, None)[:2])
    return a is not None and b is not None and a != b


def score_of(answer: RunAnswer | None, column: str | None) -> float | None:
    """A sample's value of ``column``; None without one."""
    value = None if answer is None or column is None else answer.scores.get(column)
    return None if value is None or math.isnan(value) else value


def change(shown: SampleView, column: str | None) -> float:
    """The second run's score minus the first's; 0 if one has no score."""
    a, b = (score_of(one, column) for one in (*shown.answers, None)[:2])
    return 0.0 if a is None or b is None else b - a


def select(split: SplitView, wanted: Mapping[str, int], sort: str | None, search: str = "") -> list[SampleView]:
    """At most ``wanted[what]`` samples of each kind in ``FITS``, in the order of ``wanted``, each sample once.

    If scores have no upper end (CIDEr), the lowest count as wrong, the highest as right, and the largest changes as
    flipped.

    Args:
        sort: one of ``SORTS``; None for the official order.
        search: words that all must be in a sample's question, references, answers or meta.
    """
    words = search.lower().split()
    found: dict[str, SampleView] = {}
    for what, most in wanted.items():
        fit = _fitting(split, what)
        if sort is not None:
            fit = ordered(fit, sort, split.column)
        if words:
            fit = [shown for shown in fit if all(word in haystack(shown) for word in words)]
        found |= {shown.id: shown for shown in fit[:most]}
    return list(found.values())


def endless(split: SplitView) -> bool:
    """Whether the split's scores have no upper end."""
    return any(answer is not None and answer.status == "scored" for shown in split.samples for answer in shown.answers)


def _fitting(split: SplitView, what: str) -> list[SampleView]:
    if what in ("wrong", "right", "flipped") and endless(split):
        scored = [shown for shown in split.samples if score_of(shown.answers[0], split.column) is not None]
        if what == "flipped":
            moved = [shown for shown in scored if change(shown, split.column)]
            return sorted(moved, key=lambda shown: -abs(change(shown, split.column)))
        return ordered(scored, "worst" if what == "wrong" else "best", split.column)
    return [shown for shown in split.samples if FITS[what](shown.answers)]


def ordered(samples: Sequence[SampleView], sort: str, column: str | None) -> list[SampleView]:
    """``samples`` sorted; those without a score come last.  Ties stay in the official order."""
    if sort == "official":
        return list(samples)
    keys: Mapping[str, Callable[[SampleView], float]] = {
        "worst": lambda shown: _or_last(score_of(shown.answers[0], column), 1),
        "best": lambda shown: _or_last(score_of(shown.answers[0], column), -1),
        "longest": lambda shown: -len(shown.answers[0].text) if shown.answers[0] is not None else 0,
        "random": lambda shown: int.from_bytes(
            hashlib.blake2b(shown.id.encode(errors="surrogatepass"), digest_size=6).digest(), "big"
        ),
        "gains": lambda shown: -change(shown, column),
        "losses": lambda shown: change(shown, column),
    }
    return sorted(samples, key=keys[sort])


def _or_last(score: float | None, sign: int) -> float:
    return math.inf if score is None else sign * score


def haystack(shown: SampleView) -> str:
    """The text that is searched, in lower case."""
    parts = [shown.id, shown.question, *shown.options, *(str(value) for value, _ in shown.references)]
    parts += [str(value) for value in shown.meta.values()]
    answers = [one for answer in shown.answers if answer is not None for one in answer.each]
    parts += [text for answer in answers for text in (answer.text, answer.error or "")]
    return "\n".join(parts).lower()


def by_id(splits: Sequence[SplitView], ids: Sequence[str]) -> dict[str, list[SampleView]]:
    """The samples of these ids, by split.

    Raises:
        UserError: an id is in none of the splits.
    """
    found: dict[str, list[SampleView]] = {split.name: [] for split in splits}
    for wanted in ids:
        hits = [(split.name, shown) for split in splits for shown in split.samples if shown.id == wanted]
        if not hits:
            raise UserError(f"--id {wanted}: no such sample in {', '.join(split.name for split in splits)}.")
        for name, shown in hits:
            found[name].append(shown)
    return found


# ---------------------------------------------------------------------------------------------------------- subsets


def subset(samples: Sequence[SampleView], most: int | None) -> list[SampleView]:
    """At most ``most`` samples, chosen by the hash of their ids (the same for every run), in their order."""
    return list(samples) if most is None else pick_by_hash(samples, lambda shown: shown.id, most)


def pick_by_hash(some: Sequence[T], key: Callable[[T], str], most: int) -> list[T]:
    """At most ``most`` items, chosen by the hash of their ``key``, in their order."""
    if len(some) <= most:
        return list(some)

    def digest(name: str) -> bytes:
        return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()

    chosen = set(sorted(map(key, some), key=digest)[:most])
    return [one for one in some if key(one) in chosen]
