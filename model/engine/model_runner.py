"""Runs a batch on the model: prefill of waiting sequences, or a decode step of the running ones."""

from __future__ import annotations

import torch

from .batch import Batch, Prefilled
from .cuda_graphs import CudaGraphCapture, DecodeSteps
from .decode_batch import DecodeBatch
from .language_model import LanguageModel
from .options import EngineOptions, Limits
from .prefill import Prefill
from .sampler import SampledTokens, Sampler
from .sequence import Sequence


class ModelRunner:
    """Launches forward passes and the sampling of their tokens; waits for neither.

    Attributes:
        steps: runs decode steps, as CUDA graphs where possible.
    """

    def __init__(self, language: LanguageModel, options: EngineOptions) -> None:
        self.language = language
        self.sampler = Sampler()
        self._prefill = Prefill(language, token_budget=options.token_budget)
        graphs = options.cuda_graphs and language.device.type == "cuda"
        self.steps = DecodeSteps(language, CudaGraphCapture(language.device) if graphs else None)

    def run(self, batch: Batch, running: DecodeBatch) -> Prefilled | SampledTokens | None:
        """Run a batch; None if it launches nothing."""
        if batch.limits is not None and batch.prefixes_only:
            self._prefill.compute_prefixes(batch.sequences, batch.limits)
            return None
        if batch.limits is not None:
            spare = running.cache.spare_slots(max(sequence.max_new_tokens for sequence in batch.sequences))
            return self.prefill(batch.sequences, batch.limits, spare)
        return self.decode(running) if batch.launch else None

    def prefill(self, sequences: list[Sequence], limits: Limits, spare_slots: int) -> Prefilled:
        """Compute prompts, each shared prefix once, and sample the next tokens."""
        tensors, logits, positions = self._prefill(sequences, limits, spare_slots)
        return Prefilled(tensors, positions, self.sampler.sample(sequences, logits))

    def decode(self, running: DecodeBatch) -> SampledTokens:
        """Compute one more token of every running sequence."""
        running.cache.grow()
        ids = running.input_ids()
        if running.uses_pages:
            logits = self.language.decode_paged(ids, running.positions, running.paged)
        else:
            assert running.contiguous.tensors is not None
            logits = self.steps(ids, running.positions, running.contiguous.tensors)
        sampled = self.sampler.sample(running.sequences, logits)
        running.advance(sampled)
        return sampled

    def logits(
        self, sequences: list[Sequence], next_tokens: list[int], limits: Limits, *, paged: bool
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each sequence's logits after its prompt, and those after one given token more."""
        tensors, first, positions = self._prefill(sequences, limits, spare_slots=1)
        ids, following = (torch.tensor(numbers, device=self.language.device) for numbers in (next_tokens, positions))
        if paged:
            cache = self.language.paged_cache()
            cache.set_capacity(len(sequences), 4 * tensors.store.nbytes + len(sequences) * 4 * cache.page_bytes)
            cache.append(tensors, [sequence.prefixes for sequence in sequences])
            cache.grow()
            second = self.language.decode_paged(ids, following, cache)
        else:
            second = self.language.decode(ids, following, tensors)
        return list(zip(first, second, strict=True))
