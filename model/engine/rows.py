"""Rows being answered, and what each of them says next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ..backends._continuations import Branch
from .drawing import Draws


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
        sums: of the options' cross-entropies.
        seconds: its share of the work so far.
        broken: whether its logits were not numbers.
        prompt: tokens of the prompt.
    """

    limit: int
    least: int = 0
    stops: tuple[int, ...] = ()
    forced: Branch | None = None
    draws: Draws | None = None
    enough: Callable[[list[int]], bool] | None = None
    tokens: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    seconds: float = 0.0
    broken: bool = False
    prompt: int = 0
    ended: bool = False

    def restart(self) -> None:
        """Forget what was answered: it is computed again."""
        self.tokens, self.sums, self.broken, self.ended = [], [], False, False
        if self.draws is not None:
            self.draws.restart()

    @property
    def means(self) -> list[float]:
        """The mean cross-entropy per token of each option."""
        assert self.forced is not None
        return [s / len(tokens) for s, (_, tokens) in zip(self.sums, self.forced.options, strict=True)]


def speak(rows: Sequence[Row], logits: torch.Tensor) -> None:
    """Give every row its next token, and note which rows have ended.  ``logits``: (rows, vocabulary), float32."""
    broken = logits.isnan().any(-1)
    early = [
        (at, token)
        for at, row in enumerate(rows)
        if row.forced is None and len(row.tokens) < row.least
        for token in row.stops
    ]
    if early:
        places, tokens = torch.tensor(early, device=logits.device).unbind(1)
        logits[places, tokens] = -torch.inf
    following = logits.argmax(-1)
    said, bad = torch.stack([following, broken.long()]).tolist()
    for at, row in enumerate(rows):
        if row.draws is not None:
            said[at] = row.draws.token(logits[at])
    _read_off(rows, logits)
    for row, token, nan in zip(rows, said, bad, strict=True):
        row.broken |= bool(nan)
        if row.forced is None:
            row.tokens.append(token)
            row.ended = token in row.stops or len(row.tokens) >= row.limit or row.broken
            row.ended = row.ended or (row.enough is not None and row.enough(row.tokens))
        else:
            at = len(row.tokens)
            row.ended = at >= len(row.forced.forced) or row.broken
            row.tokens.append(row.forced.forced[at] if not row.ended else token)


def _read_off(rows: Sequence[Row], logits: torch.Tensor) -> None:
    """Add up the cross-entropies of the options' tokens at this step."""
    wanted = [
        (at, option, tokens[len(row.tokens)])
        for at, row in enumerate(rows)
        if row.forced is not None
        for option, (_, tokens) in enumerate(row.forced.options)
        if len(row.tokens) < len(tokens)
    ]
    if not wanted:
        return
    places, options, tokens = zip(*wanted, strict=True)
    alone = sorted(set(places))
    losses = -logits[alone].log_softmax(-1)
    index = {place: at for at, place in enumerate(alone)}
    found = losses[[index[p] for p in places], list(tokens)].tolist()
    for place, option, loss in zip(places, options, found, strict=True):
        row = rows[place]
        if not row.sums:
            row.sums = [0.0] * len(row.forced.options)
        row.sums[option] += loss
