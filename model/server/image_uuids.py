"""Images that a server is sent once, and told by their uuids from then on.

vLLM (0.11 and later) takes a ``uuid`` beside an image's data, and the uuid alone (``"image_url": null``) while the
cache of its processor has the image.  Afterwards it rejects the request (400, "Cache miss for image at index 0 but data
is not provided"), which is then sent again with the data.  What a server does is tried first (``uuid_probe.py``).

vLLM takes a uuid for the content: if two images had the same, one would be answered about for the other.  Here it is a
digest of all bytes that are sent, with a secret of this process as its key, so that nobody else who uses the server can
give it another image under the same uuid, and nothing that it was sent before is mistaken for one of these images.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import Any

from evalkit.types import ImageRef

from .images import ImageCache

log = logging.getLogger(__name__)

MAX_KNOWN = 2**14
"""The most images of a server that are remembered, by their uuids."""
WINDOW = 50
"""Requests without data after which it is judged whether the server still has enough of their images."""
MAX_DROPPED = 10
"""Of these, how many may have to be sent again."""


class Uuids:
    """How the images of one request's body are sent.

    Args:
        known: the uuids of images that the server has.
        forgotten: how often it had lost all images before.

    Attributes:
        sent: uuids beside the data.
        alone: uuids without the data.
    """

    def __init__(self, images: ImageCache, known: Container[str], forgotten: int) -> None:
        self._images = images
        self._known = known
        self.forgotten = forgotten
        self.sent: list[str] = []
        self.alone: list[str] = []

    def of(self, image: ImageRef) -> tuple[str, bool]:
        """The uuid of an image of the request, and whether it is sent without the data.  Raises as ``encode`` does."""
        uuid = self._images.uuid(image)
        alone = uuid in self._known
        (self.alone if alone else self.sent).append(uuid)
        return uuid, alone


class ServerImages:
    """The images that one server has.

    Attributes:
        problem: why images are sent with each request; empty if they are not, None before the server was tried.
        told: how many requests had at least one image by its uuid alone.
        dropped: how many of them were sent again with all data, and then answered.
    """

    def __init__(self, images: ImageCache) -> None:
        self._images = images
        self.problem: str | None = None
        self.told = self.dropped = 0
        self._known: OrderedDict[str, None] = OrderedDict()
        self._forgotten = 0
        self._restarts: int | None = 0
        self._window = self._dropped = 0

    def uuids(self, restarts: int | None) -> Uuids | None:
        """For the next request; None if its images are sent as to any server.

        Args:
            restarts: how often the server was restarted so far; None if that is not known.
        """
        if self.problem != "":
            return None
        if restarts != self._restarts:
            self._restarts = restarts
            self._known = OrderedDict()  # a thread may be looking into the other one
            self._forgotten += 1
        return Uuids(self._images, self._known, self._forgotten)

    def answered(self, uuids: Uuids) -> None:
        """Record that a request was answered, so that the server has its images."""
        self._count(bool(uuids.alone))
        if uuids.forgotten != self._forgotten:  # it has been restarted since the request was sent
            return
        for uuid in (*uuids.alone, *uuids.sent):
            self._known[uuid] = None
            self._known.move_to_end(uuid)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def refused(self, uuids: Uuids) -> None:
        """Record that the server did not answer a request that had images by their uuids alone."""
        self._count(told=True)
        for uuid in uuids.alone:
            self._known.pop(uuid, None)

    def resent(self, address: str) -> None:
        """Record that such a request was answered when it was sent with the data: the server had dropped an image."""
        self.dropped += 1
        self._dropped += 1
        if self._dropped > MAX_DROPPED:
            self.stop(address, "it drops them too soon")

    def stop(self, address: str, problem: str | None) -> None:
        """Send images with each request from now on.

        Args:
            problem: why; None if the server is to be tried again before it is sent further requests.
        """
        if self.problem == "":
            log.info("%s: images are sent with each request again: %s", address, problem or "it was away")
            self.problem = problem
            self._known = OrderedDict()
            self._forgotten += 1

    def _count(self, told: bool) -> None:
        self.told += told
        self._window += told
        if self._window >= WINDOW:
            self._window = self._dropped = 0


def summary(servers: Sequence[ServerImages]) -> dict[str, Any]:
    """How images were sent to all servers of a run, for its record."""
    problems = sorted({found for server in servers if (found := server.problem)})
    return {
        "used": any(server.told for server in servers),
        "problem": "; ".join(problems) or None,
        "told": sum(server.told for server in servers),
        "dropped": sum(server.dropped for server in servers),
    }
