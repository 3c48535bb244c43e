"""Which predicted elements belong to which annotated ones: the scorer's ``quick_match`` and ``simple_match``.

The distance of two texts is their edit distance divided by the length of the longer one.

1. Predicted texts that follow each other are joined where they are parts of an annotated one.
2. Annotated texts and predicted ones are assigned to each other at the smallest sum of distances; pairs that are
   further apart than 0.7 are separated.
3. A separated annotated text belongs to a predicted one that has a piece of its length within 0.4 of it.
4. What is left on both sides is assigned to each other whatever the distance.

The scorer gives up after 30 seconds and then assigns without the other steps.  This one does not: its result does not
depend on the machine.  Pieces that cannot be near enough are skipped, and what repeats is computed once: a page takes
less than a second, and one of 8,000 paragraphs of a letter half a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from rapidfuzz.distance import Levenshtein

Group = tuple[int, ...]
"""Numbers of predicted texts that count as one."""
Pair = tuple[list[int], Group]
"""Numbers of annotated texts, and of predicted ones, that belong to each other; either may be empty."""

NEAR, FAR = 0.25, 0.7
PART = 0.6
"""The largest distance of a predicted text, as a part of an annotated one, to a piece of its length."""
CONTAINED = 0.4


def distance(first: str, second: str) -> float:
    """The edit distance of two texts, one of which is not empty, divided by the length of the longer one."""
    return float(Levenshtein.distance(first, second) / max(len(first), len(second)))


def distances(rows: Sequence[str], columns: Sequence[str]) -> Any:
    """The distances of texts, an array (rows, columns)."""
    import numpy as np

    found = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        known = {column: distance(row, column) if row or column else 0.0 for column in set(columns)}
        found[i] = [known[column] for column in columns]
    return found


def assigned(costs: Any) -> list[tuple[int, int]]:
    """(row, column) pairs with the smallest sum of costs, by row."""
    from scipy.optimize import linear_sum_assignment

    return [(int(row), int(column)) for row, column in zip(*linear_sum_assignment(costs), strict=True)]


def simple_match(right: Sequence[str], found: Sequence[str]) -> dict[int, int]:
    """The predicted text that belongs to each annotated one, for those that have one."""
    return dict(assigned(distances(right, found))) if right and found else {}


def quick_match(right: Sequence[str], found: Sequence[str], *, current: bool) -> list[Pair]:
    """The pairs of annotated and predicted texts, which have something to compare.

    Every annotated text is in a pair; one of v1.0 can be in two.

    Args:
        current: whether the rules are those of v1.5, or of v1.0.
    """
    if not found:
        return [([number], ()) for number in range(len(right))]
    groups = _parts_joined(right, found)
    joined = [" ".join(found[number] for number in group) for group in groups]
    costs = distances(right, joined)
    near = {row: groups[column] for row, column in assigned(costs) if costs[row, column] <= FAR}
    matched: dict[Group, list[int]] = {}
    for row, group in sorted(near.items()):
        matched.setdefault(group, []).append(row)
    taken = set(near)
    separated = [row for row in range(len(right)) if row not in near]
    for column, text in enumerate(found):
        rows = [row for row in separated if _contains(text, right[row])]
        if rows:
            matched.setdefault((column,), []).extend(row for row in rows if row not in taken)
            taken.update(rows)
    return _completed(matched, right, found, current)


def _completed(
    matched: dict[Group, list[int]], right: Sequence[str], found: Sequence[str], current: bool
) -> list[Pair]:
    """The pairs of matched texts and of those that are left."""
    single: list[tuple[int | None, Group]] = [
        (row, group) for group, rows in matched.items() for row in sorted(set(rows))
    ]
    rows_left = set(range(len(right))) - {row for rows in matched.values() for row in rows}
    columns_left = set(range(len(found))) - {column for group in matched for column in group}
    if columns_left and rows_left:
        single += _forced(list(rows_left), list(columns_left), right, found, current)
    elif columns_left:
        single.append((None, tuple(columns_left)))
    pairs: dict[Group, list[int]] = {}
    for row, group in single:
        pairs.setdefault(group, []).extend([] if row is None else [row])
    done = {row for rows in pairs.values() for row in rows}
    alone: list[Pair] = [([row], ()) for row in range(len(right)) if row not in done]
    # v1.0 has an annotated text that is left twice if no predicted one is.
    twice: list[Pair] = [] if current or columns_left else [([row], ()) for row in rows_left]
    return [*((rows, group) for group, rows in pairs.items()), *twice, *alone]


def _forced(
    rows: list[int], columns: list[int], right: Sequence[str], found: Sequence[str], current: bool
) -> list[tuple[int | None, Group]]:
    """What is left on both sides assigned to each other."""
    measure = distance if current else Levenshtein.distance
    costs = [[measure(right[row], found[column]) for column in columns] for row in rows]
    return [(rows[i], (columns[j],)) for i, j in assigned(costs)]


def _contains(text: str, part: str) -> bool:
    """Whether a text has a piece near ``part``."""
    return 0 < len(part) <= len(text) and closest(text, part, CONTAINED) < CONTAINED


def closest(text: str, part: str, limit: float) -> float:
    """The smallest distance of ``part`` to a piece of ``text`` of its length, which is not longer than ``text``.

    Exact only at ``limit``: a distance below it can be any below it, and one above it any above it.
    """
    length = len(part)
    best = int(limit * length) + 2
    place = 0
    while best / length >= limit and place <= len(text) - length:
        here = Levenshtein.distance(text[place : place + length], part)
        # The distance of the next piece is smaller by 2 at most.
        place += 1 + (here - best) // 2 if here > best else 1
        best = min(best, here)
    return best / length


# ------------------------------------------------------------------------------------------------------ joined parts


def _parts_joined(right: Sequence[str], found: Sequence[str]) -> list[Group]:
    """The predicted texts, with parts of annotated ones joined."""
    near = distances(right, found) < NEAR
    rows = [row for row in range(len(right)) if not near[row].any()]
    free = [not near[:, column].any() for column in range(len(found))]
    candidates: list[tuple[Group, float]] = []
    for row in rows:
        groups = list(_groups(Measures(right[row]), found, free))
        if groups:
            candidates.append(min(groups, key=lambda group: group[1]))
    joined = {group[0]: group for group in _chosen(candidates)}
    inner = {number for group in joined.values() for number in group[1:]}
    return [joined.get(column, (column,)) for column in range(len(found)) if column not in inner]


class Measures:
    """The distances of texts to an annotated one; each is computed once, since models repeat themselves."""

    def __init__(self, right: str) -> None:
        self.right = right
        self.whole = cache(self._whole)
        self.part = cache(self._part)

    def _whole(self, text: str) -> float:
        return distance(self.right, text)

    def _part(self, text: str) -> float:
        """To a piece of its length; infinite for one that is longer or empty."""
        return closest(self.right, text, PART) if 0 < len(text) <= len(self.right) else math.inf


def _groups(right: Measures, found: Sequence[str], free: Sequence[bool]) -> Iterator[tuple[Group, float]]:
    """For each predicted text that is free, it and those that follow it and belong to it, with their distance."""
    known: dict[str, tuple[Sequence[str | None], int, float]] = {}
    texts = [text if is_free else None for text, is_free in zip(found, free, strict=True)]
    for first, text in enumerate(found):
        if not free[first]:
            continue
        seen, length, cost = known.get(text, ((), 0, 0.0))
        # Models repeat themselves: what follows is often what followed before.
        if not seen or texts[first : first + len(seen)] != seen:
            length = len(_following(right, first, found, free))
            cost = right.whole(" ".join(found[first : first + length]))
            if first + length < len(found):
                known[text] = texts[first : first + length + 1], length, cost
        yield tuple(range(first, first + length)), cost


def _following(right: Measures, first: int, found: Sequence[str], free: Sequence[bool]) -> Group:
    """The predicted texts from ``first`` on that together are nearer to the annotated one than without the last."""
    end = first + 1
    before = found[first]
    while end < len(found) and free[end]:
        together = f"{before} {found[end]}"
        if right.whole(together) > right.whole(before):
            break
        if right.part(found[end - 1]) > PART or not right.part(found[end]) < PART:
            break
        end += 1
        before = together
        if len(together) > len(right.right):
            break
    return tuple(range(first, end))


def _chosen(candidates: Iterable[tuple[Group, float]]) -> list[Group]:
    """Groups that have no text in common: of those that have, the set with the lowest mean cost."""
    overlapping: list[list[tuple[Group, float]]] = []
    for group, cost in sorted(candidates, key=lambda candidate: candidate[0][0]):
        if overlapping and any(set(group) & set(other) for other, _ in overlapping[-1]):
            overlapping[-1].append((group, cost))
        else:
            overlapping.append([(group, cost)])
    return [group for some in overlapping for group in _cheapest(some)]


def _cheapest(candidates: Sequence[tuple[Group, float]]) -> list[Group]:
    """The set of disjoint groups with the lowest mean cost, of the sets that the scorer tries."""
    tried: list[list[tuple[Group, float]]] = [[candidates[0]]]
    for candidate in candidates[1:]:
        added = False
        for some in tried:
            same = [number for number, other in enumerate(some) if other[0] == candidate[0]]
            if same:
                added = True
                if some[same[0]][1] > candidate[1]:
                    del some[same[0]]
                    some.append(candidate)
            elif not any(set(candidate[0]) & set(other) for other, _ in some):
                some.append(candidate)
                added = True
        if not added:
            tried.append([candidate])
    means = [sum(cost for _, cost in some) / len(some) for some in tried]
    return [group for group, _ in tried[means.index(min(means))]]
