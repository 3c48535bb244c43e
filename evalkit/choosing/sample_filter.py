"""Which samples of a split ``--where``, ``--ids`` and ``--limit`` choose.

A choice is recorded with a run, but is no part of its identity: the answers do not depend on it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import PurePath
from typing import Any

from evalkit.errors import UserError
from evalkit.ranges import share_of
from evalkit.subset import choose
from evalkit.types import Sample
from evalkit.values import is_valid_id

from .columns import Columns
from .expression import columns_in, compiled, parsed, without
from .ids import read_ids

EXAMPLES = 3


@dataclass(frozen=True)
class SampleFilter:
    """A choice of samples: those that fit ``where`` and are in ``ids``, and of these at most ``limit``, drawn.

    Attributes:
        where: an expression (``evalkit.choosing.expression``); None for no condition.
        ids: None for all.
        ids_name: the file of the ids, for messages and tables.
        limit: a number of samples, or a percentage of those that fit, rounded up; None for all.
        within: the options of an earlier choice, from which this one chooses, for tables.
    """

    where: str | None = None
    ids: Sequence[str] | None = None
    ids_name: str = ""
    limit: int | str | None = None
    within: str = ""

    @classmethod
    def of(cls, where: str | None, ids: str | None, limit: int | str | None) -> SampleFilter:
        """The choice that the options make.

        Args:
            ids: the name of the file.

        Raises:
            UserError: the expression or the file is not what it must be.
        """
        if where is not None:
            parsed(where)
        return cls(where, None if ids is None else read_ids(ids), "" if ids is None else PurePath(ids).name, limit)

    @classmethod
    def given(
        cls, where: str | None, ids: str | PathLike[str] | Iterable[str] | None, limit: int | str | None
    ) -> SampleFilter:
        """The choice of a caller from Python, whose ``ids`` may also be themselves.  Raises ``UserError`` as ``of``."""
        if ids is None or isinstance(ids, str | PathLike):
            return cls.of(where, None if ids is None else fspath(ids), limit)
        found = tuple(dict.fromkeys(ids))
        if not found or not all(map(is_valid_id, found)):
            raise UserError("ids: give the name of a file, or ids, which are texts; there is none, or one is no text.")
        return replace(cls.of(where, None, limit), ids=found, ids_name="given")

    @property
    def described(self) -> str | None:
        """The options that say more than the number of samples: ``--where 'level >= 3' --limit 5%``; None without."""
        if self.where is None and self.ids is None and not isinstance(self.limit, str) and not self.within:
            return None
        where = [] if self.where is None else [f"--where {shlex.quote(self.where)}"]
        ids = [] if self.ids is None else [f"--ids {shlex.quote(self.ids_name)}"]
        limit = [] if self.limit is None else [f"--limit {self.limit}"]
        return " ".join([*([self.within] if self.within else []), *where, *ids, *limit])

    def counted(self, found: int, every: int) -> str:
        """``12 samples``, or with a choice ``12 of 240 samples (--where 'level >= 3')``."""
        if self.described is None:
            return f"{found:,} samples"
        return f"{found:,} of {every:,} samples ({self.described})"

    def recorded(self, samples: Sequence[Sample]) -> SampleFilter:
        """The choice of a split for its record: of the ids, those that the split has."""
        if self.ids is None:
            return self
        known = {sample.id for sample in samples}
        return replace(self, ids=tuple(name for name in self.ids if name in known))

    def choose(self, samples: Sequence[Sample], task: str, split: str, *, seed: int, together: bool) -> list[Sample]:
        """The chosen samples of a split, in its order; with ``together`` complete clusters, which are scored together.

        Raises:
            UserError: none is chosen, or the expression does not fit the columns.
        """
        fitting = list(samples)
        if self.where is not None:
            fitting = self._where(fitting, task, split)
        if self.ids is not None:
            wanted = set(self.ids)
            if not any(sample.id in wanted for sample in samples):
                raise UserError(
                    f"{task}/{split}: --ids {self.ids_name}: none of its {len(wanted):,} ids is one of this split; "
                    "leave the split out of --tasks."
                )
            fitting = [sample for sample in fitting if sample.id in wanted]
            if not fitting:
                raise UserError(
                    f"{task}/{split}: no sample that is in --ids {self.ids_name} fits --where {self.where}."
                )
        if together and len(fitting) < len(samples):
            clusters = {sample.cluster for sample in fitting}
            fitting = [sample for sample in samples if sample.cluster in clusters]
        limit = self.limit
        if isinstance(limit, str):
            share = share_of(limit)
            if share is None:
                raise UserError(f"limit {limit}: give a number of samples, or a percentage such as 5%.")
            limit = math.ceil(round(share * len(fitting), 6))
        return choose(fitting, limit, seed, together=together)

    def _where(self, samples: Sequence[Sample], task: str, split: str) -> list[Sample]:
        assert self.where is not None
        place = f"{task}/{split}"
        fixed = {"task": task, "split": split}
        own = {key for sample in samples for key in sample.meta if key in fixed}
        tree = without(parsed(self.where), {key: value for key, value in fixed.items() if key not in own})
        if tree is True:
            return list(samples)
        columns = Columns(samples, fixed)
        if tree is False:
            raise UserError(f"{place}: no sample fits --where {self.where}; leave the split out of --tasks.")
        columns.check(tree, self.where, place)
        test = compiled(tree)
        found = [sample for sample in samples if test(partial(columns.value, sample))]
        if not found:
            values = "; ".join(f"{name} is {columns.examples(name)}" for name in dict.fromkeys(columns_in(tree)))
            raise UserError(f"{place}: no sample fits --where {self.where} ({values}).")
        return found

    def __bool__(self) -> bool:
        """Whether it is a choice at all."""
        return self != EVERYTHING


EVERYTHING = SampleFilter()


def check_ids(chosen: SampleFilter, splits: Mapping[str, Sequence[Sample]]) -> None:
    """Raise ``UserError`` for ids that are in none of several splits, which are by name."""
    if chosen.ids is None:
        return
    known = {sample.id for samples in splits.values() for sample in samples}
    unknown = [name for name in chosen.ids if name not in known]
    if unknown:
        some = ", ".join(unknown[:EXAMPLES]) + (", …" if len(unknown) > EXAMPLES else "")
        many = "1 id is" if len(unknown) == 1 else f"{len(unknown):,} of {len(chosen.ids):,} ids are"
        raise UserError(f"--ids {chosen.ids_name}: {many} not in {', '.join(splits)} ({some}).")


def filter_from_record(content: Mapping[str, Any], split: str) -> SampleFilter:
    """The choice that a manifest records with a split.  Raises ``ValueError``, which names the key, if it is none."""
    limit, share, where, ids = (content.get(key) for key in ("limit", "share", "where", "ids"))
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise ValueError(f"the 'limit' of the split {split!r} is {limit!r}")
    if share is not None and (not isinstance(share, str) or share_of(share) is None):
        raise ValueError(f"the 'share' of the split {split!r} is {share!r}")
    if where is not None and not isinstance(where, str):
        raise ValueError(f"the 'where' of the split {split!r} is {where!r}")
    if ids is not None and not (isinstance(ids, list) and all(map(is_valid_id, ids))):
        raise ValueError(f"the 'ids' of the split {split!r} are no list of ids")
    return SampleFilter(where, None if ids is None else tuple(ids), str(content.get("ids_name") or ""), share or limit)
