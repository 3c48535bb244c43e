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
        if batch.limits is not None:
            return self.prefill(batch.sequences, batch.limits)
        return self.decode(running) if batch.launch else None

    def prefill(self, sequences: list[Sequence], limits: Limits) -> Prefilled:
        """Compute prompts, each shared prefix once, and sample the first tokens."""
        tensors, logits, positions = self._prefill(sequences, limits)
        return Prefilled(tensors, positions, self.sampler.sample(sequences, logits))

    def decode(self, running: DecodeBatch) -> SampledTokens:
        """Compute one more token of every running sequence."""
        running.cache.grow()
        ids = running.input_ids()
        assert running.cache.tensors is not None
        logits = self.steps(ids, running.positions, running.cache.tensors)
        sampled = self.sampler.sample(running.sequences, logits)
        running.advance(sampled)
        return sampled

    def logits(
        self, sequences: list[Sequence], next_tokens: list[int], limits: Limits
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each sequence's logits after its prompt, and those after one given token more."""
        tensors, first, positions = self._prefill(sequences, limits)
        ids, following = (torch.tensor(numbers, device=self.language.device) for numbers in (next_tokens, positions))
        second = self.language.decode(ids, following, tensors)
        return list(zip(first, second, strict=True))
