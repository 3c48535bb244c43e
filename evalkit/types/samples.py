"""Benchmarks as values: images, samples and splits."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, Union

from .media import ImageRef

if TYPE_CHECKING:
    from .messages import Message
    from .videos import VideoRef


Kind = Literal[
    "caption", "vqa", "document", "choice", "yes_no", "grounding", "pointing", "detection", "temporal_grounding"
]  # fmt: skip
"""What is asked for; a family renders a prompt and reads an answer per kind."""
LOCATED: frozenset[Kind] = frozenset(("grounding", "pointing", "detection"))
"""The kinds whose answers are places in the image, boxes or points, which need coordinates."""


Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2), pixels of the original image, x to the right, y down."""


Point = tuple[float, float]
"""(x, y), pixels of the original image, x to the right, y down."""


class LabelledBox(TypedDict):
    """A box with the name of what is in it: an object to detect, or a detected one.

    Attributes:
        crowd: of a reference: whether it is a group of objects (COCO's ``iscrowd``), in which detections do not count.
    """

    label: str
    box: Box
    crowd: NotRequired[bool]


LabelledBoxes = tuple[LabelledBox, ...]
"""All objects that an answer names; empty if it says that there are none."""

CATEGORY_SEPARATOR = ", "
"""Separates the names of categories in the text of a sample of the kind ``detection``."""


Part = str | ImageRef
"""A piece of an option: text or an image."""
ContentPart = Union[str, ImageRef, "VideoRef"]
"""A piece of a sample's content: text, an image or a video."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of one benchmark: its videos and images followed by its text, or ``interleaved`` content.

    Attributes:
        id: unique within the task's split, and stable: the official id where there is one.
        images: the question's images, usually one.
        text: the question or referring expression as the files have it; empty for captioning.  For ``detection``, the
            names of all categories, joined by ``CATEGORY_SEPARATOR``.
        references: what an answer is scored against (ten answers, five captions, one box, any number of labelled
            boxes): the metric knows the type.
        cluster: the unit that is resampled together, usually the image, since its questions are not independent.
        options: the options of a multiple-choice question, in order; texts or images.  An empty text is no option: it
            keeps a letter free, so that the options after it have the letters that the files give them.
        meta: what breakdowns need (answer type, question type), which samples are aggregated together (pairs, figures,
            languages), what a metric declares to need besides the references (MathVista's ``precision``), and what
            prompts quote apart from the question (``hint``, ``prompt``, ``preamble``).
        content: texts, images and videos of the question in order, if they are not the videos and images followed by
            the text.
        kind: what it asks for, if that is not what the task's samples usually ask for: an open question among
            multiple-choice questions, for instance.
        videos: the question's videos, usually one, if any.
        turns: the conversation before the question, as it was: its users', assistants' and system's turns with their
            images and videos.  Only the answer to the question is scored.
    """

    id: str
    images: tuple[ImageRef, ...]
    text: str
    references: tuple[Any, ...]
    cluster: str
    options: tuple[Part, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    content: tuple[ContentPart, ...] = ()
    kind: Kind | None = None
    videos: tuple[VideoRef, ...] = ()
    turns: tuple[Message, ...] = ()

    @classmethod
    def interleaved(
        cls,
        id: str,
        content: Sequence[ContentPart],
        *,
        references: tuple[Any, ...],
        cluster: str,
        options: Sequence[Part] = (),
        meta: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
    ) -> Sample:
        """A sample whose question mixes texts, images and videos in any order.

        ``images``, ``videos`` and ``text`` are taken from ``content``; the text marks the places of the others.
        """
        return cls(
            id,
            tuple(part for part in content if isinstance(part, ImageRef)),
            "".join(_marked(content, 1)),
            references,
            cluster,
            tuple(options),
            meta or {},
            tuple(content),
            kind,
            tuple(part for part in content if not isinstance(part, (str, ImageRef))),
        )

    @property
    def all_images(self) -> tuple[ImageRef, ...]:
        """The images of the turns before the question, those of the question, then those of the options."""
        before = self._in_turns("image") if self.turns else ()
        return (*before, *self.images, *(option for option in self.options if not isinstance(option, str)))

    @property
    def all_videos(self) -> tuple[VideoRef, ...]:
        """The videos of the turns before the question, then those of the question."""
        return (*self._in_turns("video"), *self.videos) if self.turns else self.videos

    def _in_turns(self, medium: str) -> tuple[Any, ...]:
        parts = (part for turn in self.turns for part in turn.content)
        return tuple(getattr(part, medium) for part in parts if hasattr(part, medium))

    @property
    def lettered_options(self) -> tuple[tuple[str, Part], ...]:
        """The options with their letters."""
        letters = map(chr, itertools.count(ord("A")))
        return tuple((letter, option) for letter, option in zip(letters, self.options, strict=False) if option != "")

    @property
    def option_texts(self) -> tuple[str, ...]:
        """The options as texts, with a mark in the place of an image: ``⟨image 2⟩`` is the second of ``all_images``."""
        return _marked(self.options, len(self.images) + 1)


def _marked(parts: Iterable[ContentPart], first: int) -> tuple[str, ...]:
    """``parts`` as texts, with marks in the places of images, numbered from ``first``, and of videos, from 1."""
    images, videos = itertools.count(first), itertools.count(1)
    return tuple(
        part
        if isinstance(part, str)
        else f"⟨image {next(images)}⟩"
        if isinstance(part, ImageRef)
        else f"⟨video {next(videos)}⟩"
        for part in parts
    )


@dataclass(frozen=True)
class Split:
    """A split of a task.

    Attributes:
        size: the official number of samples; None if it varies.
        answers: whether references are public; if not, answers are written as a submission and not scored.
    """

    size: int | None
    about: str = ""
    answers: bool = True
