"""What the reply to a request that tries something tells of the model's input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import RequestFailed


@dataclass(frozen=True)
class Seen:
    """What a reply tells of the model's input: the number of tokens, and log-probabilities of the first token."""

    tokens: int
    logprobs: Mapping[str, float]

    @staticmethod
    def of(reply: Any) -> Seen:
        """Raises ``RequestFailed`` if it is no reply of a chat endpoint."""
        try:
            tokens = reply["usage"]["prompt_tokens"]
            content = (reply["choices"][0].get("logprobs") or {}).get("content") or [{}]
            found = {str(top["token"]): float(top["logprob"]) for top in content[0].get("top_logprobs") or []}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise RequestFailed(f"its reply has no {error}") from error
        return Seen(tokens if type(tokens) is int else 0, found)

    def distance(self, other: Seen) -> float:
        """The largest difference of log-probabilities; infinite for other tokens, NaN if there are none."""
        if self.tokens != other.tokens:
            return math.inf
        if not self.logprobs or not other.logprobs:
            return math.nan
        if self.logprobs.keys().isdisjoint(other.logprobs):
            return math.inf
        return max(abs(self.logprobs[token] - other.logprobs[token]) for token in self.logprobs & other.logprobs.keys())
