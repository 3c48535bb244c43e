"""How backends work, and what they say of a checkpoint before anything is generated."""

from __future__ import annotations

from dataclasses import dataclass

from .answers import ImageSize
from .videos import VideoInput


@dataclass(frozen=True)
class Batching:
    """How a backend batches requests; answers do not depend on it.

    Attributes:
        size: number of requests per batch; None to choose by the device.
        tokens: number of prompt tokens per prefill batch; None to choose by the device.
        exact: reference mode: batch size 1, no prefix sharing, the model's own ``generate``.
    """

    size: int | None = None
    tokens: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster to use.

    Attributes:
        address: of the cluster; None for that of the environment, or else a local one.
        workers: number of workers; None for as many as fit.
        gpus_per_worker: None for 1 if the cluster has GPUs, else 0.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None


@dataclass(frozen=True)
class Preview:
    """The input of the model for a request: the text before tokenization, its length in tokens, the images' sizes.

    ``tokens`` is None if a server tokenizes the text.  ``image_sizes`` has those of videos' frames too, if the model is
    given them as images.
    """

    prompt: str
    tokens: int | None
    image_sizes: tuple[ImageSize, ...]
    video_inputs: tuple[VideoInput, ...] = ()


@dataclass(frozen=True)
class Check:
    """One check of a checkpoint.

    Attributes:
        ok: None where it was not checked, and ``finding`` says why.
        finding: what was found, in a line.
        details: what that line has no room for.
    """

    name: str
    ok: bool | None
    finding: str
    details: tuple[str, ...] = ()
