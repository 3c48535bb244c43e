"""The next tokens: computed on the device, copied to the CPU in the background, read when they are needed."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .sequence import Sequence, Status
from .transfer import to_device


class Sampler:
    """Computes the next token of each sequence from logits."""

    def sample(self, sequences: Iterable[Sequence], logits: torch.Tensor) -> SampledTokens:
        """Choose the most likely tokens, and start copying them to the CPU.

        Args:
            logits: (sequences, vocabulary), float32; may be overwritten later if all sequences are greedy.
        """
        sequences = list(sequences)
        broken = logits.isnan().any(-1)
        forbidden = [
            (row, token)
            for row, sequence in enumerate(sequences)
            if sequence.branch is None and sequence.launched < sequence.min_new_tokens
            for token in sequence.stop_tokens
        ]
        if forbidden:
            rows, tokens = to_device(torch.tensor(forbidden), logits.device).unbind(1)
            logits.index_put_((rows, tokens), logits.new_full((), -torch.inf))
        most_likely = logits.argmax(-1)
        for sequence in sequences:
            sequence.launched += 1
        return SampledTokens(sequences, logits, most_likely, broken)


class SampledTokens:
    """The next tokens of some sequences, on the device until ``fetch``.

    Attributes:
        sequences: one per row.
        most_likely: (sequences,), on the device.
    """

    def __init__(
        self, sequences: list[Sequence], logits: torch.Tensor, most_likely: torch.Tensor, broken: torch.Tensor
    ) -> None:
        self.sequences = sequences
        self.most_likely = most_likely
        self._logits = None if all(sequence.is_greedy for sequence in sequences) else logits
        stacked = torch.stack([most_likely, broken.long()])
        self._copied = None
        if logits.device.type == "cuda":
            self._on_cpu = stacked.to("cpu", non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(logits.device))
        else:
            self._on_cpu = stacked.cpu()

    def fetch(self) -> list[Sequence]:
        """Append each sequence's token, unless it has finished meanwhile.  Returns those that finish with it."""
        if self._copied is not None:
            self._copied.synchronize()
        most_likely, broken = self._on_cpu.tolist()
        unfinished = [(row, sequence) for row, sequence in enumerate(self.sequences) if not sequence.finished]
        if self._logits is not None:
            _add_losses(unfinished, self._logits)
        for row, sequence in unfinished:
            sequence.broken |= bool(broken[row])
            if sequence.branch is not None:
                _append_forced(sequence, most_likely[row])
            elif sequence.sampler is not None and self._logits is not None:
                _append(sequence, sequence.sampler.sample(self._logits[row], sequence.tokens))
            else:
                _append(sequence, most_likely[row])
        return [sequence for _, sequence in unfinished if sequence.finished]


def _append(sequence: Sequence, token: int) -> None:
    sequence.tokens.append(token)
    ends = token in sequence.stop_tokens or len(sequence.tokens) >= sequence.max_new_tokens or sequence.broken
    if ends or (sequence.hits_stop_string is not None and sequence.hits_stop_string(sequence.tokens)):
        sequence.status = Status.FINISHED


def _append_forced(sequence: Sequence, most_likely: int) -> None:
    """Append the branch's next token; after its last one, the most likely token finishes the sequence."""
    assert sequence.branch is not None
    forced, step = sequence.branch.forced, len(sequence.tokens)
    if step >= len(forced) or sequence.broken:
        sequence.status = Status.FINISHED
    sequence.tokens.append(most_likely if sequence.finished else forced[step])


def _add_losses(rows: list[tuple[int, Sequence]], logits: torch.Tensor) -> None:
    """Add the cross-entropies of the options' tokens at this step, for (row of the logits, sequence)."""
    scored = [
        (row, sequence, option, tokens[len(sequence.tokens)])
        for row, sequence in rows
        if sequence.branch is not None
        for option, (_, tokens) in enumerate(sequence.branch.options)
        if len(sequence.tokens) < len(tokens)
    ]
    if not scored:
        return
    needed = sorted({row for row, *_ in scored})
    index = {row: at for at, row in enumerate(needed)}
    losses = -logits[needed].log_softmax(-1)
    found = losses[[index[row] for row, *_ in scored], [token for *_, token in scored]].tolist()
    for (_, sequence, option, _), loss in zip(scored, found, strict=True):
        assert sequence.branch is not None
        if not sequence.loss_sums:
            sequence.loss_sums = [0.0] * len(sequence.branch.options)
        sequence.loss_sums[option] += loss
