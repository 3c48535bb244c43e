"""A language model, called piece by piece: tokens and features in, the next token's logits out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .kv_cache import Columns, Fixed, Shape, sent
from .vision import Seen

# How far logits may lie apart, as a share of their spread: what another order of the same sums makes, and no more.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far logits lie apart, as a share of the spread of ``one``."""
    return float((one - other).norm() / (one - one.mean()).norm().clamp_min(1e-6))


@dataclass(frozen=True)
class Piece:
    """Some tokens of one request, after those whose keys and values there are.

    Attributes:
        before: keys and values of the tokens before, in parts (``Columns.last``).
        ids: the tokens, those that stand for images among them.
        positions: (1 or 3, tokens), on the CPU.
        features: of the images among the tokens, in order.
        factor: with which its request's keys are rotated (``Language.factor``).
    """

    before: Sequence[torch.Tensor]
    ids: list[int]
    positions: torch.Tensor
    features: Sequence[torch.Tensor] = ()
    factor: float = 1.0


@dataclass(frozen=True)
class Places:
    """Where each token stands: in one row of positions, or in three (time, row, column) with images as grids."""

    grids: bool

    def of(self, parts: Sequence[int | Seen], begin: int) -> tuple[list[int], torch.Tensor, int]:
        """The tokens of texts' tokens and images, their positions (1 or 3, tokens), and the position that follows."""
        ids: list[int] = []
        blocks: list[torch.Tensor] = []
        here = begin
        run = 0  # tokens since the last block, one position each
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
                run += 1
            elif part.grid is None or not self.grids:
                ids += part.ids
                run += len(part.ids)
            else:
                blocks.append(self._line(here, run))
                here, run = here + run, 0
                ids += part.ids
                rows, columns = part.grid
                block = torch.full((3, rows, columns), here)
                block[1] += torch.arange(rows)[:, None]
                block[2] += torch.arange(columns)
                blocks.append(block.flatten(1))
                here += max(rows, columns)
        blocks.append(self._line(here, run))
        return ids, torch.cat(blocks, dim=1), here + run

    def _line(self, begin: int, tokens: int) -> torch.Tensor:
        return torch.arange(begin, begin + tokens).expand(3 if self.grids else 1, -1)


def text_part(model: Any) -> Any:
    """The language model inside a model that takes images too; None where it is not to be found."""
    base = getattr(model, "model", None)
    return getattr(base, "language_model", None) or getattr(base, "text_model", None)


def _causal(valid: torch.Tensor, longest: int) -> torch.Tensor:
    """(rows, 1, longest, columns), what each of the last ``longest`` columns sees of the ``valid`` ones up to itself.

    All see themselves, padding too: what saw nothing would be NaN, which spreads.
    """
    columns = valid.shape[1]
    before = columns - longest
    past = torch.ones(longest, columns, dtype=torch.bool, device=valid.device).tril(before)
    itself = torch.eye(longest, dtype=torch.bool, device=valid.device)
    mask = past & valid[:, None, :]
    mask[:, :, before:] |= itself
    return mask[:, None]


def _alike(pieces: Sequence[Piece]) -> Iterator[range]:
    """Places of neighbours that come after the same keys and values; none of those that come after nothing."""
    begin = 0
    for at in range(1, len(pieces) + 1):
        if at == len(pieces) or [*map(id, pieces[at].before)] != [*map(id, pieces[begin].before)]:
            if pieces[begin].before:
                yield range(begin, at)
            begin = at


