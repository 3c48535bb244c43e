"""Several devices of one machine: ``--device cuda:0,cuda:1`` runs a worker process on each, all on one queue.

Requests with the same pictures go to the same worker, so that what they share is still computed once, and each worker
is a whole ``hf`` backend; the answers are those of one.  A worker that dies costs nothing but time: its unanswered
requests go back to the queue.

The parts: ``_workers_queue`` (what is still to be handed out), ``_workers_hand`` (one worker, as seen from here),
``_workers_process`` (the same from within), ``_workers_wire`` (what they say to each other).
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from threading import Event
from typing import Any

import torch

from evalkit.checkpoint import Checkpoint
from evalkit.errors import RunFailed, UserError
from evalkit.types import ImageRef, Request, Response, Size

from ._costs import costs
from ._inputs import Inputs
from ._workers_hand import RESTARTS, Hand
from ._workers_queue import Queue
from ._workers_wire import Answered, Embed, Embedded, End, Ended, Failed, Logged, Lost, Ready, Start

log = logging.getLogger(__name__)

# How often is looked whether the run is to stop.
SECONDS = 0.1
# Pictures to embed that are sent together.
EMBEDDED = 64
# Whose levels hold in the workers too.
LOGGERS = ("", "evalkit", "transformers")


class Workers:
    """A backend of one ``hf`` backend per device.

    Args:
        processor: the checkpoint's.
        devices: of one kind; one that is there twice has two workers.
        options: what ``open`` of each takes besides the device.

    Raises:
        UserError: the checkpoint cannot be opened as it is asked for.
        RunFailed: a worker died while it loaded the checkpoint.
    """

    name = "hf"

    def __init__(
        self, checkpoint: Checkpoint, processor: Any, devices: Sequence[torch.device], options: Mapping[str, Any]
    ) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in LOGGERS}
        names = [str(device) for device in devices]
        self.device = ",".join(names)
        self._inputs = Inputs(processor)
        self._run = 0
        self._busy = False
        self._hands: list[Hand] = []
        self.close = weakref.finalize(self, _close, self._hands)  # at the latest when nobody holds it any more
        try:
            for name, device in zip(_numbered(names), names, strict=True):
                start = Start(checkpoint, device, dict(options), levels)
                self._hands.append(Hand(name, start, max(1, cores // len(devices))))
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        while not all(hand.ready for hand in self._hands):
            for hand, message in self._messages():
                if isinstance(message, Failed):
                    raise message.error
                if message is None:
                    raise RunFailed(
                        f"the worker on {hand.name} died while it loaded the checkpoint ({hand.end()}); "
                        "fewer devices in --device take less memory."
                    )
        if len(dtypes := {str(hand.about.get("dtype")) for hand in self._hands if hand.about}) > 1:
            raise UserError(f"--device {self.device}: the devices use different dtypes ({', '.join(sorted(dtypes))}).")
        self._about = dict(self._hands[0].about or {})

    def describe(self) -> Mapping[str, Any]:
        """That of one worker, with the devices of all."""
        found = Counter(str((hand.about or self._about).get("device_name")) for hand in self._hands)
        names = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in found.items())
        return {**self._about, "device": self.device, "device_name": names, "workers": len(self._hands)}

    def costs(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """About how many tokens are to be computed for each request."""
        shared = self._about.get("engine") == "shared prefixes"
        return costs(requests, sizes, visual=self._inputs.visual, shared=shared)

    def memory(self) -> int:
        """Bytes that all workers take: of their devices, or of the host's where they are on the CPU."""
        return sum(hand.memory for hand in self._hands)

    # ------------------------------------------------------------------------------------------------------ answering

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, from whichever worker has it first.

        Raises:
            RunFailed: all workers are gone.
            Exception: what came out of a worker's backend, as it would have come out of one in this process.
        """
        run = self._begin()
        queue = Queue(requests, workers=len(self._hands), rows=min(hand.rows for hand in self._hands))
        told = False
        try:
            while queue.unanswered:
                if not told and stop is not None and stop.is_set():
                    told = True
                    self._tell(End(run, "stop"))
                if told and all(hand.run is None for hand in self._hands):
                    return
                if not told:
                    self._hand_out(run, queue)
                for hand, message in self._messages():
                    if isinstance(message, Answered) and message.run == run:
                        hand.answered(message.response.id, message.memory)
                        queue.unanswered -= 1
                        yield message.response
                    elif isinstance(message, Failed):
                        raise message.error
                    elif message is None:
                        begun, untouched = hand.take_back()
                        why = self._died(hand, len(begun) + len(untouched), again=not told)
                        for request in queue.give_back(begun, untouched):
                            queue.unanswered -= 1
                            yield _given_up(request, why)
        finally:
            self._end(run, "drop" if queue.unanswered else "done")

    def _hand_out(self, run: int, queue: Queue) -> None:
        """Give chunks to those that want one, whoever has least first."""
        self._check()
        while queue and (wanting := [hand for hand in self._hands if hand.wants]):
            chunk = queue.take()
            try:
                min(wanting, key=lambda hand: hand.outstanding).hand(run, chunk)
            except Exception as error:  # pickling raises whatever it likes
                raise UserError(
                    f"--device {self.device}: what is asked cannot be sent to another process "
                    f"({type(error).__name__}: {error}); give one device."
                ) from error

    # ------------------------------------------------------------------------------------------------------ embedding

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """As the ``hf`` backend's, from one of the workers.

        Raises:
            OSError: a picture cannot be read.
            UserError: the model has no vision encoder of its own.
            RunFailed: all workers are gone.
        """
        done = 0
        while done < len(images):
            run = self._begin()
            chosen: Hand | None = None
            try:
                while chosen is None or chosen.run == run:
                    self._check()
                    if chosen is None and (chosen := next((hand for hand in self._hands if hand.ready), None)):
                        chosen.run = run
                        chosen.link.send(Embed(run, tuple(images[done : done + EMBEDDED])))
                    for hand, message in self._messages():
                        if isinstance(message, Embedded) and message.run == run:
                            done += 1
                            yield message.vector
                        elif isinstance(message, Failed):
                            raise message.error
                        elif message is None:
                            self._died(hand, 0, again=True)
            finally:
                self._end(run, "drop")

    # -------------------------------------------------------------------------------------------------------- workers

    def _begin(self) -> int:
        """The number of a new run."""
        if self._busy:
            raise RuntimeError("the workers are asked one thing at a time, and were not through with the last one")
        self._busy = True
        self._run += 1
        return self._run

    def _end(self, run: int, how: Any) -> None:
        self._busy = False
        self._tell(End(run, how))
        for hand in self._hands:
            hand.take_back()
            hand.run = None

    def _tell(self, end: End) -> None:
        for hand in self._hands:
            if hand.run == end.run:
                hand.link.send(end)

    def _check(self) -> None:
        """Raises ``RunFailed`` when there is no worker left."""
        if all(hand.gone is not None for hand in self._hands):
            each = "; ".join(f"{hand.name}: {hand.gone}" for hand in self._hands)
            raise RunFailed(
                f"all {len(self._hands)} workers have died, as often as they were started anew ({each}); "
                "what was answered is kept, and the same command continues."
            )

    def _messages(self) -> Iterator[tuple[Hand, Any]]:
        """A message from each worker that has one by now, unless it is dealt with here; None from one that died."""
        hands = {hand.link.connection: hand for hand in self._hands if hand.gone is None}
        for connection in wait(list(hands), SECONDS):
            hand = hands[connection]  # type: ignore[index]
            try:
                message = hand.link.receive()
            except EOFError:
                message = None
            if isinstance(message, Logged):
                logger = logging.getLogger(message.name)
                if logger.isEnabledFor(message.level):
                    logger.log(message.level, "%s: %s", hand.name, message.text)
            elif isinstance(message, Ready):
                hand.about, hand.rows, hand.memory = message.about, message.rows, message.memory
            elif isinstance(message, Lost):
                hand.lost = message.why
            elif isinstance(message, Ended):
                hand.run = None if hand.run == message.run else hand.run
            elif isinstance(message, Failed) and not hand.ready and hand.restarts:  # the others go on without it
                hand.gone = str(message.error)
                hand.end()
                log.warning("%s: the worker could not be started anew: %s", hand.name, hand.gone)
            elif isinstance(message, Failed) and message.run is not None and message.run != self._run:
                pass  # of a run that nobody waits for
            else:
                yield hand, message

    def _died(self, hand: Hand, unanswered: int, *, again: bool) -> str:
        """Note a worker's death, and start it anew if it may be; says what it died of."""
        why = hand.end()
        hand.run = None
        said = f"{hand.name}: the worker died ({why})"
        if unanswered:
            said += f"; {unanswered:,} samples that it had go back to the queue"
        if again and hand.restarts < RESTARTS:
            hand.restarts += 1
            log.warning("%s; it is started anew (%d of %d)", said, hand.restarts, RESTARTS)
            hand.begin()
        else:
            hand.gone = why
            log.warning("%s; it is not started again", said)
        return why


def _close(hands: Sequence[Hand]) -> None:
    for hand in hands:
        hand.link.close()  # all at once; each ends when it sees it
    for hand in hands:
        hand.end()


def _numbered(devices: Sequence[str]) -> list[str]:
    """What messages call the workers: their devices, numbered where there are several of one."""
    names = []
    for at, device in enumerate(devices):
        names.append(device if devices.count(device) == 1 else f"{device}#{devices[: at + 1].count(device)}")
    return names


def _given_up(request: Request, why: str) -> Response:
    said = f"two workers died while they were at it and its neighbours (the second: {why})"
    log.warning("sample %s: %s", request.id, said)
    return Response(id=request.id, finish="error", error=said)
