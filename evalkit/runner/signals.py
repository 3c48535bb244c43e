"""Signals: Ctrl-C and SIGTERM (a cluster's preemption) stop a run after the current batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

GRACE_SECONDS = 5.0
"""How long SIGTERM waits for the current batch; clusters send SIGKILL after half a minute at the earliest."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM raises ``KeyboardInterrupt``, as Ctrl-C does.  Outside the main thread no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stoppable(console: Console) -> Iterator[threading.Event]:
    """An event that the first signal sets; a second one, or the end of SIGTERM's grace, raises ``KeyboardInterrupt``.

    Outside the main thread no signal arrives, and the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread can handle signals
        return

    def on_signal(number: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        console.print("Stopping after the current batch. Press Ctrl-C again to stop now.")

    def on_alarm(number: int, _: Any) -> None:
        raise KeyboardInterrupt

    handlers: dict[int, Callable[[int, Any], None]] = {
        signal.SIGINT: on_signal, signal.SIGTERM: on_signal, signal.SIGALRM: on_alarm,
    }  # fmt: skip
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
