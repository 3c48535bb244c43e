"""Forward passes of the language model: tokens and image features in, the next token's logits out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .kv_tensors import GraphShape, KVShape, KVTensors
from .paged_cache import PagedKVCache
from .paged_tensors import PagedTensors
from .patches import prefix_attention
from .patches.attention import TEXT
from .rope_positions import RopePositions
from .transfer import to_device

# Relative error of logits that a different order of summation explains.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}


def relative_error(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The norm of the difference of two logit vectors, relative to the spread of ``expected``."""
    return float((expected - found).norm() / (expected - expected.mean()).norm().clamp_min(1e-6))


@dataclass(frozen=True)
class PrefillSegment:
    """Consecutive tokens of one sequence, or of a prefix that several share.

    Attributes:
        prefix: keys and values of the tokens before, in pieces (``KVTensors.slice_row``).
        ids: the tokens, with each image's placeholder tokens.
        positions: (1 or 3, tokens), on the CPU.
        features: of the images among the tokens, in order.
        generated: the last tokens, which the model generated: none of them stands for an image.
        rope_factor: with which the sequence's keys are rotated (``LanguageModel.rope_factor``).
    """

    prefix: Sequence[torch.Tensor]
    ids: list[int]
    positions: torch.Tensor
    features: Sequence[torch.Tensor] = ()
    generated: int = 0
    rope_factor: float = 1.0


def text_model(model: Any) -> Any:
    """The language model inside a transformers image-text-to-text model; None if it cannot be found."""
    base = getattr(model, "model", None)
    return getattr(base, "language_model", None) or getattr(base, "text_model", None)


def marks_of(model: Any) -> dict[int, torch.Tensor]:
    """By token, the embeddings that a model takes from its vision encoder's table: Ovis2's marks around tiles."""
    tokens = getattr(model.config, "visual_indicator_token_ids", None)
    table = getattr(model.model, "visual_embeddings_table", None)
    if not tokens or table is None:
        return {}
    last = torch.arange(table.weight.shape[0], device=model.device)[-len(tokens) :]
    with torch.inference_mode():
        return dict(zip(tokens, table(last), strict=True))


