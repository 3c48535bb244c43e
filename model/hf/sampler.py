"""The next token of a request: drawn at random, or the most likely one after penalties.

Each request has its own random stream and counts its own tokens, so its answer does not depend on its batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch

from evalkit.types import Decoding


def needs_sampler(decoding: Decoding) -> bool:
    """Whether the next token is not simply the one with the highest logit."""
    return decoding.temperature > 0 or decoding.has_penalties


class TokenSampler:
    """Chooses the tokens of one request.

    Args:
        decoding: its ``temperature`` (0: the most likely token), ``top_p``, ``top_k``, ``seed`` and penalties.
        request_id: the request's id; the random stream is seeded from it and ``decoding.seed``.
        prompt: the prompt's tokens, which ``repetition_penalty`` counts.
    """

    def __init__(self, decoding: Decoding, request_id: str, prompt: Iterable[int] = ()) -> None:
        self.decoding = decoding
        key = f"{decoding.seed}/{request_id}".encode(errors="surrogatepass")
        self.seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
        self.generator = torch.Generator().manual_seed(self.seed)
        self._prompt = sorted(set(prompt)) if decoding.repetition_penalty != 1 else []
        self._seen: torch.Tensor | None = None  # which tokens the answer has
        self._counted = 0

    def restart(self) -> None:
        """Reset the random stream to its start, and forget the answer."""
        self.generator.manual_seed(self.seed)
        self._seen, self._counted = None, 0

    def sample(self, logits: torch.Tensor, answer: Sequence[int]) -> int:
        """The next token; the most likely one if logits are not finite.

        Args:
            logits: (vocabulary,).
            answer: the tokens generated so far: those of the last call, and others after them.
        """
        decoding = self.decoding
        scores = logits.float().cpu()
        if decoding.has_penalties:
            scores = self._penalized(scores, answer)
        if decoding.temperature == 0:
            return int(scores.argmax())
        scores, tokens = (scores / decoding.temperature).sort(descending=True, stable=True)
        if decoding.top_k:
            scores, tokens = scores[: decoding.top_k], tokens[: decoding.top_k]
        probabilities = scores.softmax(-1)
        if decoding.top_p < 1:
            kept = probabilities.cumsum(-1) - probabilities < decoding.top_p  # always keeps the first
            probabilities = probabilities * kept
        if not probabilities.isfinite().all():
            return int(tokens[0])
        return int(tokens[torch.multinomial(probabilities, 1, generator=self.generator)])

    def _penalized(self, scores: torch.Tensor, answer: Sequence[int]) -> torch.Tensor:
        """The logits after both penalties; the repetition penalty comes first, as in vLLM."""
        if self._seen is None:
            self._seen = torch.zeros(len(scores), dtype=torch.bool)
        self._seen[list(answer[self._counted :])] = True
        self._counted = len(answer)
        penalty = self.decoding.repetition_penalty
        if penalty != 1:
            repeated = self._seen.clone()
            repeated[self._prompt] = True
            scores = torch.where(repeated, torch.where(scores > 0, scores / penalty, scores * penalty), scores)
        return scores - self.decoding.presence_penalty * self._seen
