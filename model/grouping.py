"""Group requests by the images and videos they contain.

Requests about the same images share most of their prompt: workers keep a group together, the planner puts it into one
window, and the server backend sends it in a row, so that the server's prefix cache still holds the image when the next
question arrives.  Sending the first request of a group and waiting for its answer before sending the others was tried
and is slower: more images are then in flight, and a small cache evicts them (``benchmarks/server.py``; vLLM also shares
what is computed within one step).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from evalkit.types import Request


def group_by_images(requests: Iterable[Request]) -> list[list[Request]]:
    """Groups of requests with the same images and videos, in the order of their first requests."""
    groups: dict[tuple[str, ...], list[Request]] = {}
    for request in requests:
        names = tuple(medium.name for medium in (*request.videos, *request.images))
        groups.setdefault(names, []).append(request)
    return list(groups.values())


def order_by_images(requests: Sequence[Request]) -> list[Request]:
    """The requests, with those about the same images next to each other."""
    return list(chain.from_iterable(group_by_images(requests)))
