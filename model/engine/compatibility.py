"""Builds an engine for a model, if the engine reproduces the model's logits.

A model's name does not say whether it does, so it is tried on three small prompts: the model answers each of them
alone, the engine answers them as one batch with a shared prefix.  Where their logits differ by more than rounding, or
the model is known to need more than keys and values, ``UnsupportedModel`` says why, and the backend uses the model's
own ``generate``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from evalkit.errors import UserError
from evalkit.model.hf import memory
from evalkit.model.hf.positions import tokens_per_second
from evalkit.model.hf.processor import Inputs

from . import sequence
from .encoder_cache import EncoderCache
from .engine import Engine
from .image_table import Placeholders
from .kv_tensors import KVShape
from .language_model import LanguageModel, relative_error, text_model
from .options import EngineOptions, Limits
from .patches import patched
from .reference import ReferenceAnswer, batching_noise, reference_answer, reference_requests, video_request
from .vision import GenericImageProcessor, ImageProcessor, PatchImageProcessor

log = logging.getLogger(__name__)

MAX_TOLERANCE = 0.3  # largest logit difference attributed to rounding
# Defaults by device type; a CUDA device has the other one.
ROWS = {"cpu": 32, "mps": 32}
ROWS_ON_GPU = 256
TOKENS = {"cpu": 1280, "mps": 8192}  # small on a CPU, because of its caches: three images with their questions
TOKENS_ON_GPU = 32768
PREFETCH_PIXELS = {"cpu": 4 * 2**20}  # three bytes each (or 24, as floats)
PREFETCH_PIXELS_ON_GPU = 32 * 2**20
MAX_PREFETCH_WORKERS = 8
# Bytes of the encoder cache, which serves the images of few-shot examples. On other devices a share of free memory.
ENCODER_CACHE_BYTES = {"cpu": 256 * 2**20}


class UnsupportedModel(Exception):
    """Why the engine cannot answer for a model."""


def build_engine(model: Any, inputs: Inputs, *, rows: int | None, tokens: int | None, options: EngineOptions) -> Engine:
    """Return an engine that reproduces the model's logits.  Until it is closed, modules of the model are replaced.

    Args:
        rows: sequences decoded together; None for the device's default.
        tokens: tokens prefilled together; None for the device's default.

    Raises:
        UnsupportedModel: the engine cannot run the model, or its logits differ.
    """
    try:
        return _build_engine(model, inputs, rows=rows, tokens=tokens, options=options)
    except UnsupportedModel as error:
        if not options.packed_weights or str(getattr(model, "device", "")) != "cpu":
            raise
        log.info("with packed weights, the engine does not support %s: %s", type(model).__name__, error)
    unpacked = replace(options, packed_weights=False)
    return _build_engine(model, inputs, rows=rows, tokens=tokens, options=unpacked)


def _build_engine(
    model: Any, inputs: Inputs, *, rows: int | None, tokens: int | None, options: EngineOptions
) -> Engine:
    _check_architecture(model)
    placeholder, image_token = image_tokens(model, inputs.processor)
    video_token = video_token_of(model, inputs)
    answers = _reference_answers(model, inputs)
    language = LanguageModel(model, [token for token in (image_token, video_token) if token is not None])
    if model.dtype != torch.float32:
        noise = batching_noise(model, inputs, answers[:2])
        language.tolerance = max(language.tolerance, min(3 * noise, MAX_TOLERANCE))
        log.info("batching changes the model's own logits by %.1e of their spread", noise)
    with ExitStack() as stack:
        patches = stack.enter_context(patched(model, options))
        language.ends_with_last_token = patches.decoder_layers > 0
        processor = image_processor_for(model, inputs, image_token, video_token, grids_on_cpu=patches.grids_on_cpu)
        placeholders = Placeholders(placeholder, video_token)
        engine = _make_engine(model, language, processor, placeholders, rows=rows, tokens=tokens, options=options)
        try:
            _compare_with_prefixes(engine, inputs, answers[:2])
        except UnsupportedModel:
            raise
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error) else ""
            raise UnsupportedModel(f"{type(error).__name__}: {first}") from error
        try:  # some processors treat several images differently (LLaVA-OneVision cuts only a single one into tiles)
            _compare(engine, inputs, answers[2:])
        except Exception as error:
            engine.supports_several_images = False
            log.warning("%s: requests with several images go through generate (%s)", type(model).__name__, error)
        engine.supports_videos = video_token is not None and _supports_videos(engine, model, inputs)
        _check_pages(engine, inputs, answers[:2])
        engine.encoder_cache.clear()
        engine.resources = stack.pop_all()
    return engine


def image_tokens(model: Any, processor: Any) -> tuple[int, int]:
    """Return the token of an image's placeholder in a prompt, and that of a visual token.

    Raises:
        UnsupportedModel: the model or its tokenizer does not define them.
    """
    config = getattr(model, "config", None)
    names = ("image_token_id", "image_token_index")
    image = next((getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)), None)
    text = getattr(processor, "image_token", None)
    if image is None or not isinstance(text, str):
        raise UnsupportedModel("it does not define an image token")
    placeholder = processor.tokenizer.convert_tokens_to_ids(text)
    if not isinstance(placeholder, int) or placeholder == processor.tokenizer.unk_token_id:
        raise UnsupportedModel(f"its tokenizer does not know {text!r}")
    return placeholder, image


def video_token_of(model: Any, inputs: Inputs) -> int | None:
    """Return the token of a visual token's place in videos; None if the model takes none, or in an unknown way."""
    token = getattr(model.config, "video_token_id", None)
    if (
        inputs.video_format is None
        or not inputs.takes_videos
        or not hasattr(model.model, "get_rope_index")
        or not isinstance(token, int)
    ):
        return None
    return token if inputs.tokenizer.convert_tokens_to_ids(inputs.video_format.token) == token else None


