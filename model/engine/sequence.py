"""A sequence: one request, or one branch of a request with continuations, on its way through the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from evalkit.model.hf.continuations import Branch
from evalkit.model.hf.sampler import TokenSampler
from evalkit.model.videos import SelectedVideo
from evalkit.types import ImageRef

from .image_table import ImageTable
from .prefix_tree import Elements, Node
from .vision import ProcessedImage


class Status(Enum):
    """Where a sequence is."""

    WAITING = "waiting"  # to be prefilled
    RUNNING = "running"  # being decoded
    FINISHED = "finished"  # has all its tokens, or an error


@dataclass(eq=False)
class Sequence:
    """What is to be computed, its place in the prefix tree, and the output.

    Attributes:
        request: whose answer it is (the caller's own object).
        prompt: the prompt's tokens, with one placeholder per image and per frame group.
        images: the images, in the order of the placeholders.
        videos: the videos, likewise.
        estimated_tokens: the prompt's length with all visual tokens, as far as known before images are read.
        max_new_tokens: limit of the answer, including the token that ends it.
        min_new_tokens: ``stop_tokens`` are not generated before this many tokens.
        stop_tokens: the tokens that end the answer.
        branch: to score continuations: the tokens to force, and the options that they score.
        sampler: to sample tokens at random or with penalties; None for greedy decoding.
        hits_stop_string: whether the tokens so far contain a stop string.

        table: the images and videos of its window (set by ``place``, as are the next three).
        elements: the prompt's elements, see ``prefix_tree``.
        node: the deepest shared prefix above it.
        rope_factor: with which its keys are rotated.

        status: waiting, running or finished.
        tokens: the answer so far, including the token that ended it.
        launched: number of tokens computed, including those that the CPU has not read yet.
        loss_sums: the summed cross-entropy of each option of ``branch``.
        seconds: its share of the compute time so far.
        broken: whether its logits were NaN.
        prompt_tokens: the prompt's length.
        processed_images: its images as the model saw them.
        error: why it could not be answered.
    """

    request: object
    prompt: tuple[int, ...]
    images: tuple[ImageRef, ...]
    estimated_tokens: int
    max_new_tokens: int
    min_new_tokens: int = 0
    stop_tokens: tuple[int, ...] = ()
    videos: tuple[SelectedVideo, ...] = ()
    branch: Branch | None = None
    sampler: TokenSampler | None = None
    hits_stop_string: Callable[[list[int]], bool] | None = None

    table: ImageTable | None = None
    elements: Elements = ()
    node: Node | None = None
    rope_factor: float = 1.0

    status: Status = Status.WAITING
    tokens: list[int] = field(default_factory=list)
    launched: int = 0
    loss_sums: list[float] = field(default_factory=list)
    seconds: float = 0.0
    broken: bool = False
    prompt_tokens: int = 0
    processed_images: tuple[ProcessedImage, ...] = ()
    error: BaseException | None = None

    def place(self, table: ImageTable, elements: Elements, node: Node | None, rope_factor: float) -> None:
        """Set its place in a window's prefix tree."""
        self.table, self.elements, self.node, self.rope_factor = table, elements, node, rope_factor

    def restart(self) -> None:
        """Discard the output so far, to compute it again."""
        self.status, self.tokens, self.launched = Status.WAITING, [], 0
        self.loss_sums, self.broken = [], False
        if self.sampler is not None:
            self.sampler.restart()

    def interrupt(self) -> None:
        """Stop decoding it; its tokens so far will be prefilled after the prompt, and the next one follows them."""
        self.status, self.launched = Status.WAITING, len(self.tokens)

    def fail(self, error: BaseException) -> None:
        """Finish with an error."""
        self.status, self.error = Status.FINISHED, error

    @property
    def finished(self) -> bool:
        """Whether it has all its tokens, or an error."""
        return self.status is Status.FINISHED

    @property
    def is_greedy(self) -> bool:
        """Whether its next token is the most likely one, so that the CPU need not read it first."""
        return self.branch is None and self.sampler is None

    @property
    def fully_launched(self) -> bool:
        """Whether it has all its tokens, or will have once they are read."""
        return self.finished or (self.branch is None and self.launched >= self.max_new_tokens)

    @property
    def image_table(self) -> ImageTable:
        """``table``, of a sequence that has its place."""
        assert self.table is not None
        return self.table

    @property
    def prefixes(self) -> list[Node]:
        """The shared prefixes that it begins with, outermost first."""
        return self.node.chain() if self.node is not None else []

    @property
    def missing_prefixes(self) -> bool:
        """Whether a prefix is to be computed before its own tokens."""
        return any(node.prefix is None for node in self.prefixes)

    @property
    def unshared_elements(self) -> Elements:
        """The elements of its prompt that it does not share."""
        return self.elements[self.node.end :] if self.node is not None else self.elements

    @property
    def media(self) -> tuple[ImageRef | SelectedVideo, ...]:
        """Its videos and images."""
        return (*self.videos, *self.images)

    @property
    def pixels_to_read(self) -> dict[int, int]:
        """The number of pixels of each video that is to be decoded for it, see ``ImageTable.pixels_to_read``."""
        computed = max((node.end for node in self.prefixes if node.prefix is not None), default=0)
        return self.image_table.pixels_to_read(self.elements[computed:]) if self.videos else {}

    def retain_prefixes(self) -> None:
        """Count it as waiting for its prefixes again."""
        if self.node is not None:
            self.node.retain()

    def release_prefixes(self) -> None:
        """Count it as no longer waiting for its prefixes; those that nothing waits for are freed."""
        if self.node is not None:
            self.node.release()

    def wait_again(self) -> None:
        """Count it as waiting for its prefixes and images again."""
        self.retain_prefixes()
        self.image_table.retain(self.elements)

    @property
    def mean_losses(self) -> list[float]:
        """The mean cross-entropy per token of each option of ``branch``."""
        assert self.branch is not None
        return [total / len(tokens) for total, (_, tokens) in zip(self.loss_sums, self.branch.options, strict=True)]
