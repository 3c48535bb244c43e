"""Questions and their answers: what is asked of a model, and what goes into a journal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from evalkit.end_of_turn import ended, first_turn
from evalkit.reasoning import REASONING, Markers, Parts, split
from evalkit.repeats import answer_key
from evalkit.types import (
    FinishReason,
    ImagePart,
    ImageRef,
    Message,
    Prediction,
    Request,
    Response,
    Sample,
    TextPart,
    VideoRef,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One answered sample, as it goes into the journal.

    Attributes:
        images: the images of the request, those of few-shot examples first.
        videos: the videos of the request, in the same order.
        digests: one per image, then one per video; None for an unreadable one.
        shots: the ids of the few-shot examples.
        markers: the markers of reasoning in the answer; none for final texts.
        repeat: the number of the answer among those to its sample, from 1.
    """

    sample: Sample
    prompt_digest: str
    response: Response
    prediction: Prediction
    images: tuple[ImageRef, ...] = ()
    digests: tuple[str | None, ...] = ()
    shots: tuple[str, ...] = ()
    markers: Sequence[Markers] = REASONING
    repeat: int = 1
    videos: tuple[VideoRef, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from the answers to other samples and from other answers to its own (``answer_key``)."""
        return answer_key(self.sample.id, self.repeat)

    @property
    def parts(self) -> Parts:
        """The reasoning and the final answer."""
        text = self.response.text
        return split(first_turn(text), self.markers, ended=ended(text, known_finish(self.response, self.prompt_digest)))

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the answer off: it says so, or its reasoning does not end."""
        return self.response.finish == "length" or (self.response.finish == "stop" and not self.parts.complete)


def known_finish(response: Response, prompt_digest: str) -> FinishReason | None:
    """How an answer ended; None for one from a predictions file, which has no prompt and does not say."""
    return response.finish if prompt_digest else None


@dataclass(frozen=True)
class Question:
    """A sample with its request for one of its answers; ``shots`` are the ids of its few-shot examples."""

    sample: Sample
    request: Request
    shots: tuple[str, ...] = ()
    markers: Sequence[Markers] = REASONING
    repeat: int = 1

    @cached_property
    def digest(self) -> str:
        """A digest of the request: roles, texts and continuations in order, images as placeholders."""
        return prompt_digest(self.request.messages, self.request.continuations)

    def answered(self, response: Response, prediction: Prediction, digests: tuple[str | None, ...]) -> Record:
        """The record of an answer."""
        request = self.request
        return Record(
            self.sample, self.digest, response, prediction, request.images, digests, self.shots, self.markers,
            self.repeat, request.videos,
        )  # fmt: skip


def prompt_digest(messages: Sequence[Message], continuations: Sequence[str] = ()) -> str:
    """A digest of the request: roles, texts and continuations in order, images and videos as placeholders."""
    state = hashlib.sha256()
    for message in messages:
        state.update(f"\x1e{message.role}".encode())
        for part in message.content:
            mark = b"\x1f" if isinstance(part, ImagePart) else b"\x1b"
            state.update(f"\x1d{part.text}".encode(errors="surrogatepass") if isinstance(part, TextPart) else mark)
    for text in continuations:
        state.update(f"\x1c{text}".encode(errors="surrogatepass"))
    return state.hexdigest()[:16]
