"""The rows that are being decoded together: they leave when they are done, and others come in."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from .cache import Columns
from .language import Language
from .recorded import COLUMNS, Recorder, Steps
from .rows import Row, speak

# Columns that a cache is given beyond what its rows fill: each costs memory, and each lack of one costs a copy.
ROOM = 64


class Pool:
    """Decodes rows, one token for each at a step.

    Attributes:
        rows: those in work, in the order of the cache's rows.
        leave: False where a row that is done stays until all are.
        capacity: how many rows it is to have room for, where that takes no more than ``bytes``.
        steps: takes the steps.  Where it records them, the rows stay in one cache (``_home``) as long as they fit.
    """

    def __init__(self, language: Language, *, leave: bool = True, recorder: Recorder | None = None) -> None:
        self.language = language
        self.leave = leave
        self.steps = Steps(language, recorder)
        self.capacity = 1
        self.bytes = 0
        self._home: Columns | None = None
        self.rows: list[Row] = []
        self.cache: Columns | None = None
        self.positions = torch.zeros(0, dtype=torch.long)

    def __len__(self) -> int:
        return len(self.rows)

    def admit(self, rows: Sequence[Row], cache: Columns, logits: torch.Tensor, positions: Sequence[int]) -> list[Row]:
        """Take in rows that have been prefilled; those that end with their first token are given back at once.

        Args:
            cache: the rows' keys and values; it may become the pool's own.
            logits: (rows, vocabulary) after the prompts.
            positions: of each row's first token.
        """
        speak(rows, logits)
        stay = _closed_up(cache, [at for at, row in enumerate(rows) if not row.ended])
        if stay:
            follow = torch.tensor([positions[at] for at in stay], device=self.language.device)
            if self.rows:
                self._join(cache)
                self.positions = torch.cat([self.positions, follow])
            elif self.steps.recorder is not None:
                self.cache, self.positions = self._wider(cache, len(stay), 0), follow
            else:
                self.cache, self.positions = cache, follow
            self.rows += [rows[at] for at in stay]
        return [row for row in rows if row.ended]

    def step(self) -> list[Row]:
        """One token more for each row; gives back those that have ended."""
        began = time.perf_counter()
        if self.cache is None:
            return []
        if self.cache.at == self.cache.width:
            self.cache = self._wider(self.cache, len(self.rows), 0)
        ids = torch.tensor([row.tokens[-1] for row in self.rows], device=self.language.device)
        logits = self.steps(ids, self.positions, self.cache)
        self.positions = self.positions + 1
        going = [at for at, row in enumerate(self.rows) if not row.ended]
        speak([self.rows[at] for at in going], logits if len(going) == len(logits) else logits[going])
        share = (time.perf_counter() - began) / len(going)
        for at in going:
            self.rows[at].seconds += share
        done = [self.rows[at] for at in going if self.rows[at].ended]
        if done and (self.leave or len(done) == len(going)):
            stay = _closed_up(self.cache, [at for at, row in enumerate(self.rows) if not row.ended])
            if any(row.broken for row in done):  # NaN does not vanish behind a mask
                self.cache.store[:, :, len(stay) : len(self.rows)] = 0
            self.rows = [self.rows[at] for at in stay]
            self.positions = self.positions[stay]
            if not self.rows:
                self.cache = None
        return done

    def clear(self, *, free: bool = False) -> list[Row]:
        """Put every row out, unanswered.

        Args:
            free: give the memory back, too; else what was recorded stays for the rows to come.
        """
        if free or any(row.broken for row in self.rows):
            self._home = None
            self.steps.forget()
        rows, self.rows, self.cache = [row for row in self.rows if not row.ended], [], None
        for row in rows:
            row.restart()
        return rows

    def _join(self, new: Columns) -> None:
        cache = self.cache
        assert cache is not None
        live, more = cache.rows, new.rows
        if live + more > cache.store.shape[2] or new.at > cache.at:
            cache = self.cache = self._wider(cache, live + more, new.at)
        cache.store[:, :, live : live + more, :, cache.at - new.at : cache.at] = new.store[:, :, :more, :, : new.at]
        cache.valid[live : live + more] = False
        cache.valid[live : live + more, cache.at - new.at : cache.at] = new.valid[:more, : new.at]
        cache.factors[live : live + more] = new.factors[:more]
        cache.rows = live + more

    def _wider(self, old: Columns, rows: int, at: int) -> Columns:
        """A cache with the same rows, room for ``rows`` of them and for steps, at least ``at`` columns filled."""
        live = old.rows
        used = old.valid[:live, : old.at].any(0)
        keep = old.at - int(used.int().argmax()) if bool(used.any()) else 0
        at = max(at, keep)
        kept = old.store[:, :, :live, :, old.at - keep : old.at]
        valid, factors = old.valid[:live, old.at - keep : old.at].clone(), old.factors[:live].clone()
        new = self._empty(rows, at + ROOM)
        if new is old:  # its rows are moved to its beginning
            kept = kept.clone()
        new.valid.zero_()
        new.rows, new.at = live, at
        new.store[:, :, :live, :, at - keep : at] = kept
        new.valid[:live, at - keep : at] = valid
        new.factors[:live] = factors
        return new

    def _empty(self, rows: int, columns: int) -> Columns:
        """A cache for at least so much; its columns may hold what was there before, but no NaN."""
        home = self._home
        if home is not None and home.store.shape[2] >= rows and home.width >= columns:
            return home
        if not self.rows:
            self._home = home = None  # nobody lives there any more
        if self.steps.recorder is not None:
            columns = -(-columns // COLUMNS) * COLUMNS
        each = columns * self.language.shape.bytes(self.language.dtype)
        new = self.language.columns(max(rows, min(self.capacity, self.bytes // each)), columns)
        if self.steps.recorder is not None:
            self._home = new
        return new


def _closed_up(cache: Columns, stay: list[int]) -> list[int]:
    """Close the gaps that rows leave with rows from the end; gives the places from which the remaining ones come."""
    order = list(range(len(stay)))
    staying = set(stay)
    gaps = [at for at in order if at not in staying]
    for gap, last in zip(gaps, [at for at in stay if at >= len(stay)], strict=True):
        cache.move_row(last, gap)
        order[gap] = last
    cache.rows = len(stay)
    return order
