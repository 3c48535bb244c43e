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

from evalkit.model.engine.patches.attention import kernels
from evalkit.model.hf.memory import is_out_of_memory

from .cuda_graphs import CudaGraphs
from .decode_batch import Pool
from .image_table import Item, Window
from .model_runner import Language
from .options import Limits, Options
from .prefill import Prefill, Waiting
from .prefix_tree import grow
from .sequence import Row
from .vision import Eyes, Features, Feed, Seen

log = logging.getLogger(__name__)

BEGIN = 4  # a window's first batch is smaller by so many times, on a GPU


@dataclass(frozen=True)
class Answer:
    """What became of an item: its row, with its tokens and its images; or an error."""

    planned: object
    row: Row | None = None
    seen: tuple[Seen, ...] = ()
    error: BaseException | None = None


class Engine:
    """Answers items with a language model and its eyes.

    Args:
        place: the token that stands for an image in ``Item.ids``.
        workers: threads that read images ahead; of ``ahead`` pixels at most.

    Attributes:
        several: whether it answers items with more than one image.
        resources: what ``close`` ends: the patches of the model.
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
        self.workers = workers if options.image_prefetch else 0
        self.ahead = ahead
        self.several = True
        self.resources = ExitStack()
        graphs = options.cuda_graphs and language.device.type == "cuda"
        self.prefill = Prefill(language, eyes, features, pack=options.token_budget)
        self.pool = Pool(
            language,
            leave=options.continuous_batching,
            ahead=options.async_scheduling and language.device.type == "cuda",
            recorder=CudaGraphs(language.device) if graphs else None,
        )

    def close(self) -> None:
        """Restore the model's own parts."""
        self.resources.close()

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
        working: dict[Row, Waiting] = {}
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
                batch: list[Waiting] = []
                if queue and not stopped and self._room():
                    # A GPU would wait for a whole batch's images: it begins with a part of one.
                    limits, begun = self.limits if begun else self.limits.divided_by(BEGIN), True
                    for waiting in self._next(queue, limits):
                        error = self._look(waiting)
                        if error is None:
                            batch.append(waiting)
                            working[waiting.row] = waiting
                        else:
                            waiting.leave()
                            yield Answer(waiting.item.planned, error=error)
                    if not batch:
                        continue
                done: list[Row] = []
                full: str | None = None
                try:
                    with self._kernels():
                        done = self._prefill(batch) if batch else self.pool.step()
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    full = (str(error).strip().splitlines() or ["out of memory"])[0]
                if full is not None:  # outside the except: the error's traceback holds the tensors that are in the way
                    out = batch or [working[row] for row in self.pool.clear(free=True)]
                    failed = self._with_less(queue, out, not batch)
                    if failed is not None:
                        del working[failed.row]
                        failed.leave()
                        yield Answer(failed.item.planned, error=MemoryError(full))
                for row in done:
                    waiting = working.pop(row)
                    seen = tuple(waiting.window.seen(part) for part in waiting.parts if part < 0)
                    yield Answer(waiting.item.planned, row, seen)
        self.pool.clear()

    def _begin(self, items: Sequence[Item], feeds: ExitStack) -> list[Waiting]:
        """A new window's items, the first at the end; their images begin to be read."""
        window = Window(items, self.place)
        queue = self._queue(items, window)
        order = [image for waiting in queue for image in waiting.item.images]
        window.feed = feeds.enter_context(Feed(order, self.eyes, workers=self.workers, ahead=self.ahead))
        queue.reverse()
        return queue

    def logits(self, items: Sequence[Item], following: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each item, the logits after its prompt, and those after one token more (to be compared with others').

        Raises:
            OSError, ValueError: an image cannot be read.
        """
        queue = self._queue(items, Window(items, self.place))
        for waiting in queue:
            if (error := self._look(waiting)) is not None:
                raise error
        with self._kernels():
            cache, first, follow = self.prefill(queue, self.limits)
        order = [items.index(waiting.item) for waiting in queue]
        device = self.language.device
        ids = torch.tensor([following[at] for at in order], device=device)
        second = self.language.step(ids, torch.tensor(follow, device=device), cache)
        found = {at: (first[row], second[row]) for row, at in enumerate(order)}
        return [found[at] for at in range(len(items))]

    def _kernels(self) -> AbstractContextManager[None]:
        return kernels(self.language.device) if self.options.fused_kernels else nullcontext()

    def _queue(self, items: Sequence[Item], window: Window) -> list[Waiting]:
        """The items in the order in which they are to be answered.

        A prefix is shared only among requests whose keys are rotated alike.
        """
        alike: dict[float, list[int]] = {}
        for at, item in enumerate(items):
            alike.setdefault(self.language.factor(item.tokens), []).append(at)
        queue = []
        for factor, places in sorted(alike.items(), reverse=True):
            for leaf in grow([window.parts[at] for at in places], window.length, self.options.prefix_sharing):
                item, parts = items[places[leaf.row]], window.parts[places[leaf.row]]
                row = Row(item.limit, item.least, item.stops, item.forced, item.draws, item.enough)
                queue.append(Waiting(window, item, row, parts, leaf.node, factor))
        return queue

    def _room(self) -> bool:
        """Whether rows may come in; a few at a time would cost a pass each."""
        live = len(self.pool)
        return live == 0 or (self.options.continuous_batching and live <= self.limits.rows // 2)

    def _next(self, queue: list[Waiting], limits: Limits) -> list[Waiting]:
        """The next rows of a window to prefill: as many as the pool, the tokens and the memory have room for."""
        live = len(self.pool)
        batch: list[Waiting] = []
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
            if batch and self.options.token_budget and rows * own > limits.tokens:
                break
            # Twice: a pool that grows is copied, and prefixes are held beside the rows that they were copied into.
            if batch and self.options.token_budget and 2 * (rows + live) * longest * each > limits.bytes:
                break
            batch.append(queue.pop())
        return batch

    def _with_less(self, queue: list[Waiting], rows: list[Waiting], decoding: bool) -> Waiting | None:
        """Put rows that did not fit back, to be done in halves from now on; one that does not fit alone is returned."""
        if not self.pool.rows:
            self.pool.clear(free=True)
        if self.language.device.type == "cuda":
            torch.cuda.empty_cache()
        self.features.clear()
        if decoding:
            for waiting in rows:
                waiting.come_back()
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

    # ---------------------------------------------------------------------------------------------------------- a batch

    def _look(self, waiting: Waiting) -> Exception | None:
        """Have the row's images read; gives what went wrong."""
        held = max((node.end for node in waiting.chain if node.held is not None), default=0)
        return waiting.window.look(waiting.parts, waiting.parts[held:], self.eyes, self.features)

    def _prefill(self, batch: list[Waiting]) -> list[Row]:
        """Have the batch's rows decoded; gives back those that have ended already."""
        began = time.perf_counter()
        window = batch[0].window
        cache, logits, follow = self.prefill(batch, self.limits)
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
            waiting.leave()
        return done
