"""The check that a checkpoint answers: a few tokens, generated in the way that ``evalkit run`` generates answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from evalkit.errors import UserError
from evalkit.interfaces import Backend
from evalkit.model.hf.formatting import first_line, quiet
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.synthetic_image import SyntheticImage
from evalkit.types import Batching, Check, Decoding, ImagePart, Message, Request, TextPart

NAME = "generation"
QUESTIONS = ("What is in the image?", "What colour is it?")
SIDES = (256, 200)
"""Of the images, in pixels."""
NEW_TOKENS = 4

MakeBackend = Callable[[Any, Any, Batching], Backend]
"""Makes a backend of a model, its processor, and how requests are batched."""


def generation_check(model: Any, processor: Any, make_backend: MakeBackend) -> Check:
    """Two answers from the backend of a run: with the generation config's tokens, the chat template, and a batch."""
    began = time.monotonic()
    try:
        with quiet():
            backend = make_backend(model, processor, Batching(len(QUESTIONS)))
            try:
                responses = list(backend.generate(_requests(processor)))
                how = str(backend.describe().get("engine", backend.name))
            finally:
                backend.close()
    except UserError as error:
        return Check(NAME, False, str(error).rstrip("."))
    except Exception as error:  # any failure is a result of this check
        return Check(NAME, False, f"{type(error).__name__}: {first_line(error)}")
    if errors := [response.error for response in responses if response.finish == "error"]:
        return Check(NAME, False, str(errors[0]))
    count = sum(len(response.tokens) for response in responses)
    seconds = time.monotonic() - began
    return Check(NAME, True, f"{count} tokens in {len(responses)} answers, as in a run: {how} ({seconds:.1f} s)")


def _requests(processor: Any) -> list[Request]:
    role: Any = "user" if Inputs(processor).has_chat_template else "plain"
    found = []
    for question, side in zip(QUESTIONS, SIDES, strict=True):
        image = SyntheticImage(f"a generated image of {side} pixels", side, side)
        message = Message(role, (ImagePart(image), TextPart(question)))
        found.append(Request(f"verify-{side}", (message,), Decoding(NEW_TOKENS)))
    return found