def image_processor_for(
    model: Any, inputs: Inputs, image_token: int, video_token: int | None, *, grids_on_cpu: bool
) -> ImageProcessor:
    """Return the image processor that suits a model."""
    processor = inputs.processor
    image_processor = getattr(processor, "image_processor", None)
    if hasattr(model.model, "get_rope_index") and hasattr(image_processor, "merge_size"):
        return PatchImageProcessor(
            processor,
            image_token,
            videos=inputs.video_format,
            video_token=video_token,
            tokens_per_second=tokens_per_second(model),
            grids_on_cpu=grids_on_cpu,
        )
    return GenericImageProcessor(processor, image_token, processor.image_token)


def _check_architecture(model: Any) -> None:
    """Raise ``UnsupportedModel`` for what a comparison of logits could miss, or could not even try."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise UnsupportedModel("its prompts are read by an encoder")
    inner = text_model(model)
    if inner is None or not hasattr(model.model, "get_image_features") or model.get_output_embeddings() is None:
        raise UnsupportedModel("its language model and vision encoder cannot be called separately")
    config = inner.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UnsupportedModel(f"not all of its layers use full attention ({', '.join(sorted(kinds))})")
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise UnsupportedModel("its attention has a sliding window")
    if getattr(config, "original_padding", False):
        raise UnsupportedModel("its positions count the padding of its batch (original_padding)")
    if len({str(parameter.device) for parameter in model.parameters()}) > 1:
        raise UnsupportedModel("it is spread over several devices")
    KVShape.of(config)


def _reference_answers(model: Any, inputs: Inputs) -> list[ReferenceAnswer]:
    answers = []
    for request in reference_requests(plain=not inputs.has_chat_template):
        try:
            answers.append(reference_answer(model, inputs, request))
        except (OSError, ValueError, UserError, NotImplementedError) as error:
            if len(request.images) == 1:  # not every model takes several
                raise UnsupportedModel(f"it failed on a small image ({type(error).__name__}: {error})") from error
    return answers


def _supports_videos(engine: Engine, model: Any, inputs: Inputs) -> bool:
    """Whether the engine reproduces the model's logits for a video."""
    try:
        _compare(engine, inputs, [reference_answer(model, inputs, video_request())])
    except Exception as error:
        log.warning("%s: requests with videos go through generate (%s)", type(model).__name__, error)
        return False
    return True


def _make_engine(
    model: Any,
    language: LanguageModel,
    processor: ImageProcessor,
    placeholders: Placeholders,
    *,
    rows: int | None,
    tokens: int | None,
    options: EngineOptions,
) -> Engine:
    kind = model.device.type
    free = memory.free_memory(model.device)
    cached = min(free // 8, ENCODER_CACHE_BYTES.get(kind, free))
    return Engine(
        language,
        processor,
        EncoderCache(model.model, processor, device=model.device, dtype=model.dtype, max_bytes=cached),
        placeholders=placeholders,
        limits=Limits(rows or ROWS.get(kind, ROWS_ON_GPU), tokens or TOKENS.get(kind, TOKENS_ON_GPU), free - cached),
        options=options,
        prefetch_workers=_prefetch_workers(kind),
        prefetch_pixels=PREFETCH_PIXELS.get(kind, PREFETCH_PIXELS_ON_GPU),
    )


def _prefetch_workers(device_type: str) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_PREFETCH_WORKERS, cores // 2 if device_type == "cpu" else cores))


def _compare_with_prefixes(engine: Engine, inputs: Inputs, answers: Sequence[ReferenceAnswer]) -> None:
    """As ``_compare``; shared prefixes are copied to every row if attention cannot read them where they are."""
    try:
        _compare(engine, inputs, answers)
    except Exception as error:
        if not engine.language.reads_prefixes:
            raise
        log.info("shared prefixes of the KV cache are copied: %s: %s", type(error).__name__, error)
        engine.language.prefix_attention = False
        _compare(engine, inputs, answers)


def _check_pages(engine: Engine, inputs: Inputs, answers: Sequence[ReferenceAnswer]) -> None:
    """Choose the way in which decode steps read a paged cache, or none if neither reproduces the model's logits."""
    if not engine.options.paged_cache:
        return
    for in_place in (True, False):
        engine.language.page_attention = in_place
        try:
            _compare(engine, inputs, answers, paged=True)
        except Exception as error:
            how = "read in place" if in_place else "gathered"
            log.info("pages of the KV cache cannot be %s: %s: %s", how, type(error).__name__, error)
        else:
            return
    engine.scheduler.supports_pages = False


def _compare(engine: Engine, inputs: Inputs, answers: Sequence[ReferenceAnswer], *, paged: bool = False) -> None:
    """Raise ``UnsupportedModel`` if the engine's logits differ from the model's by more than rounding."""
    if not answers:
        raise UnsupportedModel("the model does not take several images")
    sequences = []
    for answer in answers:
        (planned,) = inputs.plan(answer.request)
        sequences.append(
            sequence.Sequence(
                planned, planned.ids, answer.request.images, planned.tokens, 2, videos=planned.encoded_videos
            )
        )
    with torch.inference_mode():
        found = engine.logits(sequences, [answer.token for answer in answers], paged=paged)
    for answer, logits in zip(answers, found, strict=True):
        for expected, ours in zip(answer.logits, logits, strict=True):
            if expected.shape != ours.shape:
                raise UnsupportedModel(
                    f"its logits have shape {tuple(expected.shape)}, the engine's {tuple(ours.shape)}"
                )
            error = relative_error(expected, ours)
            if not error <= engine.language.tolerance:
                raise UnsupportedModel(f"with shared prefixes its logits differ by {error:.1e} of their spread")
