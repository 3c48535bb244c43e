"""Continuations ranked by likelihood, without asking more of a model than ``generate`` does.

Each option's tokens are *forced* upon greedy decoding, and their cross-entropies noted on the way.  So positions, masks
and caches are those of generation, whatever the architecture (a prefix that sees itself both ways stays the prompt
alone), and no step has more logits than one position's.

The logits before an option's last token do not depend on that token.  Options that differ in it alone, as letters do,
are therefore read off one row; ``branches`` finds the fewest rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Branch:
    """One row: what is forced upon the prompt, and the options read off it (their places, and their token ids)."""

    forced: Tokens
    options: tuple[tuple[int, Tokens], ...]


def branches(options: Sequence[Tokens]) -> list[Branch]:
    """The fewest rows that read every option: each one's tokens but the last are a beginning of its row's.

    Raises:
        ValueError: an option has no tokens.
    """
    if not all(options):
        raise ValueError("a continuation is empty")
    found: list[tuple[Tokens, list[tuple[int, Tokens]]]] = []
    for place, tokens in sorted(enumerate(options), key=lambda o: -len(o[1])):
        head = tokens[:-1]
        for forced, read in found:
            if forced[: len(head)] == head:
                read.append((place, tokens))
                break
        else:
            found.append((head, [(place, tokens)]))
    return [Branch(forced, tuple(sorted(read))) for forced, read in found]


class Forced(LogitsProcessor):
    """Forces each row along its branch and adds up the cross-entropies of its options' tokens.

    Attributes:
        steps: how many tokens ``generate`` must be asked for.
        sums: per row and option of its branch, the sum of the cross-entropies (nats) of its tokens.
        broken: per row, whether logits that count were not numbers.
    """

    def __init__(self, rows: Sequence[Branch], filler: int) -> None:
        self.rows = rows
        self.filler = filler  # for rows that are through before the others are
        self.steps = 1 + max(len(row.forced) for row in rows)
        self.sums = [[0.0] * len(row.options) for row in rows]
        self.broken = [False] * len(rows)
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step, self.step = self.step, self.step + 1
        wanted = [
            (row, k, tokens[step])
            for row, branch in enumerate(self.rows)
            for k, (_, tokens) in enumerate(branch.options)
            if step < len(tokens)
        ]
        if wanted:
            rows, _, tokens = zip(*wanted, strict=True)
            losses = -scores.float().log_softmax(-1)[list(rows), list(tokens)]  # (options still going,)
            for (row, k, _), loss in zip(wanted, losses.tolist(), strict=True):
                self.sums[row][k] += loss
            for row, bad in enumerate(scores.isnan().any(-1).tolist()):
                self.broken[row] |= bad and step <= len(self.rows[row].forced)
        follow = [row.forced[step] if step < len(row.forced) else self.filler for row in self.rows]
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, torch.tensor(follow, device=scores.device)[:, None], 0.0)

    def means(self, row: int) -> list[float]:
        """The mean cross-entropy per token of each option of a row's branch."""
        options = self.rows[row].options
        return [total / len(tokens) for total, (_, tokens) in zip(self.sums[row], options, strict=True)]
