"""How large the engine's batches are, and what of it is switched on."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Options:
    """Which parts of the engine work: all, unless somebody measures one.  Answers do not depend on them.

    Attributes:
        share: a prefix that several requests begin with is computed once, and an image is encoded once.
        pack: batches are cut by tokens against the memory at hand; else a fixed number of rows.
        leave: rows that are done leave the batch and waiting ones come in; else a batch waits for its slowest row.
        windows: the vision encoder's windows go through few attention calls, and its patches through a matrix product;
            else as transformers does it, one by one, and through a convolution.
        kernels: on CUDA, norms go through one kernel each, MLPs of an awkward width through kernels for a better one
            (both in half precision), and attention is not planned anew for every shape; else as transformers does it.
        overlap: on CUDA, a decode step is launched before the tokens of the one before are read; else after.
        record: on CUDA, decode steps are recorded and replayed as graphs; else launched kernel by kernel.
        feed: images are read, decoded and resized ahead in threads; else when their batch comes.
    """

    share: bool = True
    pack: bool = True
    leave: bool = True
    windows: bool = True
    kernels: bool = True
    overlap: bool = True
    record: bool = True
    feed: bool = True


@dataclass(frozen=True)
class Limits:
    """How large batches may be.

    Attributes:
        rows: decoded together.
        tokens: prefilled together (text and images), padding counted.
        bytes: of keys and values held at one time.
    """

    rows: int
    tokens: int
    bytes: int

    def part(self, parts: int) -> Limits:
        """For a batch that is smaller by so many times."""
        return replace(self, rows=max(1, self.rows // parts), tokens=max(1, self.tokens // parts))
