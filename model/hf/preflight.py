"""Checks of a checkpoint's processor before the weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.chat_template import check_thinking
from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

from .formatting import first_line
from .loading import architecture
from .processor import Inputs
from .prompt_text import NOT_FOR_IMAGES, OTHER_TEMPLATE
from .synthetic_image import SyntheticImage
from .videos import NO_PLACE

QUESTION = "evalkit-question"


def check_requests(checkpoint: Checkpoint, processor: Any, requests: Sequence[Request]) -> None:
    """Raise ``UserError`` if the processor cannot make prompts of the requests, or the model not embed their tokens."""
    inputs = Inputs(processor)
    try:
        for request in requests:
            prompt = inputs.prompt(request)
            check_thinking(request, inputs.switches, prompt)
            if request.videos and inputs.video_format is not None and not inputs.takes_videos:
                raise UserError(f"{NO_PLACE}; {OTHER_TEMPLATE}")
        if any(request.messages[0].role != "plain" for request in requests):
            check_chat_template(inputs)
        check_vocabulary(checkpoint, inputs.tokenizer)
    except UserError as error:
        option = f"--model {checkpoint.name}" if checkpoint.chat_template is None else "--chat-template"
        raise UserError(f"{option}: {error}") from error


def check_chat_template(inputs: Inputs) -> None:
    """Raise ``UserError`` if the chat template, or the processor's output for it, has no place for an image."""
    image, text = ImagePart(SyntheticImage("a generated image", 256, 256)), TextPart(QUESTION)
    request = Request("template", (Message("user", (image, text)),), Decoding(1))
    prompt = inputs.prompt(request)
    without_image = inputs.prompt(replace(request, messages=(Message("user", (text,)),)))
    if QUESTION not in prompt or "'type':" in prompt or prompt == without_image:
        raise UserError(f"{NOT_FOR_IMAGES}; {OTHER_TEMPLATE}")
    for _, error in inputs.prepare(inputs.plan(request)).failed:
        raise UserError(f"{NOT_FOR_IMAGES} ({first_line(error)}); {OTHER_TEMPLATE}") from error


def check_vocabulary(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """Raise ``UserError`` if the tokenizer has tokens without an embedding; no weights are read."""
    text_config = checkpoint.config.get("text_config")
    sizes = [part.get("vocab_size") for part in (text_config, checkpoint.config) if isinstance(part, Mapping)]
    size = next((size for size in sizes if isinstance(size, int)), None)
    if size is not None and max(tokenizer.get_vocab().values()) < size:
        return
    try:
        model = architecture(checkpoint)  # its embedding can have more rows than the configuration says
    except Exception:  # loading will fail
        return
    check_embeddings(model, tokenizer)


def check_embeddings(model: Any, tokenizer: Any) -> None:
    """Raise ``UserError`` if ``tokenizer`` has tokens that ``model`` has no embedding of."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    if weight is None:
        return
    rows = int(weight.shape[0])
    token, last = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    if last >= rows:
        raise UserError(
            f"the tokenizer has {last + 1:,} tokens, but the model has embeddings of {rows:,} ({token!r} has none); "
            "save the checkpoint after resize_token_embeddings, or take the tokenizer of the checkpoint that it was "
            "trained from (--processor)."
        )
