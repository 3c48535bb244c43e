"""One encoding of an image for all its questions in a batch, in models that run through their own ``generate``."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from evalkit.model.hf.planned import PlannedRequest
from evalkit.model.hf.positions import trained_positions
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.synthetic_image import SyntheticImage
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart, image_key

from .compatibility import MAX_TOLERANCE
from .language_model import TOLERANCE, relative_error
from .patches.encode_once import EncodeOnce

log = logging.getLogger(__name__)

QUESTIONS = ("Say in some detail what can be seen in this image.", "Colours?")


class EncoderSharing:
    """Encodes each image of a batch once, if the model's logits stay the same but for rounding.

    That is tried when a batch first has an image twice, and again when one has prompts with several images.  The model
    is changed only while such a batch is computed.
    """

    def __init__(self, model: Any, inputs: Inputs) -> None:
        self.model = model
        self.inputs = inputs
        encoder = image_encoder(model)
        self._once = None if encoder is None else EncodeOnce(encoder)
        self._works: dict[bool, bool] = {}  # with several images in a prompt, or one

    @contextmanager
    def batch(self, batch: Sequence[PlannedRequest]) -> Iterator[None]:
        """While this batch is computed, encode each of its images once.  Videos are left alone."""
        if not has_repeated_images(batch):
            yield
            return
        several = any(len(planned.request.images) > 1 for planned in batch)
        if several not in self._works:
            self._works[several] = self._check(several)
        once = self._once
        if once is None or not self._works[several]:
            yield
            return
        with once.active():
            yield
        if once.problem is not None:
            self._works[several] = self._refused(once.problem)
            once.problem = None

    def _check(self, several: bool) -> bool:
        """Whether the model's logits stay the same for prompts with one image, or several."""
        once = self._once
        if once is None:
            return self._refused("its vision encoder was not found")
        requests = _requests(several=several, plain=not self.inputs.has_chat_template)
        given, encoded = once.given, once.encoded
        try:
            expected = self._logits(requests)
            with once.active():
                found = self._logits(requests)
            problem, once.problem = once.problem, None
            if problem is not None:
                return self._refused(problem)
            if once.given - given <= once.encoded - encoded:
                return self._refused("the encoder was not given an image twice")
            if not _difference(expected, found) <= self._tolerance(once, requests):
                return self._refused("its logits would differ")
        except Exception as error:  # whatever a model or its processor raises: generate encodes all images
            return self._refused(f"{type(error).__name__}: {error}")
        name, prompts = type(self.model).__name__, "several images" if several else "an image"
        log.info("%s encodes an image of a batch once, in prompts with %s", name, prompts)
        return True

    def _refused(self, why: str) -> bool:
        log.info("%s encodes an image for each of its questions: %s", type(self.model).__name__, why)
        return False

    def _tolerance(self, once: EncodeOnce, requests: Sequence[Request]) -> float:
        """The largest relative error of logits that is due to rounding; the first two requests show the same."""
        tolerance = TOLERANCE[self.model.dtype]
        if self.model.dtype == torch.float32:
            return tolerance
        # In half precision logits depend on the size of a batch.  The encoder is given the same in both.
        with once.active():
            alone, both = self._logits(requests[:1]), self._logits(requests[:2])
        return max(tolerance, min(3 * _difference(alone, both[:1]), MAX_TOLERANCE))

    def _logits(self, requests: Sequence[Request]) -> torch.Tensor:
        """The model's logits for the first token of each answer.

        Raises:
            OSError, ValueError: the processor rejects the requests, or such a batch.
        """
        prepared = self.inputs.prepare([row for request in requests for row in self.inputs.plan(request)])
        for _, error in prepared.failed:
            raise error
        if prepared.alone:
            raise ValueError("its processor does not take such batches")
        tensors = prepared.inputs.to(self.model.device, dtype=self.model.dtype)
        with torch.inference_mode(), trained_positions(self.model, tensors["attention_mask"]):
            out = self.model.generate(
                **tensors, do_sample=False, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
            )  # fmt: skip
        logits: torch.Tensor = out.logits[0].float()
        return logits


def image_encoder(model: Any) -> nn.Module | None:
    """The module of a model that is given the pixels of images; None if there is none of its own."""
    try:
        encoder: Any = model.get_encoder(modality="image")
        words: Any = model.get_input_embeddings()
    except Exception:  # models of other makers may not have these methods
        return None
    if not isinstance(encoder, nn.Module) or any(module is words for module in encoder.modules()):
        return None  # transformers returns the model itself where it finds no encoder
    return encoder


def has_repeated_images(batch: Sequence[PlannedRequest]) -> bool:
    """Whether a batch without videos shows an image more than once."""
    keys = [image_key(image) for planned in batch for image in planned.request.images]
    return len(set(keys)) < len(keys) and not any(planned.encoded_videos for planned in batch)


def _difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest relative error of a row's logits; infinite where they are no numbers."""
    errors = [relative_error(*rows) for rows in zip(expected, found, strict=True)]
    return max(error if math.isfinite(error) else math.inf for error in errors)


def _requests(*, several: bool, plain: bool) -> list[Request]:
    """Prompts with an image that is also in others, and one that is not, or with both in changing places."""
    a, b = ImagePart(SyntheticImage("a", 190, 130)), ImagePart(SyntheticImage("b", 120, 150, rotated=True))
    first, second = map(TextPart, QUESTIONS)
    one = ((a, first), (a, second), (b, first))
    more = ((a, first, b, second), (b, first, a, second), (a, first))
    messages = [Message("plain" if plain else "user", content) for content in (more if several else one)]
    return [Request(str(at), (message,), Decoding(max_new_tokens=1)) for at, message in enumerate(messages)]
