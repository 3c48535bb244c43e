"""The engine: items in, answers out, in whatever order is quickest.

Items come in windows.  Within one, those that begin alike are put together (``tree.py``), longest first, so that what
does not fit into memory shows early.  Small batches are prefilled (inner nodes first, level by level) and join the pool
of rows that are being decoded (``pool.py``), as others leave it.  The last rows of a window do not hold up the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from threading import Event

import torch

from .attention import kernels
from .cache import Columns
from .language import Language, Piece
from .memory import out_of_memory
from .options import Options
from .pictures import Eyes, Features, Feed, Seen
from .pool import Pool
from .recorded import CudaGraphs
from .rows import Row
from .tree import Node, Parts, grow
from .window import Item, Window

log = logging.getLogger(__name__)

BEGIN = 4  # a window's first batch is smaller by so many times, on a GPU


@dataclass(frozen=True)
class Answer:
    """What became of an item: its row, with its tokens and its pictures; or an error."""

    planned: object
    row: Row | None = None
    seen: tuple[Seen, ...] = ()
    error: BaseException | None = None


@dataclass(frozen=True)
class Limits:
    """How large batches may be.

    Attributes:
        rows: decoded together.
        tokens: prefilled together (text and pictures), padding counted.
        bytes: of keys and values held at one time.
    """

    rows: int
    tokens: int
    bytes: int

    def part(self, parts: int) -> Limits:
        """For a batch that is smaller by so many times."""
        return replace(self, rows=max(1, self.rows // parts), tokens=max(1, self.tokens // parts))


@dataclass(eq=False)
class _Waiting:
    """An item on its way: its window, its row, its parts, its place in the tree."""

    window: Window
    item: Item
    row: Row
    parts: Parts
    node: Node | None
    factor: float

    @property
    def chain(self) -> list[Node]:
        return self.node.chain() if self.node is not None else []

    @property
    def shared(self) -> int:
        """How many of its parts are its node's."""
        return self.node.end if self.node is not None else 0


