"""The model's own logits for a few small prompts, against which the engine's are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.model.hf.positions import trained_positions
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.synthetic_image import SyntheticImage
from evalkit.model.synthetic_video import EveryFrame, SyntheticVideo
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart, VideoPart

from .language_model import relative_error

QUESTION = "Say in some detail what can be seen in this image, and where."


@dataclass(frozen=True)
class ReferenceAnswer:
    """The model's first token for a request, and its logits for the first and the second token."""

    request: Request
    token: int
    logits: tuple[torch.Tensor, ...]


def reference_requests(*, plain: bool) -> list[Request]:
    """Two questions about one image, and one with another image after it.

    Args:
        plain: as running text, for models without a chat template.
    """
    a, b = ImagePart(SyntheticImage("a", 190, 130)), ImagePart(SyntheticImage("b", 120, 150))
    question = TextPart(QUESTION)
    if plain:
        contents: list[tuple[Message, ...]] = [
            (Message("plain", (a, question)),),
            (Message("plain", (a, TextPart("Colours:"))),),
            (Message("plain", (a, question, b, question)),),
        ]
    else:
        contents = [
            (Message("user", (a, question)),),
            (Message("user", (a, TextPart("Colours?"))),),
            (
                Message("user", (a, question)),
                Message("assistant", (TextPart("A"),)),
                Message("user", (b, question)),
            ),
        ]
    return [Request(str(at), messages, Decoding(max_new_tokens=2)) for at, messages in enumerate(contents)]


def video_request() -> Request:
    """A question about a video with more frame groups than a group has rows or columns, with an image after it."""
    video, image = VideoPart(SyntheticVideo("v", 9, 96, 64)), ImagePart(SyntheticImage("a", 190, 130))
    content = (video, TextPart(QUESTION), image, TextPart("Colours?"))
    return Request(
        "video", (Message("user", content),), Decoding(max_new_tokens=2), video_sampling=EveryFrame(columns=3, rows=2)
    )  # fmt: skip


def reference_answer(model: Any, inputs: Inputs, request: Request) -> ReferenceAnswer:
    """Answer a request with the model's ``generate``, and with the positions of videos as in training.

    Raises:
        OSError, ValueError, UserError, NotImplementedError: the processor or the model rejects the request.
    """
    prepared = inputs.prepare(inputs.plan(request))
    for _, error in prepared.failed:
        raise error
    tensors = prepared.inputs.to(model.device, dtype=model.dtype)
    with torch.inference_mode(), trained_positions(model):
        out = model.generate(
            **tensors,
            do_sample=False,
            max_new_tokens=2,
            min_new_tokens=2,
            output_logits=True,
            return_dict_in_generate=True,
        )
    token = int(out.sequences[0, tensors["input_ids"].shape[1]])
    return ReferenceAnswer(request, token, tuple(logits[0].float() for logits in out.logits))


def batching_noise(model: Any, inputs: Inputs, answers: Sequence[ReferenceAnswer]) -> float:
    """The relative error of the model's own logits when prompts are batched; 0 if they cannot be.

    It is due to rounding, and in half precision it grows with a model's depth.
    """
    prepared = inputs.prepare([planned for answer in answers for planned in inputs.plan(answer.request)])
    if len(prepared.batch) != len(answers):
        return 0.0
    tensors = prepared.inputs.to(model.device, dtype=model.dtype)
    with torch.inference_mode():
        out = model.generate(
            **tensors, do_sample=False, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
        )  # fmt: skip
    pairs = zip(answers, out.logits[0].float(), strict=True)
    errors = [relative_error(answer.logits[0], batched) for answer, batched in pairs]
    return max(errors) if all(math.isfinite(error) for error in errors) else 0.0
