"""Workers on one queue, each with a checkpoint of its own: who answers what, and what becomes of those that die.

A worker that dies costs nothing but time: its unanswered requests go back to the queue, and it is started anew a few
times.  Requests that two workers died of are answered with an error.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import RequestBatch
from evalkit.types import ImageRef, Request, Response

from .handle import RESTARTS, Hand
from .messages import Answered, Embed, Embedded, End, Ended, Failed, Logged, Lost, Ready, Start
from .schedule import Opened, Side, Work

log = logging.getLogger(__name__)

# How often is looked whether the run is to stop.
SECONDS = 0.1
# Images to embed that are sent together.
EMBEDDED = 64
# Whose levels hold in the workers too.
LOGGERS = ("", "evalkit", "transformers")


class Pool:
    """Workers.

    Args:
        hands: none of them started.
        those_with_messages: which of some workers have sent something, or died, within so many seconds.
        close: ends all of them.
        options: what ``open`` of their backends takes besides checkpoint and device.
        asked: the option that asked for them, as in ``--device cuda:0,cuda:1``.
        instead: what to give instead, where they cannot be used.
        less: what takes less memory.
        recorded: what else a run's record says of them.
        device: of each, where they are all alike.
    """

    def __init__(
        self,
        hands: Sequence[Hand],
        *,
        those_with_messages: Callable[[Sequence[Hand], float], Sequence[Hand]],
        close: Callable[[Sequence[Hand]], None],
        options: Mapping[str, Any],
        asked: str,
        instead: str,
        less: str,
        recorded: Mapping[str, Any] | None = None,
        device: str = "",
    ) -> None:
        self.hands = list(hands)
        self.abouts: list[tuple[Checkpoint, dict[str, Mapping[str, Any]]]] = []
        self.close = weakref.finalize(self, close, self.hands)  # at the latest when nobody holds it any more
        self.recorded = dict(recorded or {})
        self.device = device
        self._those_with_messages = those_with_messages
        self._options = dict(options)
        self._levels = {name: logging.getLogger(name).getEffectiveLevel() for name in LOGGERS}
        self._asked, self._instead, self._less = asked, instead, less
        self._run = 0
        self._busy = False
        self._work = Work((), 1)

    def about(self, checkpoint: Checkpoint) -> dict[str, Mapping[str, Any]]:
        """What the workers that have loaded ``checkpoint`` said of it, by their names."""
        for known, abouts in self.abouts:
            if known == checkpoint:
                return abouts
        self.abouts.append((checkpoint, {}))
        return self.abouts[-1][1]

    # --------------------------------------------------------------------------------------------------------- loading

    def load(self, checkpoint: Checkpoint) -> None:
        """Have all workers load ``checkpoint``.

        Raises:
            UserError: it cannot be opened as it is asked for.
            RunFailed: the workers died of it.
        """
        for hand in self.hands:
            if hand.gone is None and hand.checkpoint != checkpoint:
                self._begin(hand, checkpoint)
        while not all(hand.ready or hand.gone is not None for hand in self.hands):
            for hand, message in self._messages():
                if isinstance(message, Failed):
                    raise message.error
                if message is None:
                    self._died(hand, 0, again=True)
        self._check()

    def _begin(self, hand: Hand, checkpoint: Checkpoint) -> None:
        if hand.start is not None:
            hand.put_away()
        hand.begin(Start(checkpoint, hand.device, self._options, self._levels))

    # ------------------------------------------------------------------------------------------------------- answering

    def answer(
        self, lots: Sequence[RequestBatch], stop: Event | None = None
    ) -> Iterator[tuple[RequestBatch, Response | Exception]]:
        """A response for every request of every lot, from whichever worker has it first.

        A lot that cannot be answered gets one exception: what came out of a worker's backend, as it would have come out
        of one in this process.  The others go on.

        Raises:
            RunFailed: all workers are gone.
        """
        self._claim()
        work = self._work = Work(lots, len(self.hands))
        told = False
        try:
            while work:
                if not told and stop is not None and stop.is_set():
                    told = True
                    self._tell("stop")
                if told and all(hand.run is None for hand in self.hands):
                    return
                if not told:
                    self._hand_out(work)
                    yield from work.failures()
                for hand, message in self._messages():
                    yield from self._heard(work, hand, message, again=not told)
        finally:
            self._release()

    def drop(self, lot: RequestBatch) -> None:
        """Nothing of ``lot`` is wanted any more."""
        opened = self._work.drop(lot)
        for hand in self.hands:
            if hand.run is not None and hand.at is opened is not None:
                hand.take_back()
                hand.send(End(hand.run, "drop"))

    def _heard(
        self, work: Work, hand: Hand, message: Any, *, again: bool
    ) -> Iterator[tuple[RequestBatch, Response | Exception]]:
        at = hand.at
        if isinstance(message, Answered):
            if message.run == hand.run and at is not None and not at.over:
                hand.answered(message.response.id, message.memory)
                at.queue.unanswered -= 1
                if side := work.side(at.lot.checkpoint):
                    side.answered(message.response)
                yield at.lot, message.response
        elif isinstance(message, Failed) and message.run is None:
            yield from self._unloadable(work, hand, message.error)
        elif isinstance(message, Failed):
            hand.take_back()
            hand.through()
            if at is not None and not at.over:
                self.drop(at.lot)
                yield at.lot, message.error
        elif message is None:
            begun, untouched = hand.take_back()
            why = self._died(hand, len(begun) + len(untouched), again=again)
            if at is not None and not at.over:
                for request in at.queue.give_back(begun, untouched):
                    at.queue.unanswered -= 1
                    yield at.lot, _given_up(request, why)

    def _unloadable(self, work: Work, hand: Hand, error: Exception) -> Iterator[tuple[RequestBatch, Exception]]:
        """A checkpoint that cannot be opened: none of its lots is answered; the worker is free for others."""
        side = work.side(hand.checkpoint)
        hand.put_away()
        if side is not None:
            for lot, why in side.drop(error):
                self.drop(lot)
                yield lot, why

    def _hand_out(self, work: Work) -> None:
        """Give chunks to those that want one, whoever has least first."""
        self._check()
        while any(self._supply(hand, work) for hand in sorted(self.hands, key=lambda hand: hand.outstanding)):
            pass

    def _supply(self, hand: Hand, work: Work) -> bool:
        """Give a worker something to do, if it wants; says whether it may want more at once."""
        if hand.gone is not None or (hand.start is not None and not hand.ready):
            return False
        if hand.run is None:
            side = work.side(hand.checkpoint)
            found = None if side is None else side.next()
            if found is None:
                self._switch(hand, work)
                return False
            self._run += 1
            hand.turn_to(self._run, found)
        at = hand.at
        if hand.run is not None and (at is None or at.over or not at.queue):
            if not hand.outstanding and not hand.finishing:
                hand.finishing = True
                hand.send(End(hand.run, "done"))
            return False
        if at is None or not hand.wants or hand.finishing:
            return False
        if not at.begun:
            at.begun = True
            at.lot.begin()
        at.queue.rows = hand.rows
        try:
            hand.hand(at.queue.take())
        except Exception as error:  # pickling raises whatever it likes
            said = UserError(
                f"{self._asked}: what is asked cannot be sent to another process ({type(error).__name__}: {error}); "
                f"{self._instead}."
            )
            said.__cause__ = error
            self._unsent(work, at, said)
            return False
        return True

    def _unsent(self, work: Work, at: Opened, error: Exception) -> None:
        self.drop(at.lot)
        if side := work.side(at.lot.checkpoint):
            side.failed.append((at.lot, error))

    def _switch(self, hand: Hand, work: Work) -> None:
        """Have a free worker load another checkpoint, where that is worth it."""
        others = [other.checkpoint for other in self.hands if other is not hand]
        known = [other.seconds_to_load for other in self.hands if other.seconds_to_load is not None]
        side: Side | None = work.turn_to(others, max(known, default=0.0))
        if side is not None and side.checkpoint != hand.checkpoint:
            self._begin(hand, side.checkpoint)

    # ------------------------------------------------------------------------------------------------------- embedding

    def embed(self, checkpoint: Checkpoint, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """As the ``hf`` backend's, from one of the workers.

        Raises:
            OSError: an image cannot be read.
            UserError: the model has no vision encoder of its own.
            RunFailed: all workers are gone.
        """
        done = 0
        while done < len(images):
            self._claim()
            self._run += 1
            run = self._run
            chosen: Hand | None = None
            try:
                while chosen is None or chosen.run == run:
                    self._check()
                    if chosen is None and (chosen := next((hand for hand in self.hands if hand.ready), None)):
                        chosen.turn_to(run)
                        chosen.send(Embed(run, tuple(images[done : done + EMBEDDED])))
                    for hand, message in self._messages():
                        if isinstance(message, Embedded) and message.run == run:
                            done += 1
                            yield message.vector
                        elif isinstance(message, Failed):
                            raise message.error
                        elif message is None:
                            self._died(hand, 0, again=True)
            finally:
                self._release()

    # --------------------------------------------------------------------------------------------------------- workers

    def _claim(self) -> None:
        if self._busy:
            raise RuntimeError("the workers are asked one thing at a time, and were not through with the last one")
        self._busy = True

    def _release(self) -> None:
        self._busy = False
        self._tell("drop")
        for hand in self.hands:
            hand.take_back()
            hand.through()

    def _tell(self, how: Any) -> None:
        for hand in self.hands:
            if hand.run is not None:
                hand.send(End(hand.run, how))

    def _check(self) -> None:
        """Raises ``RunFailed`` when there is no worker left."""
        if all(hand.gone is not None for hand in self.hands):
            each = "; ".join(f"{hand.name}: {hand.gone}" for hand in self.hands)
            loading = "" if any(hand.seconds_to_load is not None for hand in self.hands) else (
                f"; they died while they loaded the checkpoint: {self._less}"
            )  # fmt: skip
            raise RunFailed(
                f"all {len(self.hands)} workers have died, as often as they were started anew ({each}){loading}; "
                "what was answered is kept, and the same command continues."
            )

    def _messages(self) -> Iterator[tuple[Hand, Any]]:
        """A message from each worker that has one by now, unless it is dealt with here; None from one that died."""
        for hand in self._those_with_messages(
            [hand for hand in self.hands if hand.gone is None and hand.start is not None], SECONDS
        ):
            if hand.start is None:
                continue  # put away meanwhile
            try:
                message = hand.receive()
            except EOFError:
                message = None
            if isinstance(message, Logged):
                logger = logging.getLogger(message.name)
                if logger.isEnabledFor(message.level):
                    logger.log(message.level, "%s: %s", hand.name, message.text)
            elif isinstance(message, Ready):
                hand.loaded(message)
                if error := self._unlike_others(hand):
                    yield hand, Failed(None, error)
            elif isinstance(message, Lost):
                hand.lost = message.why
            elif isinstance(message, Ended):
                if hand.run == message.run:
                    hand.through()
            elif isinstance(message, Failed) and not hand.ready and hand.again:  # the others go on without it
                hand.gone = str(message.error)
                hand.end()
                log.warning("%s: the worker could not be started anew: %s", hand.name, hand.gone)
            elif isinstance(message, Failed) and message.run is not None and message.run != hand.run:
                pass  # of a run that nobody waits for
            else:
                yield hand, message

    def _unlike_others(self, hand: Hand) -> UserError | None:
        """Note what a worker that is ready says of itself; what is wrong where it computes otherwise than others."""
        assert hand.start is not None
        assert hand.about is not None
        abouts = self.about(hand.start.checkpoint)
        abouts[hand.name] = hand.about
        dtypes = sorted({str(about.get("dtype")) for about in abouts.values()})
        if len(dtypes) > 1:
            return UserError(f"{self._asked}: the devices use different dtypes ({', '.join(dtypes)}).")
        return None

    def _died(self, hand: Hand, unanswered: int, *, again: bool) -> str:
        """Note a worker's death, and start it anew if it may be; says what it died of."""
        start, loaded = hand.start, hand.ready
        why = hand.end()
        hand.through()
        said = f"{hand.name}: the worker died ({why})"
        if unanswered:
            said += f"; {unanswered:,} samples that it had go back to the queue"
        if again and start is not None and hand.restarts < RESTARTS:
            hand.restarts += 1
            log.warning("%s; it is started anew (%d of %d)", said, hand.restarts, RESTARTS)
            hand.begin(start, again=hand.again or loaded)
        else:
            hand.gone = why
            log.warning("%s; it is not started again", said)
        return why


def _given_up(request: Request, why: str) -> Response:
    said = f"two workers died while they were at it and its neighbours (the second: {why})"
    log.warning("sample %s: %s", request.id, said)
    return Response(id=request.id, finish="error", error=said)
