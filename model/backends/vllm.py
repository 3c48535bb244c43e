"""The ``vllm`` backend: vLLM as servers on this machine, which evalkit starts and stops (``launch/backend.py``)."""

from __future__ import annotations

from evalkit.model.launch.backend import LaunchedBackendFactory
from evalkit.model.launch.engines import VLLM

__all__ = ["BACKEND"]

BACKEND = LaunchedBackendFactory(VLLM())
