"""The ``server`` backend: a model behind any OpenAI-compatible chat endpoint (``server/backend.py``)."""

from __future__ import annotations

from evalkit.model.server.backend import ServerBackend, ServerBackendFactory

__all__ = ["BACKEND", "ServerBackend"]

BACKEND = ServerBackendFactory()
