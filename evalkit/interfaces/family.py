"""The base class of model families."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from evalkit.reasoning import ANSWER, REASONING, Markers
from evalkit.types import (
    Decoding,
    ImageSize,
    Message,
    Part,
    Prediction,
    PromptSpec,
    Sample,
    SamplingPreset,
    Shot,
    Size,
    VideoGeometry,
)


class Family(ABC):
    """How a family of models is prompted and how its answers are parsed.

    If a protocol does not define a prompt for a task, no prompt is made up: ``prompt``, ``decoding``, ``parse`` and
    ``answer`` raise ``UserError``.

    Attributes:
        model_types: the ``model_type`` values (``config.json``) of the checkpoints that belong to it.
        coordinates: the convention of its boxes under its own protocol, in words; never guessed from an answer.
        several_images: whether a prompt can have more than one image, including those of few-shot examples.
        ranks_letters: whether its models' own evaluation ranks the letters of multiple-choice questions.
        reasoning: the markers of the reasoning before its models' answers, in prompts and in answers.
        answer_markers: the markers around its models' final answers.
        video_geometry: how its released models' encoder cuts frames; None if they are given frames as images.
        timed_videos: whether its models are told the times of frames.
        video_sampling: the name of the rule by which frames of videos are chosen (``evalkit.video.sampling``).
        without_sharing: why the ``hf`` backend's engine shares no prefixes between its models' requests; empty where it
            does.  The engine checks each model itself; this is for readers.
        shares_encodings: whether the ``hf`` backend, where it shares no prefixes, encodes an image once for its
            questions in a batch.  For readers, too.
        presets: the decoding of its models' own evaluations, by names for ``--preset``.
    """

    name: str
    coordinates: str
    model_types: Sequence[str] = ()
    several_images: bool = True
    ranks_letters: bool = False
    reasoning: Sequence[Markers] = REASONING
    answer_markers: Sequence[Markers] = ANSWER
    video_geometry: VideoGeometry | None = None
    timed_videos: bool = True
    video_sampling: str = "fps=2,max_frames=32"
    without_sharing: str = ""
    shares_encodings: bool = True
    presets: Mapping[str, SamplingPreset] = {}

    def claims(self, model_type: str, name: str, chat_format: object = None) -> bool:
        """Whether a checkpoint belongs to this family; at most one family may claim it.

        Args:
            model_type: of its ``config.json``.
            name: what the user calls it: a hub id or a folder.
            chat_format: of its ``generation_config.json``, where there is one.
        """
        return model_type in self.model_types

    def matches_name(self, name: str) -> bool:
        """Whether ``name`` sounds like one of its models; all that is known of a model behind some servers."""
        return _plain(self.name) in _plain(name)

    def prompt_end(self, name: str) -> str:
        """The marker with which the chat template of the checkpoint ``name`` opens reasoning; empty if it opens none.

        Used for models behind servers that do not show their prompts.
        """
        return ""

    @abstractmethod
    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """The conversation that asks ``sample``, after the few-shot examples with their images and answers."""

    @abstractmethod
    def decoding(self, spec: PromptSpec, default: Decoding) -> Decoding:
        """The task's decoding with the limits of the protocol and of this family."""

    @abstractmethod
    def parse(
        self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize], options: Sequence[Part] = ()
    ) -> Prediction:
        """The prediction in a raw answer; boxes in pixels of the original image.

        Args:
            options: of a multiple-choice question, whose letters alone are answers; passed for that kind only.
        """

    @abstractmethod
    def answer(self, spec: PromptSpec, sample: Sample, image_size: ImageSize) -> str:
        """The right answer as the family would write it (``parse`` returns it), for a few-shot example."""

    @abstractmethod
    def continuations(self, spec: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """The option letters as they would follow the prompt, in the order of the options."""

    @abstractmethod
    def image_size(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageSize:
        """The size of an image in the file and as the encoder sees it.

        Args:
            min_pixels, max_pixels: limits of the processor; None for those of the released one.
        """


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
