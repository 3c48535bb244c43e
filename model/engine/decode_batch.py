"""The rows that are being decoded together: they leave when they are done, and others come in.

A GPU is not kept waiting for what Python makes of a step's tokens: the next step is launched with them where they lie,
and they are read while it runs.  Rows that turn out to have ended have then taken one step more, which is not read.
Where a token is drawn at random or forced upon a row, it is read first, as on a CPU, which has nothing to overlap.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from .cuda_graphs import COLUMNS, Recorder, Steps
from .kv_cache import Columns, sent
from .model_runner import Language
from .sequence import Row, Said

# Columns that a cache is given beyond what its rows fill: each costs memory, and each lack of one costs a copy.
ROOM = 64


class Pool:
    """Decodes rows, one token for each at a step.

    Attributes:
        rows: those in work, in the order of the cache's rows.
        leave: False where a row that is done stays until all are.
        ahead: whether a step is launched before the tokens of the one before are read.
        capacity: how many rows it is to have room for, where that takes no more than ``bytes``.
        steps: takes the steps.  Where it records them, the rows stay in one cache (``_home``) as long as they fit.
    """

    def __init__(
        self, language: Language, *, leave: bool = True, ahead: bool = False, recorder: Recorder | None = None
    ) -> None:
        self.language = language
        self.leave = leave
        self.ahead = ahead
        self.steps = Steps(language, recorder)
        self.capacity = 1
        self.bytes = 0
        self._home: Columns | None = None
        self.rows: list[Row] = []
        self.cache: Columns | None = None
        self.positions = torch.zeros(0, dtype=torch.long)
        self._last = torch.zeros(0, dtype=torch.long)  # each row's likeliest token, on the device
        self._unheard: list[Said] = []

    def __len__(self) -> int:
        return len(self.rows)

    def admit(self, rows: Sequence[Row], cache: Columns, logits: torch.Tensor, positions: Sequence[int]) -> list[Row]:
        """Take in rows that have been prefilled; those that are known to end with their first token are given back.

        Args:
            cache: the rows' keys and values; it may become the pool's own.
            logits: (rows, vocabulary) after the prompts.
            positions: of each row's first token.
        """
        said = Said(rows, logits)
        waits = self._can_wait(rows) and not all(row.over for row in rows)
        done = [] if waits else said.hear()
        order = _closed_up(cache, [at for at, row in enumerate(rows) if not row.ended])
        if order:
            follow = sent(torch.tensor([positions[at] for at in order]), self.language.device)
            last = said.likeliest if len(order) == len(rows) else said.likeliest[self._places(order)]
            if self.rows:
                self._join(cache)
                self.positions, self._last = torch.cat([self.positions, follow]), torch.cat([self._last, last])
            else:
                self.cache = cache if self.steps.recorder is None else self._wider(cache, len(order), 0)
                self.positions, self._last = follow, last
            self.rows += [rows[at] for at in order]
        if waits:  # last: where memory was short, nothing is left of them
            self._unheard.append(said)
        return done

    def step(self) -> list[Row]:
        """One token more for each row, or the reading of those that there are; gives back the rows that have ended."""
        began = time.perf_counter()
        going = [row for row in self.rows if not row.ended]
        waits = self._can_wait(self.rows)
        before = len(self._unheard)
        if self.cache is not None and (waits or not before) and not all(row.over for row in self.rows):
            if self.cache.at == self.cache.width:
                self.cache = self._wider(self.cache, len(self.rows), 0)
            ids = self._last
            if not all(row.free for row in self.rows):
                ids = sent(torch.tensor([row.tokens[-1] for row in self.rows]), self.language.device)
            logits = self.steps(ids, self.positions, self.cache)
            self.positions = self.positions + 1
            said = Said(self.rows, logits)
            self._last = said.likeliest
            self._unheard.append(said)
        done = self._hear(before if waits else len(self._unheard))
        share = (time.perf_counter() - began) / max(1, len(going))
        for row in going:
            row.seconds += share
        self._part()
        return done

    def _can_wait(self, rows: Sequence[Row]) -> bool:
        return self.ahead and all(row.free for row in rows)

    def _hear(self, count: int) -> list[Row]:
        """Read the tokens of the first so many steps that were not; gives back the rows that have ended with them."""
        heard, self._unheard = self._unheard[:count], self._unheard[count:]
        return [row for said in heard for row in said.hear()]

    def _part(self) -> None:
        """Have the rows that have ended leave."""
        stay = [at for at, row in enumerate(self.rows) if not row.ended]
        if len(stay) == len(self.rows) or (stay and not self.leave):
            return
        assert self.cache is not None
        order = _closed_up(self.cache, stay)
        if any(row.broken for row in self.rows):  # NaN does not vanish behind a mask
            self.cache.store[:, :, len(stay) : len(self.rows)] = 0
        self.rows = [self.rows[at] for at in order]
        if self.rows:
            places = self._places(order)
            self.positions, self._last = self.positions[places], self._last[places]
        else:
            self.cache, self._unheard = None, []  # what is still to be read is of rows that have ended

    def _places(self, order: Sequence[int]) -> torch.Tensor:
        return sent(torch.tensor(order), self.language.device)

    def clear(self, *, free: bool = False) -> list[Row]:
        """Put every row out, unanswered.

        Args:
            free: give the memory back, too; else what was recorded stays for the rows to come.
        """
        if free or any(row.broken for row in self.rows):
            self._home = None
            self.steps.forget()
        rows, self.rows, self.cache, self._unheard = [row for row in self.rows if not row.ended], [], None, []
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
        cache.begins[live : live + more] = [cache.at - new.at + begin for begin in new.begins[:more]]
        cache.rows = live + more

    def _wider(self, old: Columns, rows: int, at: int) -> Columns:
        """A cache with the same rows, room for ``rows`` of them and for steps, at least ``at`` columns filled."""
        live = old.rows
        keep = old.at - min(old.begins[:live], default=old.at)
        at = max(at, keep)
        kept = old.store[:, :, :live, :, old.at - keep : old.at]
        valid, factors = old.valid[:live, old.at - keep : old.at].clone(), old.factors[:live].clone()
        begins = [begin - old.at + at for begin in old.begins[:live]]
        new = self._empty(rows, at + ROOM)
        if new is old:  # its rows are moved to its beginning
            kept = kept.clone()
        new.valid.zero_()
        new.rows, new.at = live, at
        new.store[:, :, :live, :, at - keep : at] = kept
        new.valid[:live, at - keep : at] = valid
        new.factors[:live] = factors
        new.begins[:live] = begins
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


def _closed_up(cache: Columns, stay: Sequence[int]) -> list[int]:
    """Close the gaps that rows leave with rows from the end; gives the places from which the remaining ones come."""
    order = list(range(len(stay)))
    staying = set(stay)
    gaps = [at for at in order if at not in staying]
    last = [at for at in stay if at >= len(stay)]
    cache.move(last, gaps)
    for gap, source in zip(gaps, last, strict=True):
        order[gap] = source
    cache.rows = len(stay)
    return order