class Engine:
    """Answers items with a language model and its eyes.

    Args:
        place: the token that stands for a picture in ``Item.ids``.
        workers: threads that read pictures ahead; of ``ahead`` pixels at most.

    Attributes:
        several: whether it answers items with more than one picture.
    """

    def __init__(
        self,
        language: Language,
        eyes: Eyes,
        features: Features,
        *,
        place: int,
        limits: Limits,
        options: Options,
        workers: int,
        ahead: int,
    ) -> None:
        self.language = language
        self.eyes = eyes
        self.features = features
        self.place = place
        self.limits = limits
        self.options = options
        self.workers = workers if options.feed else 0
        self.ahead = ahead
        self.several = True
        graphs = options.record and language.device.type == "cuda"
        self.pool = Pool(
            language,
            leave=options.leave,
            ahead=options.overlap and language.device.type == "cuda",
            recorder=CudaGraphs(language.device) if graphs else None,
        )

    # ------------------------------------------------------------------------------------------------------- a window

    def answer(
        self, items: Sequence[Item], stop: Event | None = None, more: Callable[[], Sequence[Item]] = tuple
    ) -> Iterator[Answer]:
        """An answer for every item of a window, as they come; once ``stop`` is set, nothing new is begun.

        Args:
            more: asked for the next window while the last rows of one are decoded; gives none where that is to be
                seen to its end first.
        """
        self.pool.clear()  # of a window that nobody saw to its end
        working: dict[Row, _Waiting] = {}
        begun = self.language.device.type != "cuda"
        with ExitStack() as feeds:
            queue = self._begin(items, feeds)
            while queue or self.pool.rows:
                stopped = stop is not None and stop.is_set()
                if stopped and not self.pool.rows:
                    break
                if not queue and not stopped and (following := more()):
                    feeds.close()
                    queue = self._begin(following, feeds)
                batch: list[_Waiting] = []
                if queue and not stopped and self._room():
                    # A GPU would wait for a whole batch's pictures: it begins with a part of one.
                    limits, begun = self.limits if begun else self.limits.part(BEGIN), True
                    for waiting in self._next(queue, limits):
                        error = self._look(waiting)
                        if error is None:
                            batch.append(waiting)
                            working[waiting.row] = waiting
                        else:
                            _leave(waiting.node)
                            yield Answer(waiting.item.planned, error=error)
                    if not batch:
                        continue
                done: list[Row] = []
                full: str | None = None
                try:
                    with self._kernels():
                        done = self._prefill(batch) if batch else self.pool.step()
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    full = (str(error).strip().splitlines() or ["out of memory"])[0]
                if full is not None:  # outside the except: the error's traceback holds the tensors that are in the way
                    out = batch or [working[row] for row in self.pool.clear(free=True)]
                    failed = self._with_less(queue, out, not batch)
                    if failed is not None:
                        del working[failed.row]
                        _leave(failed.node)
                        yield Answer(failed.item.planned, error=MemoryError(full))
                for row in done:
                    waiting = working.pop(row)
                    seen = tuple(waiting.window.seen(part) for part in waiting.parts if part < 0)
                    yield Answer(waiting.item.planned, row, seen)
        self.pool.clear()

    def _begin(self, items: Sequence[Item], feeds: ExitStack) -> list[_Waiting]:
        """A new window's items, the first at the end; their pictures begin to be read."""
        window = Window(items, self.place)
        queue = self._queue(items, window)
        order = [image for waiting in queue for image in waiting.item.images]
        window.feed = feeds.enter_context(Feed(order, self.eyes, workers=self.workers, ahead=self.ahead))
        queue.reverse()
        return queue

    def logits(self, items: Sequence[Item], following: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each item, the logits after its prompt, and those after one token more (to be compared with others').

        Raises:
            OSError, ValueError: a picture cannot be read.
        """
        queue = self._queue(items, Window(items, self.place))
        for waiting in queue:
            if (error := self._look(waiting)) is not None:
                raise error
        with self._kernels():
            cache, first, follow = self._compute(queue)
        order = [items.index(waiting.item) for waiting in queue]
        device = self.language.device
        ids = torch.tensor([following[at] for at in order], device=device)
        second = self.language.step(ids, torch.tensor(follow, device=device), cache)
        found = {at: (first[row], second[row]) for row, at in enumerate(order)}
        return [found[at] for at in range(len(items))]

    def _kernels(self) -> AbstractContextManager[None]:
        return kernels(self.language.device) if self.options.kernels else nullcontext()

    def _queue(self, items: Sequence[Item], window: Window) -> list[_Waiting]:
        """The items in the order in which they are to be answered.

        A prefix is shared only among requests whose keys are rotated alike.
        """
        alike: dict[float, list[int]] = {}
        for at, item in enumerate(items):
            alike.setdefault(self.language.factor(item.tokens), []).append(at)
        queue = []
        for factor, places in sorted(alike.items(), reverse=True):
            for leaf in grow([window.parts[at] for at in places], window.length, self.options.share):
                item, parts = items[places[leaf.row]], window.parts[places[leaf.row]]
                row = Row(item.limit, item.least, item.stops, item.forced, item.draws, item.enough)
                queue.append(_Waiting(window, item, row, parts, leaf.node, factor))
        return queue

    def _room(self) -> bool:
        """Whether rows may come in; a few at a time would cost a pass each."""
        live = len(self.pool)
        return live == 0 or (self.options.leave and live <= self.limits.rows // 2)

    def _next(self, queue: list[_Waiting], limits: Limits) -> list[_Waiting]:
        """The next rows of a window to prefill: as many as the pool, the tokens and the memory have room for."""
        live = len(self.pool)
        batch: list[_Waiting] = []
        own = longest = 0
        each = self.language.shape.bytes(self.language.dtype)
        while queue and len(batch) + live < limits.rows:
            waiting = queue[-1]
            window = waiting.window
            if batch and window is not batch[0].window:
                break
            own = max(own, window.tokens(waiting.parts[waiting.shared :]))
            longest = max(longest, window.tokens(waiting.parts) + waiting.row.limit)
            rows = len(batch) + 1
            if batch and self.options.pack and rows * own > limits.tokens:
                break
            # Twice: a pool that grows is copied, and prefixes are held beside the rows that they were copied into.
            if batch and self.options.pack and 2 * (rows + live) * longest * each > limits.bytes:
                break
            batch.append(queue.pop())
        return batch

    def _with_less(self, queue: list[_Waiting], rows: list[_Waiting], decoding: bool) -> _Waiting | None:
        """Put rows that did not fit back, to be done in halves from now on; one that does not fit alone is returned."""
        if not self.pool.rows:
            self.pool.clear(free=True)
        if self.language.device.type == "cuda":
            torch.cuda.empty_cache()
        self.features.clear()
        if decoding:
            for waiting in rows:
                _come_back(waiting.node)
        if len(rows) == 1 and (decoding or not self.pool.rows):
            return rows[0]
        for waiting in rows:
            waiting.row.restart()
        queue.extend(reversed(rows))
        if len(rows) == 1:  # it waits until the others are through
            self.limits = replace(self.limits, rows=len(self.pool))
        else:
            half = (len(rows) + 1) // 2
            log.warning("out of memory with %d samples: going on with batches of %d", len(rows), half)
            self.limits = Limits(min(half, self.limits.rows), max(1, self.limits.tokens // 2), self.limits.bytes // 2)
        return None

    # --------------------------------------------------------------------------------------------------------- prefill

    def _look(self, waiting: _Waiting) -> Exception | None:
        """Have the row's pictures read; gives what went wrong."""
        held = max((node.end for node in waiting.chain if node.held is not None), default=0)
        return waiting.window.look(waiting.parts, waiting.parts[held:], self.eyes, self.features)

    def _prefill(self, batch: list[_Waiting]) -> list[Row]:
        """Have the batch's rows decoded; gives back those that have ended already."""
        began = time.perf_counter()
        window = batch[0].window
        cache, logits, follow = self._compute(batch)
        self.pool.capacity, self.pool.bytes = self.limits.rows, self.limits.bytes // 2
        done = self.pool.admit([waiting.row for waiting in batch], cache, logits, follow)
        share = (time.perf_counter() - began) / len(batch)
        for waiting in batch:
            waiting.row.seconds += share
            waiting.row.prompt = window.tokens(waiting.parts)
            if self.language.factor(waiting.row.prompt) != waiting.factor:
                raise RuntimeError(
                    f"a prompt was planned with {waiting.item.tokens} tokens and has {waiting.row.prompt}, so that its "
                    "keys were rotated by the wrong factor; --exact does without the engine"
                )
            window.done(waiting.parts, self.features)
            _leave(waiting.node)
        return done

    def _compute(self, batch: list[_Waiting]) -> tuple[Columns, torch.Tensor, list[int]]:
        """The batch's keys and values, the logits after its prompts, and the positions that follow them."""
        window = batch[0].window
        for level in range(max(len(waiting.chain) for waiting in batch)):
            missing = {
                waiting.chain[level]: waiting
                for waiting in batch
                if level < len(waiting.chain) and waiting.chain[level].held is None
            }
            for nodes in self._cut(missing, window):
                self._hold(nodes, window)
        wanted = [(waiting.node, waiting.parts[waiting.shared :], waiting.factor) for waiting in batch]
        pieces, follow = self._pieces(wanted, window)
        cache, logits = self.language.prefill(pieces, room=max(waiting.row.limit for waiting in batch))
        return cache, logits, follow

    def _cut(self, nodes: dict[Node, _Waiting], window: Window) -> Iterator[list[tuple[Node, _Waiting]]]:
        """Nodes (with a row below each), longest first, in batches within the limits."""
        length = {node: window.tokens(row.parts[node.start : node.end]) for node, row in nodes.items()}
        queue = sorted(nodes.items(), key=lambda pair: -length[pair[0]])
        while queue:
            count = self.limits.tokens // length[queue[0][0]] if self.options.pack else self.limits.rows
            yield queue[: max(1, count)]
            queue = queue[max(1, count) :]

    def _hold(self, nodes: list[tuple[Node, _Waiting]], window: Window) -> None:
        wanted = [(node.parent, row.parts[node.start : node.end], row.factor) for node, row in nodes]
        pieces, follow = self._pieces(wanted, window)
        cache, _ = self.language.prefill(pieces)
        for row, ((node, _), piece, after) in enumerate(zip(nodes, pieces, follow, strict=True)):
            node.held = (cache.last(row, len(piece.ids)), after)

    def _pieces(
        self, wanted: Sequence[tuple[Node | None, Parts, float]], window: Window
    ) -> tuple[list[Piece], list[int]]:
        """Parts that come after a node as the language model takes them, and the position that follows each."""
        placed = []
        for above, parts, _ in wanted:
            given = [part if part >= 0 else window.seen(part) for part in parts]
            placed.append(self.language.places.of(given, above.held[1] if above is not None else 0))
        # Last: a GPU is at work from here on.
        shown = [part for _, parts, _ in wanted for part in parts if part < 0]
        features = window.features(shown, self.eyes, self.features, self.limits.tokens)
        pieces = []
        for (above, parts, factor), (ids, positions, _) in zip(wanted, placed, strict=True):
            before = [node.held[0] for node in above.chain()] if above is not None else []
            pieces.append(Piece(before, ids, positions, [features[part] for part in parts if part < 0], factor))
        return pieces, [after for _, _, after in placed]


def _leave(node: Node | None) -> None:
    """One row less is waiting below a node and those above it; the last one lets its keys and values go."""
    while node is not None:
        node.waiting -= 1
        if node.waiting == 0:
            node.held = None
        node = node.parent


def _come_back(node: Node | None) -> None:
    while node is not None:
        node.waiting += 1
        node = node.parent
