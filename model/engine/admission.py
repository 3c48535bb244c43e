"""Which waiting sequences the next prefill takes, and which running ones are put back when memory is short."""

from __future__ import annotations

from collections.abc import Callable

from .batch import Batch
from .decode_batch import DecodeBatch
from .language_model import LanguageModel
from .options import EngineOptions, Limits
from .pages import PAGE_TOKENS
from .prefill import MASK_BYTES, MASK_SHARE
from .prefix_tree import Node
from .sequence import Sequence

# Answers that may be longer than this are kept in pages. On CUDA only if memory is too small for rows of their length:
# decode steps of the contiguous cache are captured as graphs there.
LONG_ANSWER = 128
# Tokens prefilled between two decode steps of the paged cache. The first prefill takes more: nothing waits for it.
CHUNK = {"cpu": 512}
CHUNK_ON_GPU = 2048
LEAST = {"cpu": 1}  # rows that join the running ones of the paged cache, if so many are waiting
LEAST_ON_GPU = 8
# Pixels of videos that are decoded for one prefill (three bytes each), beside the next one.
VIDEO_PIXELS = {"cpu": 48 * 2**20}
VIDEO_PIXELS_ON_GPU = 512 * 2**20
PREFILL_SHARE = 8  # the part of the memory that rows with copies of their prefixes may take during a prefill


