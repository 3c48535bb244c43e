"""Rows being answered, and what each of them says next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from evalkit.model.hf.continuations import Branch
from evalkit.model.hf.sampler import RandomSampler

from .kv_cache import sent


@dataclass(eq=False)
class Row:
    """One request (or one branch of one) on its way.

    Attributes:
        limit: how many tokens it may have; ``least`` how many it must.
        stops: the tokens that end it.
        draws: where its tokens are drawn at random.
        enough: where strings end it, whether the tokens so far have one of them.
        forced: where continuations are ranked: what is forced upon it, and the options read off.
        tokens: its answer so far, the token that ended it included.
        asked: how many tokens were worked out, those included that were not read yet (``Said``).
        sums: of the options' cross-entropies.
        seconds: its share of the work so far.
        broken: whether its logits were not numbers.
        prompt: tokens of the prompt.
    """

    limit: int
    least: int = 0
    stops: tuple[int, ...] = ()
    forced: Branch | None = None
    draws: RandomSampler | None = None
    enough: Callable[[list[int]], bool] | None = None
    tokens: list[int] = field(default_factory=list)
    asked: int = 0
    sums: list[float] = field(default_factory=list)
    seconds: float = 0.0
    broken: bool = False
    prompt: int = 0
    ended: bool = False

    def restart(self) -> None:
        """Forget what was answered: it is computed again."""
        self.tokens, self.asked, self.sums, self.broken, self.ended = [], 0, [], False, False
        if self.draws is not None:
            self.draws.restart()

    @property
    def free(self) -> bool:
        """Whether its next token is the likeliest one, whatever the tokens before."""
        return self.forced is None and self.draws is None

    @property
    def over(self) -> bool:
        """Whether it has all its tokens, or will have once they are read."""
        return self.ended or (self.forced is None and self.asked >= self.limit)

    @property
    def means(self) -> list[float]:
        """The mean cross-entropy per token of each option."""
        assert self.forced is not None
        return [s / len(tokens) for s, (_, tokens) in zip(self.sums, self.forced.options, strict=True)]


class Said:
    """What some rows say next: worked out on the device, and read when it is wanted (``hear``).

    Attributes:
        rows: whose tokens they are; those that have ended by the time of reading are left as they are.
        likeliest: (rows,), on the device.
    """

    def __init__(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """``logits``: (rows, vocabulary), float32; they may be overwritten if all rows are ``free``."""
        self.rows = list(rows)
        broken = logits.isnan().any(-1)
        early = [
            (at, token)
            for at, row in enumerate(rows)
            if row.forced is None and row.asked < row.least
            for token in row.stops
        ]
        if early:
            places, tokens = sent(torch.tensor(early), logits.device).unbind(1)
            logits.index_put_((places, tokens), logits.new_full((), -torch.inf))
        self.likeliest = logits.argmax(-1)
        self._logits = None if all(row.free for row in rows) else logits
        found = torch.stack([self.likeliest, broken.long()])
        self._there = None
        if logits.device.type == "cuda":
            self._found = found.to("cpu", non_blocking=True)
            self._there = torch.cuda.Event()
            self._there.record(torch.cuda.current_stream(logits.device))
        else:
            self._found = found.cpu()
        for row in rows:
            row.asked += 1

    def hear(self) -> list[Row]:
        """Give every row its token; gives back the rows that end with it."""
        if self._there is not None:
            self._there.synchronize()
        said, bad = self._found.tolist()
        going = [at for at, row in enumerate(self.rows) if not row.ended]
        if self._logits is not None:
            _read_off([(at, self.rows[at]) for at in going], self._logits)
        for at in going:
            row = self.rows[at]
            row.broken |= bool(bad[at])
            if row.forced is None:
                token = said[at] if row.draws is None or self._logits is None else row.draws.sample(self._logits[at])
                row.tokens.append(token)
                row.ended = token in row.stops or len(row.tokens) >= row.limit or row.broken
                row.ended = row.ended or (row.enough is not None and row.enough(row.tokens))
            else:
                step = len(row.tokens)
                row.ended = step >= len(row.forced.forced) or row.broken
                row.tokens.append(row.forced.forced[step] if not row.ended else said[at])
        return [self.rows[at] for at in going if self.rows[at].ended]


def _read_off(rows: Sequence[tuple[int, Row]], logits: torch.Tensor) -> None:
    """Add up the cross-entropies of the options' tokens at this step; rows with their places among the logits."""
    wanted = [
        (at, row, option, tokens[len(row.tokens)])
        for at, row in rows
        if row.forced is not None
        for option, (_, tokens) in enumerate(row.forced.options)
        if len(row.tokens) < len(tokens)
    ]
    if not wanted:
        return
    alone = sorted({at for at, *_ in wanted})
    index = {place: at for at, place in enumerate(alone)}
    losses = -logits[alone].log_softmax(-1)
    found = losses[[index[at] for at, *_ in wanted], [token for *_, token in wanted]].tolist()
    for (_, row, option, _), loss in zip(wanted, found, strict=True):
        assert row.forced is not None
        if not row.sums:
            row.sums = [0.0] * len(row.forced.options)
        row.sums[option] += loss
