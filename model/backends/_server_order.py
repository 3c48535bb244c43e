"""In which order requests are sent: those of one picture close together, and the first of them ahead of the others.

A server keeps the computed beginnings of recent prompts (its prefix cache).  The first question about a picture has it
computed; the others are sent once that is answered, when they find it.  Meanwhile it is other pictures' turn: only
where there is nothing else to do does a question go out before the first one's answer is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from evalkit.types import Request

Key = tuple[str, ...]


class Order:
    """Hands out requests.

    Args:
        ahead: the first question about a picture goes ahead of the others; else they only stand together.
    """

    def __init__(self, requests: Sequence[Request], *, ahead: bool = True) -> None:
        self._ahead = ahead
        groups: dict[Key, deque[Request]] = {}
        for request in requests:
            groups.setdefault(_key(request), deque()).append(request)
        self._new = deque(groups.items())  # pictures of which nothing has been asked
        self._waiting: dict[Key, deque[Request]] = {}  # the first question is under way
        self._ready: deque[Request] = deque()

    def __bool__(self) -> bool:
        return bool(self._new or self._waiting or self._ready)

    def next(self) -> Request:
        """The request to send now.  Raises ``IndexError`` when there is none left."""
        if self._ready:
            return self._ready.popleft()
        if self._new:
            key, group = self._new.popleft()
            first = group.popleft()
            if group and self._ahead:
                self._waiting[key] = group
            else:
                self._ready += group
            return first
        if not self._waiting:
            raise IndexError("nothing is left")
        key = next(iter(self._waiting))
        group = self._waiting[key]
        request = group.popleft()
        if not group:
            del self._waiting[key]
        return request

    def answered(self, request: Request) -> None:
        """A request was answered: others of the same picture are next."""
        group = self._waiting.pop(_key(request), None)
        if group is not None:
            self._ready += group


def _key(request: Request) -> Key:
    return tuple(image.name for image in request.images)