class LanguageModel:
    """The language model of a transformers image-text-to-text model.

    Attributes:
        shape: of one token's keys and values.
        positions: how its tokens are numbered.
        visual_tokens: the tokens of visual tokens' places, in images and in videos.
        marks: the embeddings of tokens around images that are not the embedding table's (``marks_of``).
        tolerance: largest ``relative_error`` between equal logits.
        ntk_alpha: maps a prompt's length to the factor with which its keys are rotated (Qwen-VL's dynamic NTK); None
            for other models.
        page_attention: whether decode steps may read pages in place (``PagedTensors``).
        prefix_attention: whether attention may read shared prefixes where they are (``patches/prefix_attention.py``);
            otherwise they are copied to every row.
        ends_with_last_token: whether the last layer can be told that only the last token's output is needed
            (``patches/decoder_layer.py``).
    """

    def __init__(self, model: Any, visual_tokens: Sequence[int]) -> None:
        self.model = text_model(model)
        self.embed = model.get_input_embeddings()
        self.head = model.get_output_embeddings()
        self.visual_tokens = tuple(visual_tokens)
        self.marks = marks_of(model)
        self.shape = KVShape.of(self.model.config)
        self.positions = RopePositions(grids=hasattr(model.model, "get_rope_index"))
        self.device = model.device
        self.dtype = model.dtype
        self.tolerance = TOLERANCE[self.dtype]
        self.ntk_alpha = getattr(model.config, "ntk_alpha", None)
        self.page_attention = True
        self.prefix_attention = prefix_attention.available()
        self.ends_with_last_token = False

    def rope_factor(self, prompt_tokens: int) -> float:
        """The factor with which the keys of a prompt of this length are rotated."""
        return 1.0 if self.ntk_alpha is None else float(self.ntk_alpha(prompt_tokens))

    def allocate(self, rows: int, slots: int) -> KVTensors:
        """An empty cache."""
        return KVTensors(self.shape, rows, slots, device=self.device, dtype=self.dtype)

    def paged_cache(self) -> PagedKVCache:
        """An empty paged cache."""

        def allocate(pages: int) -> PagedTensors:
            return PagedTensors(self.shape, pages, device=self.device, dtype=self.dtype)

        bytes_per_token = self.shape.bytes(self.dtype)
        return PagedKVCache(allocate, bytes_per_token, self.device, in_place=self._reads_pages)

    def _reads_pages(self) -> bool:
        """Whether attention reads pages in place.  It does not keep scores in a higher precision than the model's."""
        return self.page_attention and self._attends_in_float32

    @property
    def _attends_in_float32(self) -> bool:
        """Whether the model's attention is evalkit's, in single precision."""
        return self.dtype == torch.float32 and getattr(self.model.config, "_attn_implementation", None) == TEXT

    @property
    def reads_prefixes(self) -> bool:
        """Whether attention reads shared prefixes where they are, for which only CPUs have a kernel."""
        return self.prefix_attention and self._attends_in_float32 and self.device.type == "cpu"

    def prefill(self, segments: Sequence[PrefillSegment], spare_slots: int = 0) -> tuple[KVTensors, torch.Tensor]:
        """Compute several segments as one batch.

        Returns:
            their keys and values (with ``spare_slots`` more slots), and the logits (rows, vocabulary) after their last
            tokens, in float32.
        """
        chains = [tuple(segment.prefix) for segment in segments]
        before = 0 if self.reads_prefixes else max(sum(prefix.shape[3] for prefix in chain) for chain in chains)
        longest = max(len(segment.ids) for segment in segments)
        cache = self.allocate(len(segments), before + longest + spare_slots)
        cache.rows, cache.filled = len(segments), before
        ids = torch.full((len(segments), longest), 0)
        positions = torch.zeros(len(segments[0].positions), len(segments), longest, dtype=torch.long)
        valid = torch.zeros(len(segments), longest, dtype=torch.bool)
        for row, segment in enumerate(segments):
            start = longest - len(segment.ids)
            ids[row, start:] = torch.tensor(segment.ids)
            positions[:, row, start:] = segment.positions
            valid[row, start:] = True
            cache.first_slots[row] = before + start
            cache.own_slots[row] = len(segment.ids)
        if self.reads_prefixes:
            cache.set_prefixes(0, chains)
        else:
            for rows in _equal_neighbours(chains):
                cache.write_prefix(rows, chains[rows.start], before)
        prompts = valid.clone()
        for row, segment in enumerate(segments):
            prompts[row, longest - segment.generated :] = False
        visual = torch.isin(ids, torch.tensor(self.visual_tokens)) & prompts
        # Without copies or padding no mask is needed but the causal one, for which attention has faster kernels.
        unmasked = not before and bool(valid.all())
        cache.valid[:, before : before + longest] = self._to_device(valid)
        cache.rope_factors = self._to_device(torch.tensor([segment.rope_factor for segment in segments]))
        mask = None if unmasked else _causal_mask(cache.valid[:, : before + longest], longest)
        features = [image for segment in segments for image in segment.features]
        marked = torch.isin(ids, torch.tensor(list(self.marks))) & prompts if self.marks else None
        placed = self._to_device(ids), self._to_device(positions)
        logits = self._forward(*placed, cache, mask, visual, features, marked)
        cache.advance(longest)
        return cache, logits

    def decode(self, ids: torch.Tensor, positions: torch.Tensor, cache: KVTensors) -> torch.Tensor:
        """Compute one more token of each row: (rows,) ids and positions to logits (rows, vocabulary) in float32."""
        rows = cache.rows
        cache.valid[:rows, cache.filled] = True
        mask = cache.valid[:rows, None, None, : cache.filled + 1]
        logits = self._forward(ids[:, None], self._column(positions), cache, mask, None, [])
        cache.advance(1)
        return logits

    def decode_paged(self, ids: torch.Tensor, positions: torch.Tensor, cache: PagedKVCache) -> torch.Tensor:
        """As ``decode``, in a paged cache that has grown."""
        mask = cache.begin_step()
        assert cache.tensors is not None
        extra = {"evalkit_pages": cache.tensors} if cache.tensors.in_place else {}
        return self._forward(ids[:, None], self._column(positions), cache.tensors, mask, None, [], None, **extra)

    def decode_captured(
        self, ids: torch.Tensor, positions: torch.Tensor, cache: KVTensors, shape: GraphShape
    ) -> torch.Tensor:
        """As ``decode``, for capture: shapes are fixed, and everything that differs between steps is on the device.

        ``cache.valid`` and ``cache.filled`` are left to whoever replays the capture.
        """
        mask = cache.valid[: shape.rows, None, None, : shape.slots]
        cache.graph_shape = shape
        try:
            return self._forward(ids[:, None], self._column(positions), cache, mask, None, [])
        finally:
            cache.graph_shape = None

    def _column(self, positions: torch.Tensor) -> torch.Tensor:
        """(1 or 3, rows, 1)."""
        return positions.expand(3 if self.positions.grids else 1, -1)[..., None]

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return to_device(tensor, self.device)

    def _forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: KVTensors | PagedTensors,
        mask: torch.Tensor | None,
        visual: torch.Tensor | None,
        features: Sequence[torch.Tensor],
        marked: torch.Tensor | None = None,
        **extra: Any,
    ) -> torch.Tensor:
        embeds = self.embed(ids)
        if marked is not None:
            within = self._to_device(marked)
            for token, embedding in self.marks.items():
                embeds = embeds.where(~(within & (ids == token))[..., None], embedding)
        if isinstance(cache, KVTensors) and (levels := cache.prefix_levels()):
            extra["evalkit_prefixes"] = levels
        if self.ntk_alpha is not None:
            extra["ntk_alpha"] = cache.rope_factors[: len(ids)]
        if features:
            assert visual is not None
            joined = torch.cat(list(features), dim=1)
            # Indices are computed on the CPU: counting a mask on the device would synchronize.
            where = self._to_device(visual.flatten().nonzero()[:, 0])
            embeds = embeds.flatten(0, 1).index_copy(0, where, joined[0].to(embeds.dtype)).view_as(embeds)
            if len(joined) > 1:
                extra |= {"visual_pos_masks": self._to_device(visual), "deepstack_visual_embeds": list(joined[1:])}
        added_to = len(features[0]) - 1 if features else 0  # layers whose output image features are added to
        if self.ends_with_last_token and added_to < self.shape.layers:
            extra["evalkit_last_token"] = True
        out = self.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions if self.positions.grids else positions[0],
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        logits: torch.Tensor = self.head(out.last_hidden_state[:, -1]).float()
        return logits


def _causal_mask(valid: torch.Tensor, longest: int) -> torch.Tensor:
    """(rows, 1, longest, slots): the valid slots up to its own that each of the last ``longest`` tokens attends to.

    Every token attends to itself, even padding: attention to nothing would be NaN, which spreads.
    """
    slots = valid.shape[1]
    before = slots - longest
    past = torch.ones(longest, slots, dtype=torch.bool, device=valid.device).tril(before)
    itself = torch.eye(longest, dtype=torch.bool, device=valid.device)
    mask = past & valid[:, None, :]
    mask[:, :, before:] |= itself
    return mask[:, None]


def _equal_neighbours(chains: Sequence[Sequence[torch.Tensor]]) -> Iterator[range]:
    """Ranges of neighbouring rows with the same prefixes; rows without any are left out."""
    start = 0
    for at in range(1, len(chains) + 1):
        if at == len(chains) or [*map(id, chains[at])] != [*map(id, chains[start])]:
            if chains[start]:
                yield range(start, at)
            start = at
