"""The scheduler: which sequences are prefilled or decoded next, and how its results are applied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Event

import torch

from .admission import Admission
from .batch import Batch, Prefilled
from .decode_batch import DecodeBatch
from .encoder_cache import EncoderCache
from .image_prefetcher import ImagePrefetcher
from .image_table import ImageTable, Placeholders
from .language_model import LanguageModel
from .options import EngineOptions, Limits
from .placement import cut_long_prompts, place
from .prefix_tree import MIN_PREFIX_TOKENS
from .sampler import SampledTokens
from .sequence import Sequence
from .vision import ImageProcessor

log = logging.getLogger(__name__)

FIRST_BATCH_DIVISOR = 4  # on a GPU, which would otherwise wait for the images of a complete batch


class Scheduler:
    """Holds the waiting and the running sequences.

    Waiting sequences come in windows.  Those of a window are in the order of its prefix tree, longest first, so that
    running out of memory shows early.  Small prefill batches join the running sequences as others finish.  The last
    sequences of a window are decoded together with the first ones of the next.

    Args:
        placeholders: the tokens that stand for an image and for a frame group in prompts.
        prefetch_workers: threads that read images ahead, of ``prefetch_pixels`` at most.

    Attributes:
        limits: of batches; halved after running out of memory.
        waiting: the sequences to prefill, the next one at the end.
        running: the sequences being decoded.
        admission: chooses sequences for prefills.
        supports_pages: whether the paged cache may be used.
        async_scheduling: whether a decode step is launched before the previous step's tokens are read.
    """

    def __init__(
        self,
        language: LanguageModel,
        processor: ImageProcessor,
        encoder_cache: EncoderCache,
        running: DecodeBatch,
        *,
        placeholders: Placeholders,
        limits: Limits,
        options: EngineOptions,
        prefetch_workers: int,
        prefetch_pixels: int,
    ) -> None:
        self.language = language
        self.processor = processor
        self.encoder_cache = encoder_cache
        self.running = running
        self.placeholders = placeholders
        self.limits = limits
        self.options = options
        self.prefetch_workers = prefetch_workers if options.image_prefetch else 0
        self.prefetch_pixels = prefetch_pixels
        self.async_scheduling = options.async_scheduling and language.device.type == "cuda"
        self.waiting: list[Sequence] = []
        self._prefetcher: ImagePrefetcher | None = None
        self._first_limits: Limits | None = None
        self._partial: list[Sequence] = []  # admitted; their prefixes are computed between decode steps
        self._decode_next = False
        self._run = 0
        self._long = False
        self.supports_pages = options.paged_cache and options.continuous_batching
        self.admission = Admission(language, running, options, self.load_images)

    # ---------------------------------------------------------------------------------------------- adding sequences

    def start(self, sequences: list[Sequence]) -> int:
        """Start a run with a first window; a run that was abandoned is cleared.  Returns the run's number."""
        self.clear()
        self._run += 1
        self._first_limits = self.limits.divided_by(FIRST_BATCH_DIVISOR) if self._on_cuda else None
        self.add(sequences)
        return self._run

    def finish(self, run: int) -> None:
        """End a run, unless another one has been started since."""
        if run == self._run:
            self.clear()

    def add(self, sequences: list[Sequence]) -> None:
        """Add a window of sequences, and start prefetching its images."""
        self._close_prefetcher()
        ordered = self.place(sequences)
        self._prefetcher = ImagePrefetcher(
            [medium for sequence in ordered for medium in sequence.media],
            self.processor,
            workers=self.prefetch_workers,
            max_pixels=self.prefetch_pixels,
        )
        for sequence in ordered:
            sequence.image_table.prefetcher = self._prefetcher
        self.waiting = ordered[::-1]
        self._long = self.supports_pages and self.admission.wants_pages(self.waiting, self.limits)
        if self._long or any(sequence.videos for sequence in ordered):
            most = self.admission.chunk if self._long else self.admission.part_tokens(self.waiting, self.limits)
            cut_long_prompts(self.waiting, most)

    def place(self, sequences: Iterable[Sequence], least: int = MIN_PREFIX_TOKENS) -> list[Sequence]:
        """Build the window's prefix tree, and return its sequences in the order in which to prefill them.

        Args:
            least: the least number of tokens of a shared prefix.
        """
        table = ImageTable(self.placeholders, self.processor, self.encoder_cache)
        return place(sequences, table, self.language.rope_factor, share=self.options.prefix_sharing, least=least)

    def clear(self, *, free_memory: bool = False) -> list[Sequence]:
        """Remove all sequences.  Returns those that were running and have not finished."""
        self._close_prefetcher()
        self.waiting, self._partial = [], []
        return self.running.clear(free_memory=free_memory)

    def _close_prefetcher(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    # ------------------------------------------------------------------------------------------------ before a batch

    def schedule(self, stop: Event | None, more: Callable[[], list[Sequence]]) -> Batch | None:
        """Choose the next batch; None when all is done.

        Args:
            stop: once set, no sequence is started; those that are running are finished.
            more: returns the next window when all sequences of this one are running; empty if there is none yet.
        """
        stopped = stop is not None and stop.is_set()
        if stopped:
            self._put_back(self._partial)
            self.waiting = [sequence for sequence in self.waiting if sequence.tokens]  # they were running
        if not self.running and not self.waiting and not self._partial:
            return None
        if not self.waiting and not self._partial and not stopped and (window := more()):
            self.add(window)
        if (batch := self._next_prefill()) is not None:
            return batch
        launch = self._can_launch()
        failed: list[Sequence] = []
        if launch and self.running.uses_pages and self.admission.is_short():
            if self.running.pending:  # those that finish with these tokens may leave enough
                launch = False
            else:
                failed = self.admission.make_room(self.waiting)
        sequences = [sequence for sequence in self.running.sequences if not sequence.finished]
        return Batch(sequences, failed=failed, launch=launch and bool(sequences))

    def _next_prefill(self) -> Batch | None:
        """A prefill, or a part of one beside running sequences of the paged cache; None for a decode step."""
        if not self._partial:
            if not self.waiting or not self.admission.has_room(self.limits, paged=self._long):
                return None
            batch = self._prefill_batch()
            if not self.running or not self.admission.needs_parts(batch.sequences):
                return batch if batch.sequences or batch.failed else None
            self._partial, self._decode_next = batch.sequences, False
            if batch.failed:
                return replace(batch, sequences=[])
        if self.running and self._decode_next:
            self._decode_next = False
            return None
        sequences, limits = self._partial, replace(self.limits, tokens=self.admission.chunk)
        if self.running and any(sequence.missing_prefixes for sequence in sequences):
            self._decode_next = True
            return Batch(sequences, limits=limits, prefixes_only=True)
        if self.running and not self.admission.fits(sequences):
            self._put_back(sequences)
            return None
        self._partial = []
        return Batch(sequences, limits=self.limits)

    def _put_back(self, sequences: list[Sequence]) -> None:
        self.waiting.extend(reversed(sequences))
        self._partial = []

    def _prefill_batch(self) -> Batch:
        limits, self._first_limits = self._first_limits or self.limits, None
        batch = Batch([], limits=limits)
        if not self.running:
            self.running.use_pages(self._long)
            self.running.cache.set_capacity(self.limits.rows, self.limits.bytes // (1 if self._long else 2))
        self.admission.fill(batch, self.waiting, limits)
        return batch

    def load_images(self, sequence: Sequence) -> None:
        """Load a sequence's images; those within prefixes that are computed already without their pixels.

        Raises:
            OSError, ValueError: an image cannot be read.
        """
        computed = max((node.end for node in sequence.prefixes if node.prefix is not None), default=0)
        sequence.image_table.load(sequence.elements, sequence.elements[computed:])

    def _can_launch(self) -> bool:
        """Whether another decode step is needed and its input tokens are known."""
        known = self._can_defer(self.running.sequences) or not self.running.pending
        return known and not all(sequence.fully_launched for sequence in self.running.sequences)

    def _can_defer(self, sequences: list[Sequence]) -> bool:
        """Whether the tokens of these sequences may be read after the next step is launched."""
        return self.async_scheduling and all(sequence.is_greedy for sequence in sequences)

    # ------------------------------------------------------------------------------------------------- after a batch

    def postprocess(self, batch: Batch, result: Prefilled | SampledTokens | None) -> list[Sequence]:
        """Take over a batch's results.  Returns the sequences that have finished."""
        if batch.prefixes_only:
            return []
        if isinstance(result, Prefilled):
            finished = self._start_decoding(batch.sequences, result)
        else:
            finished = self._read_tokens(launched=result is not None)
        for sequence in finished:
            sequence.processed_images = sequence.image_table.images_in(sequence.elements)
        return finished

    def _start_decoding(self, sequences: list[Sequence], prefilled: Prefilled) -> list[Sequence]:
        sampled = prefilled.sampled
        deferred = self._can_defer(sequences) and not all(sequence.fully_launched for sequence in sequences)
        finished = [] if deferred else sampled.fetch()
        self.running.append(sequences, prefilled.tensors, prefilled.positions, sampled)
        if deferred:  # last: if memory runs out before, none of their tokens is left behind
            self.running.pending.append(sampled)
        for sequence in sequences:
            self._check_prompt(sequence)
            sequence.image_table.release(sequence.elements)
            sequence.release_prefixes()
        return finished

    def _check_prompt(self, sequence: Sequence) -> None:
        sequence.prompt_tokens = sequence.image_table.tokens(sequence.elements)
        if self.language.rope_factor(sequence.prompt_tokens) != sequence.rope_factor:
            raise RuntimeError(
                f"the prompt was planned with {sequence.estimated_tokens} tokens but has {sequence.prompt_tokens}, so "
                "its keys were rotated with the wrong factor; use --exact to answer without the engine"
            )

    def _read_tokens(self, *, launched: bool) -> list[Sequence]:
        """Read the tokens of launched steps: of all but the one just launched, if that can wait."""
        steps = len(self.running.pending)
        if launched and self._can_defer(self.running.sequences):
            steps -= 1
        finished = self.running.fetch(steps)
        if self.options.continuous_batching or all(sequence.finished for sequence in self.running.sequences):
            self.running.evict_finished()
        return finished

    def preempt(self, batch: Batch, message: str) -> list[Sequence]:
        """Put a batch that ran out of memory back, to be run in halves.  Returns a sequence that does not fit alone."""
        decoding = batch.limits is None
        sequences = self.running.clear(free_memory=True) if decoding else batch.sequences
        if not self.running:
            self.running.clear(free_memory=True)
        if self._on_cuda:
            torch.cuda.empty_cache()
        self.encoder_cache.clear()
        if not decoding:
            self._partial = []
        else:
            for sequence in sequences:
                sequence.wait_again()
        if len(sequences) == 1 and (decoding or not self.running):
            sequences[0].fail(MemoryError(message))
            sequences[0].release_prefixes()
            return sequences
        if not decoding:
            for sequence in sequences:
                sequence.restart()
        self.waiting.extend(reversed(sequences))
        if len(sequences) == 1:  # it waits until the others have finished
            self.limits = replace(self.limits, rows=len(self.running))
        else:
            self._halve_limits(len(sequences))
        return []

    def _halve_limits(self, rows: int) -> None:
        half = (rows + 1) // 2
        log.warning("out of memory with a batch of %d; continuing with batches of %d", rows, half)
        self.limits = Limits(min(half, self.limits.rows), max(1, self.limits.tokens // 2), self.limits.bytes // 2)

    @property
    def _on_cuda(self) -> bool:
        return self.language.device.type == "cuda"
