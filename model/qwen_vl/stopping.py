"""Stop sequences of the original ``chat`` method (``<|im_end|>`` and ``<|im_start|>``)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

FORCED = 32768.0  # the end token's score once a row has stopped


class StopSequences(LogitsProcessor):
    """Forces the end token after a stop sequence, in the prompt or in the answer.

    The output contains the stop sequence, followed by the end token.

    Args:
        sequences: the tokens of each stop sequence; the end token alone is ignored.
        eos_token_id: the end token.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], eos_token_id: int) -> None:
        self.sequences = [list(sequence) for sequence in sequences if list(sequence) != [eos_token_id]]
        if not all(self.sequences):
            raise ValueError("a stop sequence has no tokens.")
        self.eos_token_id = eos_token_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (batch, length) and ``scores`` (batch, vocabulary); returns the scores."""
        stopped = torch.zeros(len(input_ids), dtype=torch.bool, device=scores.device)
        for sequence in self.sequences:
            if len(sequence) <= input_ids.shape[1]:
                tail = input_ids[:, -len(sequence) :]
                stopped |= (tail == torch.tensor(sequence, device=tail.device)).all(-1).to(scores.device)
        scores = scores.clone()
        scores[stopped, self.eos_token_id] = FORCED
        return scores