class Language:
    """The language model of a transformers image-text-to-text model.

    Attributes:
        shape: of a token's keys and values.
        places: how its tokens are numbered.
        image: the token that stands for (a piece of) an image.
        tolerance: how far its logits may lie apart, as a share of their spread, and be called the same.
    """

    def __init__(self, model: Any, image: int) -> None:
        self.model = text_part(model)
        self.embed = model.get_input_embeddings()
        self.head = model.get_output_embeddings()
        self.image = image
        self.shape = Shape.of(self.model.config)
        self.places = Places(grids=hasattr(model.model, "get_rope_index"))
        self.device = model.device
        self.dtype = model.dtype
        self.tolerance = TOLERANCE[self.dtype]
        # Qwen-VL's dynamic NTK: how keys are rotated depends on how long the request's whole prompt is.
        self._factor = getattr(model.config, "ntk_alpha", None)

    def factor(self, tokens: int) -> float:
        """With which factor the keys of a request are rotated whose prompt has so many tokens."""
        return 1.0 if self._factor is None else float(self._factor(tokens))

    def columns(self, rows: int, columns: int) -> Columns:
        """An empty cache."""
        return Columns(self.shape, rows, columns, device=self.device, dtype=self.dtype)

    def prefill(self, pieces: Sequence[Piece], room: int = 0) -> tuple[Columns, torch.Tensor]:
        """Compute the pieces together.

        Returns:
            their keys and values (with ``room`` more columns), and the logits (rows, vocabulary) after their last
            tokens, in float32.
        """
        before = max(sum(held.shape[3] for held in piece.before) for piece in pieces)
        longest = max(len(piece.ids) for piece in pieces)
        cache = self.columns(len(pieces), before + longest + room)
        cache.rows, cache.at = len(pieces), before
        ids = torch.full((len(pieces), longest), 0)
        positions = torch.zeros(len(pieces[0].positions), len(pieces), longest, dtype=torch.long)
        there = torch.zeros(len(pieces), longest, dtype=torch.bool)
        for row, piece in enumerate(pieces):
            start = longest - len(piece.ids)
            ids[row, start:] = torch.tensor(piece.ids)
            positions[:, row, start:] = piece.positions
            there[row, start:] = True
            cache.begins[row] = before + start
        for rows in _alike(pieces):
            cache.put(rows, pieces[rows.start].before, before)
        visual = (ids == self.image) & there
        full = not before and bool(there.all())
        cache.valid[:, before : before + longest] = self._sent(there)
        cache.factors = self._sent(torch.tensor([piece.factor for piece in pieces]))
        # Where there is nothing to mask but what comes later, attention has quicker ways.
        mask = None if full else _causal(cache.valid[:, : before + longest], longest)
        features = [one for piece in pieces for one in piece.features]
        logits = self._forward(self._sent(ids), self._sent(positions), cache, mask, visual, features)
        cache.step(longest)
        return cache, logits

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return sent(tensor, self.device)

    def step(self, ids: torch.Tensor, positions: torch.Tensor, cache: Columns) -> torch.Tensor:
        """One more token for each row: (rows,) tokens and positions; gives logits (rows, vocabulary) in float32."""
        rows = cache.rows
        cache.valid[:rows, cache.at] = True
        mask = cache.valid[:rows, None, None, : cache.at + 1]
        logits = self._forward(ids[:, None], self._one(positions), cache, mask, None, [])
        cache.step(1)
        return logits

    def fixed_step(self, ids: torch.Tensor, positions: torch.Tensor, cache: Columns, fixed: Fixed) -> torch.Tensor:
        """``step`` for a recording: all shapes are fixed, and what tells one step from another lies on the device.

        Neither ``cache.valid`` nor ``cache.at`` is changed: that is for whoever replays it.
        """
        mask = cache.valid[: fixed.rows, None, None, : fixed.columns]
        cache.fixed = fixed
        try:
            return self._forward(ids[:, None], self._one(positions), cache, mask, None, [])
        finally:
            cache.fixed = None

    def _one(self, positions: torch.Tensor) -> torch.Tensor:
        """(1 or 3, rows, 1)."""
        return positions.expand(3 if self.places.grids else 1, -1)[..., None]

    def _forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: Columns,
        mask: torch.Tensor | None,
        visual: torch.Tensor | None,
        features: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        embeds = self.embed(ids)
        more: dict[str, Any] = {} if self._factor is None else {"ntk_alpha": cache.factors[: len(ids)]}
        if features:
            assert visual is not None
            whole = torch.cat(list(features), dim=1)
            # Places are counted on the CPU: of a mask on the device, it would have to wait for their number.
            where = self._sent(visual.flatten().nonzero()[:, 0])
            embeds = embeds.flatten(0, 1).index_copy(0, where, whole[0].to(embeds.dtype)).view_as(embeds)
            if len(whole) > 1:
                more |= {"visual_pos_masks": self._sent(visual), "deepstack_visual_embeds": list(whole[1:])}
        out = self.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions if self.places.grids else positions[0],
            past_key_values=cache,
            use_cache=True,
            **more,
        )
        logits: torch.Tensor = self.head(out.last_hidden_state[:, -1]).float()
        return logits
