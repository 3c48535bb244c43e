"""The plain path: batches through a model's own ``generate``.

It asks nothing of a model but that, so it serves where the engine does not fit; one sample at a time, it is what the
engine's answers are held against (``--exact``).
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Event
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from .continuations import Branch, ForcedDecoding
from .memory import is_out_of_memory
from .outcome import Outcome
from .processor import Inputs, Planned, Prepared
from .sampler import RandomSampler
from .threads import threads

log = logging.getLogger(__name__)

# No token's id: a continuation is forced to its end, whatever tokens it has.
NO_STOP = 2**31 - 1


class _NotNumbers(LogitsProcessor):
    """Notes the rows whose logits are not numbers: greedy search would make a plausible token of them."""

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bad = scores.isnan().any(-1)
        self.rows = bad if self.rows is None else self.rows | bad
        return scores


class _Drawn(LogitsProcessor):
    """Leaves each row the one token that its own stream draws, for greedy search to find."""

    def __init__(self, rows: Sequence[RandomSampler]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = [row.sample(one) for row, one in zip(self.rows, scores, strict=True)]
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, torch.tensor(drawn, device=scores.device)[:, None], 0.0)


class Generate:
    """Answers rows with ``model.generate``, ``batch_size`` at a time (fewer after running out of memory).

    Args:
        stops: the tokens that end a row's answer; ``pad`` fills what follows one.
    """

    def __init__(
        self, model: Any, inputs: Inputs, *, stops: Callable[[Planned], Sequence[int]], pad: int, batch_size: int
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.stops = stops
        self.pad = pad
        self.batch_size = batch_size

    def answer(self, rows: Sequence[Planned], stop: Event | None = None) -> Iterator[Outcome]:
        """An outcome for every row, batch by batch, longest first; images of the next batch are decoded meanwhile."""
        with threads(1) as ahead:
            waiting = None
            for batch in self._batches(rows):
                coming = ahead.submit(self.inputs.prepare, batch)
                if waiting is not None:
                    yield from self._answer(waiting.result())
                if stop is not None and stop.is_set():
                    return
                waiting = coming
            if waiting is not None:
                yield from self._answer(waiting.result())

    @cached_property
    def _listening(self) -> Any:
        """The tokenizer, for stop strings: a copy, since tokenizers 0.22 fails where two threads use one."""
        return copy.deepcopy(self.inputs.tokenizer)

    def _batches(self, rows: Sequence[Planned]) -> Iterator[list[Planned]]:
        groups: dict[object, list[Planned]] = {}  # one task has one decoding, so there is one group as a rule
        for planned in rows:
            groups.setdefault(planned.group, []).append(planned)
        for group in groups.values():
            group.sort(key=lambda p: -p.tokens)
            while group:  # the size of a batch may change on the way
                batch, group[:] = group[: self.batch_size], group[self.batch_size :]
                yield batch

    def _answer(self, prepared: Prepared) -> Iterator[Outcome]:
        for planned, error in prepared.failed:
            yield Outcome(planned, error=error)
        for planned in prepared.alone:
            yield from self._answer(self.inputs.prepare([planned]))
        batch, inputs = prepared.batch, prepared.inputs
        if not batch:
            return
        image_sizes = self.inputs.image_sizes(batch, inputs)
        lengths = inputs["attention_mask"].sum(-1).tolist()
        branches = [planned.branch for planned in batch if planned.branch is not None]  # all of a batch, or none
        began = time.perf_counter()
        full: str | None = None
        try:
            if branches:
                entropies, broken = self._score(inputs, branches)
            else:
                new, broken = self._generate(inputs, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            full = str(error).strip().splitlines()[0]
        if full is not None:  # outside the except: the error's traceback holds the tensors that are in the way
            yield from self._with_less(batch, full)
            return
        seconds = (time.perf_counter() - began) / len(batch)
        for row, planned in enumerate(batch):
            common = Outcome(
                planned,
                prompt_tokens=int(lengths[row]),
                image_sizes=image_sizes[row],
                seconds=seconds,
                broken=broken[row],
            )
            if branches:
                yield replace(common, entropies=tuple(entropies[row]))
            else:
                yield replace(common, tokens=tuple(new[row]))

    def _with_less(self, batch: list[Planned], full: str) -> Iterator[Outcome]:
        """Answer a batch that did not fit into memory by halves; a request that does not fit alone fails."""
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            yield Outcome(batch[0], error=MemoryError(full))
            return
        half = (len(batch) + 1) // 2
        if half < self.batch_size:
            log.warning("out of memory with %d samples: going on with batches of %d", len(batch), half)
            self.batch_size = half
        for part in (batch[:half], batch[half:]):
            yield from self._answer(self.inputs.prepare(part))

    def _generate(self, inputs: Any, batch: Sequence[Planned]) -> tuple[list[list[int]], list[bool]]:
        """The new tokens of every row, and whether its logits were not numbers."""
        decoding = batch[0].request.decoding
        settings = GenerationConfig(
            do_sample=False,
            num_beams=decoding.num_beams,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens or None,
            eos_token_id=list(self.stops(batch[0])),
            stop_strings=list(decoding.stop) or None,
        )
        watch = _NotNumbers()
        draws = [_Drawn([RandomSampler(decoding, p.request.id) for p in batch])] if decoding.temperature > 0 else []
        new = self._search(inputs, settings, watch, *draws)
        if watch.rows is None:
            return new, [False] * len(new)
        return new, watch.rows.view(len(new), -1).any(-1).tolist()

    def _score(self, inputs: Any, rows: Sequence[Branch]) -> tuple[list[list[float]], list[bool]]:
        """Per row, the mean cross-entropy of each of its branch's options, and whether its logits were not numbers."""
        forced = ForcedDecoding(rows, filler=self.pad)
        settings = GenerationConfig(do_sample=False, num_beams=1, max_new_tokens=forced.steps, eos_token_id=NO_STOP)
        self._search(inputs, settings, forced)
        return [forced.mean_losses(row) for row in range(len(rows))], forced.broken

    def _search(self, inputs: Any, settings: GenerationConfig, *watch: LogitsProcessor) -> list[list[int]]:
        """The new tokens of every row, padded at the end."""
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)  # casts what is floating
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                generation_config=settings,
                logits_processor=LogitsProcessorList(watch),
                tokenizer=self._listening if settings.stop_strings else None,
            )
        new: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
        return new
