"""The workers' lives: starting them, reading their messages, and restarting those that die."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.errors import RunFailed, UserError

from .handle import MAX_RESTARTS, WorkerHandle
from .messages import AssignmentEnded, DeviceLost, Failure, LogLine, Ready, Start

log = logging.getLogger(__name__)

# Seconds to wait for messages, and so between checks of whether the run is to stop.
POLL_SECONDS = 0.1
# Loggers whose levels are copied to the workers.
LOGGERS = ("", "evalkit", "transformers")


@dataclass(frozen=True)
class Advice:
    """What error messages say about the workers.

    Attributes:
        option: the option that asked for them, such as ``--device cuda:0,cuda:1``.
        instead: what to do if they cannot be used.
        less_memory: what takes less memory.
    """

    option: str
    instead: str
    less_memory: str


class Supervisor:
    """Starts workers, reads their messages and restarts those that die.

    Args:
        handles: of workers that are not started.
        wait_for_messages: returns the workers that have sent a message or died, within a number of seconds.
        options: arguments of their backend's ``open``, without checkpoint and device.

    Attributes:
        descriptions: for each checkpoint, what the workers' backends say about it, by the workers' names.
    """

    def __init__(
        self,
        handles: Sequence[WorkerHandle],
        *,
        wait_for_messages: Callable[[Sequence[WorkerHandle], float], Sequence[WorkerHandle]],
        options: Mapping[str, Any],
        advice: Advice,
    ) -> None:
        self.handles = handles
        self.advice = advice
        self.descriptions: list[tuple[Checkpoint, dict[str, Mapping[str, Any]]]] = []
        self._wait_for_messages = wait_for_messages
        self._options = dict(options)
        self._levels = {name: logging.getLogger(name).getEffectiveLevel() for name in LOGGERS}

    def descriptions_of(self, checkpoint: Checkpoint) -> dict[str, Mapping[str, Any]]:
        """The backend descriptions of the workers that have loaded ``checkpoint``, by the workers' names."""
        for known, descriptions in self.descriptions:
            if known == checkpoint:
                return descriptions
        self.descriptions.append((checkpoint, {}))
        return self.descriptions[-1][1]

    def launch(self, handle: WorkerHandle, checkpoint: Checkpoint) -> None:
        """Start a worker with ``checkpoint``; one that is running is ended first."""
        if handle.start is not None:
            handle.unload()
        handle.launch(Start(checkpoint, handle.device, self._options, self._levels))

    def load(self, checkpoint: Checkpoint) -> None:
        """Have all workers load ``checkpoint`` and wait for them.

        Raises:
            UserError: the checkpoint cannot be opened with these options.
            RunFailed: all workers died.
        """
        for handle in self.handles:
            if handle.failure is None and handle.checkpoint != checkpoint:
                self.launch(handle, checkpoint)
        while not all(handle.ready or handle.failure is not None for handle in self.handles):
            for handle, message in self.poll():
                if isinstance(message, Failure):
                    raise message.error
                if message is None:
                    self.handle_death(handle, 0, restart=True)
        self.check()

    def check(self) -> None:
        """Raise ``RunFailed`` if no worker is left."""
        if any(handle.failure is None for handle in self.handles):
            return
        reasons = "; ".join(f"{handle.name}: {handle.failure}" for handle in self.handles)
        ever_loaded = any(handle.load_seconds is not None for handle in self.handles)
        loading = "" if ever_loaded else f" They died while loading the checkpoint: {self.advice.less_memory}."
        raise RunFailed(
            f"all {len(self.handles)} workers have died, after {MAX_RESTARTS} restarts each ({reasons}).{loading} "
            "Answers so far are saved; run the same command to resume."
        )

    def poll(self) -> Iterator[tuple[WorkerHandle, Any]]:
        """A message of each worker that has sent one, except those handled here; None for a worker that died."""
        running = [handle for handle in self.handles if handle.failure is None and handle.start is not None]
        for handle in self._wait_for_messages(running, POLL_SECONDS):
            if handle.start is None:
                continue  # unloaded meanwhile
            try:
                message = handle.receive()
            except EOFError:
                message = None
            if isinstance(message, LogLine):
                logger = logging.getLogger(message.logger)
                if logger.isEnabledFor(message.level):
                    logger.log(message.level, "%s: %s", handle.name, message.text)
            elif isinstance(message, Ready):
                handle.set_ready(message)
                if error := self._different_dtypes(handle):
                    yield handle, Failure(None, error)
            elif isinstance(message, DeviceLost):
                handle.exit_reason = message.reason
            elif isinstance(message, AssignmentEnded):
                if handle.assignment == message.assignment:
                    handle.clear_assignment()
            elif isinstance(message, Failure) and not handle.ready and handle.restarted:  # the others go on without it
                handle.failure = str(message.error)
                handle.end()
                log.warning("%s: the worker could not be restarted: %s", handle.name, handle.failure)
            elif isinstance(message, Failure) and message.assignment not in (None, handle.assignment):
                pass  # about an earlier assignment
            else:
                yield handle, message

    def _different_dtypes(self, handle: WorkerHandle) -> UserError | None:
        """Record a ready worker's description; an error if its dtype differs from the others'."""
        assert handle.start is not None
        assert handle.description is not None
        descriptions = self.descriptions_of(handle.start.checkpoint)
        descriptions[handle.name] = handle.description
        dtypes = sorted({str(description.get("dtype")) for description in descriptions.values()})
        if len(dtypes) > 1:
            return UserError(f"{self.advice.option}: the devices use different dtypes ({', '.join(dtypes)}).")
        return None

    def handle_death(self, handle: WorkerHandle, requeued: int, *, restart: bool) -> str:
        """Log a worker's death and restart it if allowed.

        Args:
            requeued: the number of its requests that go back to the queue.
            restart: whether it may be restarted, if it has restarts left.

        Returns:
            what it died of.
        """
        start, loaded = handle.start, handle.ready
        reason = handle.end()
        handle.clear_assignment()
        text = f"{handle.name}: the worker died ({reason})"
        if requeued:
            text += f"; its {requeued:,} unanswered samples are requeued"
        if restart and start is not None and handle.restarts < MAX_RESTARTS:
            handle.restarts += 1
            log.warning("%s; restarting it (%d of %d)", text, handle.restarts, MAX_RESTARTS)
            handle.launch(start, restarted=handle.restarted or loaded)
        else:
            handle.failure = reason
            log.warning("%s; it is not restarted", text)
        return reason
