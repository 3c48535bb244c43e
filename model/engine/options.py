"""The engine's options and batch limits."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class EngineOptions:
    """The engine's optimizations, each of which can be switched off to measure it.  Only near-ties depend on them.

    Attributes:
        prefix_sharing: compute a prefix that several requests share once.
        token_budget: limit prefill batches by their tokens and the free memory, not by a number of rows.
        continuous_batching: evict finished sequences and admit waiting ones; otherwise a batch runs until its slowest
            sequence has finished.
        paged_cache: keep the keys and values of long answers in pages; requires ``continuous_batching``.
        packed_vision_attention: run the vision encoder's attention on few batches of equal segments, and its patch
            embedding as a matrix product; otherwise as transformers does, segment by segment and as a convolution.
        packed_weights: on a CPU in float32, keep the weights of linear layers in the layout of oneDNN's products.
            Until the engine is closed, they cannot be read from the model.  So also where the engine does not support
            a model, which then runs through its own ``generate``.
        encoder_sharing: where a model runs through its own ``generate``, encode an image once for its questions in a
            batch.
        fused_kernels: on CUDA, use one kernel per norm and pad MLPs to widths with fast kernels (both in half
            precision only), and avoid cuDNN attention, which is planned again for each shape.
        async_scheduling: on CUDA, launch a decode step before the previous step's tokens are read.
        cuda_graphs: on CUDA, record decode steps and replay them as graphs.
        image_prefetch: read, decode and resize images ahead in threads.
    """

    prefix_sharing: bool = True
    token_budget: bool = True
    continuous_batching: bool = True
    paged_cache: bool = True
    packed_vision_attention: bool = True
    packed_weights: bool = True
    encoder_sharing: bool = True
    fused_kernels: bool = True
    async_scheduling: bool = True
    cuda_graphs: bool = True
    image_prefetch: bool = True


@dataclass(frozen=True)
class Limits:
    """Upper limits of a batch.

    Attributes:
        rows: sequences decoded together.
        tokens: tokens prefilled together (text and image tokens, including padding).
        bytes: size of the KV cache.
    """

    rows: int
    tokens: int
    bytes: int

    def divided_by(self, divisor: int) -> Limits:
        """The limits for a batch that is smaller by this factor."""
        return replace(self, rows=max(1, self.rows // divisor), tokens=max(1, self.tokens // divisor))
