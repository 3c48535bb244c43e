"""Responses on their way from the event loop's thread to the one that waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from evalkit.types import Response

HOLD_SECONDS = 0.02
"""How long a response waits for others: the thread that is woken takes the interpreter away from the event loop."""


class Delivery:
    """Hands over responses, those of a moment together.

    Args:
        loop: the event loop in whose thread ``put`` is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: SimpleQueue[list[Response] | BaseException | None] = SimpleQueue()
        self._held: list[Response] = []

    def put(self, response: Response) -> None:
        """Hand over a response, within ``HOLD_SECONDS``."""
        if not self._held:
            self._loop.call_later(HOLD_SECONDS, self.flush)
        self._held.append(response)

    def flush(self) -> None:
        """Hand over the responses that are held."""
        if self._held:
            held, self._held = self._held, []
            self._arrived.put(held)

    def end(self, error: BaseException | None) -> None:
        """Hand over what is held and, after that, that there is nothing more, or why not."""
        self.flush()
        self._arrived.put(error)

    def __iter__(self) -> Iterator[Response]:
        """The responses as they arrive.  Raises the error that ``end`` was given."""
        while (found := self._arrived.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield from found


def run_in_thread(
    answering: Callable[[Callable[[Response], None]], Coroutine[Any, Any, None]],
) -> Iterator[Response]:
    """The responses as they arrive; the event loop runs in a thread, which ends with this iterator.

    Args:
        answering: answers requests; it is given the function that delivers a response.
    """
    loop = asyncio.new_event_loop()
    delivery = Delivery(loop)
    main = loop.create_task(answering(delivery.put))

    def work() -> None:
        failure: BaseException | None = None
        try:
            loop.run_until_complete(main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # raised in the thread that waits for responses
            failure = error
        finally:
            delivery.end(failure)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=work, name="evalkit-server", daemon=True)
    thread.start()
    try:
        yield from delivery
    finally:
        with suppress(RuntimeError):  # the loop is already closed
            loop.call_soon_threadsafe(main.cancel)
        thread.join(timeout=10)
