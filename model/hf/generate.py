"""Batches through a model's own ``generate``.

It works for every model, so it is used for those that the engine does not support.  With batch size 1 it is the
reference for the engine's answers (``--exact``).
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from threading import Event
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from evalkit.types import image_key

from .continuations import Branch, ForcedDecoding
from .memory import is_out_of_memory
from .planned import PlannedRequest, PreparedBatch
from .positions import trained_positions
from .processor import Inputs
from .responses import Outcome
from .sampler import TokenSampler, needs_sampler
from .threads import threads

log = logging.getLogger(__name__)

# Defaults: requests in a batch, and tokens of their prompts (by device type; a CUDA device has the other).
BATCH_SIZE = 32
BATCH_TOKENS = {"cpu": 16_384, "mps": 16_384}
BATCH_TOKENS_ON_GPU = 32_768
# Not the id of any token: a forced continuation never stops early.
NO_STOP = 2**31 - 1


# Prompts about the same images are neighbours if they are no shorter than this share of the longest of them.
NEARLY_AS_LONG = 0.8


def by_images(rows: Sequence[PlannedRequest]) -> list[PlannedRequest]:
    """Longest prompts first, each followed by those about the same images and videos that are nearly as long."""
    runs: list[list[PlannedRequest]] = []
    latest: dict[tuple[str, ...], list[PlannedRequest]] = {}
    for planned in sorted(rows, key=lambda p: -p.tokens):
        keys = (*map(image_key, planned.request.images), *(video.key for video in planned.encoded_videos))
        run = latest.get(keys)
        if run is None or planned.tokens < NEARLY_AS_LONG * run[0].tokens:
            run = latest[keys] = []
            runs.append(run)
        run.append(planned)
    return [planned for run in runs for planned in run]


class NaNDetector(LogitsProcessor):
    """Records the rows with NaN logits: greedy search would choose a plausible token from them."""

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bad = scores.isnan().any(-1)
        self.rows = bad if self.rows is None else self.rows | bad
        return scores


class SamplingProcessor(LogitsProcessor):
    """Chooses each row's token with the row's sampler, and leaves greedy search only that one.

    Args:
        length: of the prompts, with their padding.
    """

    def __init__(self, samplers: Sequence[TokenSampler], length: int) -> None:
        self.samplers = samplers
        self.length = length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        answers = input_ids[:, self.length :].tolist()
        rows = zip(self.samplers, scores, answers, strict=True)
        tokens = [sampler.sample(row, answer) for sampler, row, answer in rows]
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, torch.tensor(tokens, device=scores.device)[:, None], 0.0)


class GenerateRunner:
    """Answers planned requests with ``model.generate``, in batches (smaller ones after running out of memory).

    Args:
        stops: returns the stop tokens of a request.
        pad: the token after a stop token in batches.
        batch_size: the most requests in a batch; None for the default.
        max_tokens: the most tokens of a batch's prompts, with their padding; None for any number, or for the device's
            default if ``batch_size`` is None, too.
        around: returns a context in which a batch is computed.
    """

    def __init__(
        self,
        model: Any,
        inputs: Inputs,
        *,
        stops: Callable[[PlannedRequest], Sequence[int]],
        pad: int,
        batch_size: int | None,
        max_tokens: int | None = None,
        around: Callable[[Sequence[PlannedRequest]], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.stops = stops
        self.pad = pad
        self.batch_size = batch_size or BATCH_SIZE
        self.max_tokens = max_tokens
        if batch_size is None and max_tokens is None:
            self.max_tokens = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS_ON_GPU)
        self.around = around
        self.encodes_prompts = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
        if self.encodes_prompts:  # encoders such as BART's number positions from the start of a row, padding included
            inputs.tokenizer.padding_side = "right"

    def answer(self, rows: Sequence[PlannedRequest], stop: Event | None = None) -> Iterator[Outcome]:
        """An outcome per planned request, longest prompts first; the next batch's images are decoded meanwhile."""
        with threads(1) as thread:
            waiting = None
            for batch in self._batches(rows):
                coming = thread.submit(self.inputs.prepare, batch)
                if waiting is not None:
                    yield from self._answer(waiting.result())
                if stop is not None and stop.is_set():
                    return
                waiting = coming
            if waiting is not None:
                yield from self._answer(waiting.result())

    @cached_property
    def _stop_string_tokenizer(self) -> Any:
        """A copy of the tokenizer for stop strings: tokenizers 0.22 fails if two threads share one."""
        return copy.deepcopy(self.inputs.tokenizer)

    def _batches(self, rows: Sequence[PlannedRequest]) -> Iterator[list[PlannedRequest]]:
        groups: dict[object, list[PlannedRequest]] = {}  # usually one, as a task has one decoding
        for planned in rows:
            groups.setdefault(planned.group, []).append(planned)
        for group in groups.values():
            waiting = by_images(group)
            while waiting:  # batch_size may change in between
                size = self._size(waiting)
                yield waiting[:size]
                del waiting[:size]

    def _size(self, waiting: Sequence[PlannedRequest]) -> int:
        """How many of the requests, from the first on, make a batch."""
        longest = 0
        for size, planned in enumerate(waiting[: self.batch_size]):
            longest = max(longest, planned.tokens)
            if size and self.max_tokens is not None and (size + 1) * longest > self.max_tokens:
                return size
        return min(self.batch_size, len(waiting))

    def _answer(self, prepared: PreparedBatch) -> Iterator[Outcome]:
        for planned, error in prepared.failed:
            yield Outcome(planned, error=error)
        for planned in prepared.alone:
            yield from self._answer(self.inputs.prepare([planned]))
        batch, inputs = prepared.batch, prepared.inputs
        if not batch:
            return
        image_sizes = self.inputs.image_sizes(batch, inputs)
        lengths = inputs["attention_mask"].sum(-1).tolist()
        branches = [
            planned.branch for planned in batch if planned.branch is not None
        ]  # all of a batch have one, or none
        began = time.perf_counter()
        full: str | None = None
        try:
            with nullcontext() if self.around is None else self.around(batch):
                if branches:
                    mean_losses, broken = self._score(inputs, branches)
                else:
                    new, broken = self._generate(inputs, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            full = str(error).strip().splitlines()[0]
        if full is not None:  # outside of except: the error's traceback keeps the tensors alive
            yield from self._halve_after_oom(batch, full)
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
                yield replace(common, mean_losses=tuple(mean_losses[row]))
            else:
                yield replace(common, tokens=tuple(new[row]))

    def _halve_after_oom(self, batch: list[PlannedRequest], full: str) -> Iterator[Outcome]:
        """Answer a batch that ran out of memory in two halves; a single request fails."""
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            yield Outcome(batch[0], error=MemoryError(full))
            return
        half = (len(batch) + 1) // 2
        if half < self.batch_size:
            log.warning("out of memory with a batch of %d; continuing with batches of %d", len(batch), half)
            self.batch_size = half
        for part in (batch[:half], batch[half:]):
            yield from self._answer(self.inputs.prepare(part))

    def _generate(self, inputs: Any, batch: Sequence[PlannedRequest]) -> tuple[list[list[int]], list[bool]]:
        """Per row, the new tokens, and whether logits were NaN."""
        decoding = batch[0].request.decoding
        settings = GenerationConfig(
            do_sample=False,
            num_beams=decoding.num_beams,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens or None,
            eos_token_id=list(self.stops(batch[0])),
            stop_strings=list(decoding.stop) or None,
        )
        watch = NaNDetector()
        draws = []
        if needs_sampler(decoding):
            ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
            samplers = [
                TokenSampler(decoding, planned.request.id, ids[row][mask[row]].tolist())
                for row, planned in enumerate(batch)
            ]
            draws.append(SamplingProcessor(samplers, self._start(inputs)))
        new = self._search(inputs, settings, watch, *draws)
        if watch.rows is None:
            return new, [False] * len(new)
        return new, watch.rows.view(len(new), -1).any(-1).tolist()

    def _score(self, inputs: Any, rows: Sequence[Branch]) -> tuple[list[list[float]], list[bool]]:
        """Per row, the mean cross-entropy of each of its branch's options, and whether logits were NaN."""
        forced = ForcedDecoding(rows, filler=self.pad)
        settings = GenerationConfig(do_sample=False, num_beams=1, max_new_tokens=forced.steps, eos_token_id=NO_STOP)
        self._search(inputs, settings, forced)
        return [forced.mean_losses(row) for row in range(len(rows))], forced.broken

    def _search(self, inputs: Any, settings: GenerationConfig, *watch: LogitsProcessor) -> list[list[int]]:
        """The new tokens of every row, padded at the end."""
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)  # casts floating-point tensors only
        with torch.inference_mode(), trained_positions(self.model, inputs["attention_mask"]):
            out = self.model.generate(
                **inputs,
                generation_config=settings,
                logits_processor=LogitsProcessorList(watch),
                tokenizer=self._stop_string_tokenizer if settings.stop_strings else None,
            )
        new: list[list[int]] = out[:, self._start(inputs) :].tolist()
        return new

    def _start(self, inputs: Any) -> int:
        """Where new tokens begin in what ``generate`` returns: after the prompt, or a decoder's first token."""
        return 1 if self.encodes_prompts else int(inputs["input_ids"].shape[1])
