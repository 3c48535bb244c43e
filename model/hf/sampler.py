"""Tokens drawn at random, each request from a stream of its own: the same whatever its neighbours in the batch."""

from __future__ import annotations

import hashlib

import torch

from evalkit.types import Decoding


class Draws:
    """Draws a request's tokens.

    Args:
        decoding: its temperature, ``top_p``, ``top_k`` and seed.
        request: the request's id.
    """

    def __init__(self, decoding: Decoding, request: str) -> None:
        self.decoding = decoding
        named = hashlib.blake2b(f"{decoding.seed}/{request}".encode(errors="surrogatepass"), digest_size=8).digest()
        self.seed = int.from_bytes(named, "big") >> 1
        self.stream = torch.Generator().manual_seed(self.seed)

    def restart(self) -> None:
        """Begin the stream again."""
        self.stream.manual_seed(self.seed)

    def token(self, logits: torch.Tensor) -> int:
        """The next token, for (vocabulary,) logits; the highest where they are no numbers."""
        how = self.decoding
        likely, tokens = (logits.float().cpu() / how.temperature).sort(descending=True, stable=True)
        if how.top_k:
            likely, tokens = likely[: how.top_k], tokens[: how.top_k]
        chances = likely.softmax(-1)
        if how.top_p < 1:
            kept = chances.cumsum(-1) - chances < how.top_p  # the first always is
            chances = chances * kept
        if not chances.isfinite().all():
            return int(tokens[0])
        return int(tokens[torch.multinomial(chances, 1, generator=self.stream)])
