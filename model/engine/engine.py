"""The engine: schedules sequences, runs the model, and yields finished sequences in any order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from threading import Event

import torch

from evalkit.model.hf.memory import is_out_of_memory

from .batch import Batch
from .decode_batch import DecodeBatch
from .encoder_cache import EncoderCache
from .image_table import Placeholders
from .kv_cache import ContiguousKVCache
from .language_model import LanguageModel
from .model_runner import ModelRunner
from .options import EngineOptions, Limits
from .patches.attention import no_cudnn_attention
from .scheduler import Scheduler
from .sequence import Sequence
from .vision import ImageProcessor


class Engine:
    """Answers sequences with a language model and its vision encoder.

    Args:
        placeholders: the tokens that stand for an image and for a frame group in prompts.
        prefetch_workers: threads that read images ahead, of ``prefetch_pixels`` at most.

    Attributes:
        supports_several_images: whether it answers sequences with more than one image.
        supports_videos: whether it answers sequences with videos.
        resources: closed by ``close``: the model's patches.
    """

    def __init__(
        self,
        language: LanguageModel,
        processor: ImageProcessor,
        encoder_cache: EncoderCache,
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
        self.options = options
        self.supports_several_images = True
        self.supports_videos = True
        self.resources = ExitStack()
        self.runner = ModelRunner(language, options)
        steps = self.runner.steps
        contiguous = ContiguousKVCache(
            language.allocate,
            language.shape.bytes(language.dtype),
            keeps_address=lambda: steps.capture is not None,
            on_free=steps.forget,
        )
        self.scheduler = Scheduler(
            language,
            processor,
            encoder_cache,
            DecodeBatch(contiguous, language.paged_cache(), language.device),
            placeholders=placeholders,
            limits=limits,
            options=options,
            prefetch_workers=prefetch_workers,
            prefetch_pixels=prefetch_pixels,
        )

    @property
    def limits(self) -> Limits:
        """The limits of batches, which are halved when memory runs out."""
        return self.scheduler.limits

    def generate(
        self, sequences: list[Sequence], stop: Event | None = None, more: Callable[[], list[Sequence]] = list
    ) -> Iterator[Sequence]:
        """Yield every sequence of a window when it has finished.

        Args:
            stop: once set, no sequence is started; those that are running are finished.
            more: called for the next window while the last sequences of one are decoded; may return an empty one.
        """
        run = self.scheduler.start(sequences)
        try:
            while (batch := self.scheduler.schedule(stop, more)) is not None:
                yield from batch.failed
                yield from self._run(batch)
        finally:
            self.scheduler.finish(run)

    def _run(self, batch: Batch) -> list[Sequence]:
        """Run a batch, or put it back if memory runs out.  Returns the sequences that have finished."""
        if not batch.sequences:
            return []
        try:
            return self._launch(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = (str(error).strip().splitlines() or ["out of memory"])[0]
        # Not within the except block: the error's traceback refers to tensors that must be freed first.
        return self.scheduler.preempt(batch, message)

    def _launch(self, batch: Batch) -> list[Sequence]:
        started = time.perf_counter()
        with self._attention_kernels():
            finished = self.scheduler.postprocess(batch, self.runner.run(batch, self.scheduler.running))
        batch.add_seconds(time.perf_counter() - started)
        return finished

    def _attention_kernels(self) -> AbstractContextManager[None]:
        return no_cudnn_attention(self.language.device) if self.options.fused_kernels else nullcontext()

    def logits(
        self, sequences: list[Sequence], next_tokens: list[int], *, paged: bool = False
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each sequence's logits after its prompt and after one given token more, to compare with the model's.

        All that the sequences have in common is shared, however short it is.

        Args:
            paged: use the paged cache.

        Raises:
            OSError, ValueError: an image cannot be read.
        """
        ordered = self.scheduler.place(sequences, least=1)
        for sequence in ordered:
            self.scheduler.load_images(sequence)
        order = [sequences.index(sequence) for sequence in ordered]
        with self._attention_kernels():
            found = self.runner.logits(ordered, [next_tokens[at] for at in order], self.limits, paged=paged)
        by_index = dict(zip(order, found, strict=True))
        return [by_index[at] for at in range(len(sequences))]

    def free_memory(self) -> None:
        """Free the KV cache, for whatever uses the device next."""
        self.scheduler.clear(free_memory=True)

    def close(self) -> None:
        """Restore the model's own modules."""
        self.resources.close()