class Admission:
    """Chooses sequences for a prefill, and for preemption.

    Args:
        load: loads a sequence's images; raises ``OSError`` or ``ValueError``.

    Attributes:
        video_pixels: how many pixels of videos may be decoded for one prefill (the first video always may).
        chunk: number of tokens to prefill between two decode steps of the paged cache.
        preemptions: number of times that a running sequence was put back because pages were short.
    """

    def __init__(
        self, language: LanguageModel, running: DecodeBatch, options: EngineOptions, load: Callable[[Sequence], None]
    ) -> None:
        self.running = running
        self.options = options
        self.load = load
        self.bytes_per_token = language.shape.bytes(language.dtype)
        self.least = LEAST.get(language.device.type, LEAST_ON_GPU)
        self.chunk = CHUNK.get(language.device.type, CHUNK_ON_GPU)
        self.video_pixels = VIDEO_PIXELS.get(language.device.type, VIDEO_PIXELS_ON_GPU)
        self.preemptions = 0
        self.captures = options.cuda_graphs and language.device.type == "cuda"

    def wants_pages(self, waiting: list[Sequence], limits: Limits) -> bool:
        """Whether the paged cache suits these sequences."""
        if not waiting:
            return False
        if not self.captures:
            return max(sequence.max_new_tokens for sequence in waiting) > LONG_ANSWER
        longest = max(s.image_table.tokens(s.elements) + s.max_new_tokens for s in waiting)
        rows = min(limits.rows, len(waiting))
        return self.options.token_budget and 2 * rows * longest * self.bytes_per_token > limits.bytes

    def part_tokens(self, waiting: list[Sequence], limits: Limits) -> int:
        """The number of tokens of long prompts, of videos, that are prefilled at a time."""
        longest = max(sequence.image_table.tokens(sequence.elements) for sequence in waiting)
        return max(1, min(limits.tokens, max(self.chunk, limits.bytes // MASK_SHARE // (MASK_BYTES * longest))))

    def has_room(self, limits: Limits, *, paged: bool) -> bool:
        """Whether to prefill now; a forward pass for only a few sequences would not be worth it.

        Args:
            paged: whether the waiting sequences want the paged cache: they wait until the other one is empty.
        """
        live = len(self.running)
        if live == 0 or not self.options.continuous_batching:
            return live == 0
        if self.running.uses_pages:
            return live + min(self.least, max(1, limits.rows // 8)) <= limits.rows
        return live <= limits.rows // 2 and not paged

    def fill(self, batch: Batch, waiting: list[Sequence], limits: Limits) -> None:
        """Move sequences of one window from the end of ``waiting`` to the batch."""
        if self.running.uses_pages:
            self._fill_pages(batch, waiting, limits)
            return
        for sequence in self._for_rows(waiting, limits):
            if self._loaded(batch, sequence):
                batch.sequences.append(sequence)

    def _loaded(self, batch: Batch, sequence: Sequence) -> bool:
        try:
            self.load(sequence)
        except (OSError, ValueError) as error:
            sequence.fail(error)
            sequence.release_prefixes()
            batch.failed.append(sequence)
            return False
        return True

    def _for_rows(self, waiting: list[Sequence], limits: Limits) -> list[Sequence]:
        """Take sequences for rows that are as long as the longest one may become."""
        live = len(self.running)
        budgeted = self.options.token_budget
        admitted: list[Sequence] = []
        unshared = longest = 0
        decoded: dict[int, int] = {}
        while waiting and len(admitted) + live < limits.rows:
            sequence = waiting[-1]
            table = sequence.image_table
            if admitted and table is not admitted[0].table:
                break
            decoded |= sequence.pixels_to_read
            if admitted and sum(decoded.values()) > self.video_pixels:
                break
            unshared = max(unshared, table.tokens(sequence.unshared_elements) + len(sequence.tokens))
            longest = max(longest, table.tokens(sequence.elements) + sequence.max_new_tokens)
            rows = len(admitted) + 1
            if admitted and budgeted and rows * unshared > limits.tokens:
                break
            # Twice: a growing cache is copied, and prefixes are held beside the rows into which they are copied.
            if admitted and budgeted and 2 * (rows + live) * longest * self.bytes_per_token > limits.bytes:
                break
            admitted.append(waiting.pop())
        return admitted

    def _fill_pages(self, batch: Batch, waiting: list[Sequence], limits: Limits) -> None:
        """Take sequences as long as there are pages for their prompts, and one more for every running sequence."""
        cache = self.running.paged
        live = len(self.running)
        counted: set[Node] = set()
        decoded: dict[int, int] = {}
        pages = unshared = longest = new = 0
        admitted = batch.sequences
        while waiting and len(admitted) + live < limits.rows:
            sequence = waiting[-1]
            table = sequence.image_table
            if admitted and table is not admitted[0].table:
                break
            decoded |= sequence.pixels_to_read
            if admitted and sum(decoded.values()) > self.video_pixels:
                break
            if not self._loaded(batch, sequence):
                waiting.pop()
                continue
            for node in sequence.prefixes:
                node.tokens = table.tokens(sequence.elements[node.start : node.end])
            own = table.tokens(sequence.unshared_elements) + len(sequence.tokens)
            unshared = max(unshared, own)
            longest = max(longest, table.tokens(sequence.elements) + len(sequence.tokens))
            new += own + sum(node.tokens for node in sequence.prefixes if node.prefix is None and node not in counted)
            pages += cache.pages_for(sequence.prefixes, own, counted)
            rows = len(admitted) + 1
            if admitted and self.options.token_budget:
                if rows * unshared > limits.tokens or (live and new > self.chunk):
                    break
                if rows * longest * self.bytes_per_token > limits.bytes // PREFILL_SHARE:
                    break
            if (admitted or live) and pages + live + rows > cache.free:
                break
            admitted.append(waiting.pop())

    def needs_parts(self, sequences: list[Sequence]) -> bool:
        """Whether the prefill of admitted sequences should be done in parts, with decode steps between them."""
        missing = {node for sequence in sequences for node in sequence.prefixes if node.prefix is None}
        own = sum(s.image_table.tokens(s.unshared_elements) + len(s.tokens) for s in sequences)
        new = own + sum(node.tokens for node in missing)
        return self.running.uses_pages and bool(missing) and new > self.chunk

    def fits(self, sequences: list[Sequence]) -> bool:
        """Whether there are still pages for sequences whose images are loaded."""
        cache, counted = self.running.paged, set[Node]()
        needed = 0
        for sequence in sequences:
            own = sequence.image_table.tokens(sequence.unshared_elements) + len(sequence.tokens)
            needed += cache.pages_for(sequence.prefixes, own, counted)
        return needed <= cache.free

    def is_short(self) -> bool:
        """Whether there are too few free pages for the next decode step."""
        return self.running.paged.pages_to_grow() > self.running.paged.free

    def make_room(self, waiting: list[Sequence]) -> list[Sequence]:
        """Put the last running sequences back until there are pages for the others.

        Their tokens are kept.  All tokens must have been read.

        Returns:
            a sequence that does not fit alone.
        """
        while len(self.running) > 1 and self.is_short():
            sequence = self.running.remove_last()
            sequence.wait_again()
            waiting.append(sequence)
            self.preemptions += 1
        if not self.is_short():
            return []
        tokens = self.running.paged.pool.capacity * PAGE_TOKENS
        (sequence,) = self.running.clear(free_memory=False)
        answered = len(sequence.tokens)
        message = f"out of memory after {answered} tokens of the answer: the KV cache has room for {tokens} tokens"
        sequence.fail(MemoryError(f"{message}; lower --max-new-tokens or --max-pixels"))
        return [sequence]
