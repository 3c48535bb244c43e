"""Responses come out of the event loop's thread in order, and none is lost where it fails or is abandoned."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from evalkit.model.server.delivery import run_in_thread
from evalkit.types import Response


def test_responses_come_in_order_and_before_the_error() -> None:
    async def answering(deliver: Callable[[Response], None]) -> None:
        for number in range(30):
            deliver(Response(str(number)))
            if number % 10 == 9:
                await asyncio.sleep(0.03)
        raise ValueError("broken")

    responses = run_in_thread(answering)
    assert [next(responses).id for _ in range(30)] == [str(number) for number in range(30)]
    with pytest.raises(ValueError, match="broken"):
        next(responses)


def test_a_response_is_not_held_until_the_next() -> None:
    async def answering(deliver: Callable[[Response], None]) -> None:
        deliver(Response("first"))
        await asyncio.Event().wait()

    responses = run_in_thread(answering)
    assert next(responses).id == "first"
    responses.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "evalkit-server" for thread in threading.enumerate())
