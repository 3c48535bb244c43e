"""In which order requests are sent: those that begin with the same images one after the other.

A server keeps the computed beginnings of recent prompts (its prefix cache), and as long as the questions of one image
come close together, the image is computed once for all of them.  To let the first of them be answered before the
others are sent was tried and is worse: more images are then under way at a time, and a small cache loses them
(``benchmarks/server.py``; vLLM finds what is computed in the same step, too).
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.types import Request


def together(requests: Sequence[Request]) -> list[Request]:
    """``requests`` with those of the same images next to each other, in the order in which images first occur."""
    groups: dict[tuple[str, ...], list[Request]] = {}
    for request in requests:
        groups.setdefault(tuple(image.name for image in request.images), []).append(request)
    return [request for group in groups.values() for request in group]
