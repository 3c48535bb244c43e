"""Random sampling of tokens.  Each request has its own random stream, so its tokens do not depend on its batch."""

from __future__ import annotations

import hashlib

import torch

from evalkit.types import Decoding


class RandomSampler:
    """Samples the tokens of one request.

    Args:
        decoding: its ``temperature``, ``top_p``, ``top_k`` and ``seed``.
        request_id: the request's id; the random stream is seeded from it and ``decoding.seed``.
    """

    def __init__(self, decoding: Decoding, request_id: str) -> None:
        self.decoding = decoding
        key = f"{decoding.seed}/{request_id}".encode(errors="surrogatepass")
        self.seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
        self.generator = torch.Generator().manual_seed(self.seed)

    def restart(self) -> None:
        """Reset the random stream to its start."""
        self.generator.manual_seed(self.seed)

    def sample(self, logits: torch.Tensor) -> int:
        """Return the next token for logits of shape (vocabulary,); the most likely one if they are not finite."""
        decoding = self.decoding
        scores, tokens = (logits.float().cpu() / decoding.temperature).sort(descending=True, stable=True)
        if decoding.top_k:
            scores, tokens = scores[: decoding.top_k], tokens[: decoding.top_k]
        probabilities = scores.softmax(-1)
        if decoding.top_p < 1:
            kept = probabilities.cumsum(-1) - probabilities < decoding.top_p  # always keeps the first
            probabilities = probabilities * kept
        if not probabilities.isfinite().all():
            return int(tokens[0])
        return int(tokens[torch.multinomial(probabilities, 1, generator=self.generator)])
