"""An engine for a model, where the engine and the model agree.

Whether they do is not known from a model's name: it is tried on three small prompts at the start.  The model itself
answers each of them alone; the engine answers them together, sharing what they have in common.  Where their logits
differ by more than rounding, or where the model is known to need more than keys and values, the model's own
``generate`` is used instead, and a line says so.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from evalkit.errors import UserError
from evalkit.model.hf import memory
from evalkit.model.hf.processor import Inputs
from evalkit.types import Decoding, ImagePart, ImageRef, Message, Request, TextPart

from .engine import Engine
from .image_table import Item
from .kv_cache import Shape
from .model_runner import Language, apart, text_part
from .options import Limits, Options
from .patches import patched
from .vision import AnyEyes, Eyes, Features, PatchEyes

log = logging.getLogger(__name__)

# At most this is put down to rounding: what is computed wrongly lies further apart.
MOST = 0.3
ROWS = {"cpu": 32, "mps": 32}
ROWS_ON_GPU = 256
# Small on a CPU, whose caches hold little: three images and their questions.
TOKENS = {"cpu": 1280, "mps": 8192}
TOKENS_ON_GPU = 32768
WORKERS = 8  # threads that read images, where the cores have nothing else to do
# Pixels that may lie ready, three bytes each (or 24, as numbers): a GPU is fed a batch at a time.
AHEAD = {"cpu": 4 * 2**20}
AHEAD_ON_GPU = 32 * 2**20
# Bytes of encoded images: for exemplars, which are what is seen again. Elsewhere a share of what is free.
FEATURES = {"cpu": 256 * 2**20}


class UnsupportedModel(Exception):
    """Why the engine cannot answer for a model."""


@dataclass(frozen=True)
class _Drawn(ImageRef):
    """A generated image."""

    name: str
    width: int
    height: int

    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def load(self) -> Image.Image:
        across = Image.linear_gradient("L").resize((self.width, self.height))
        round_ = Image.radial_gradient("L").resize((self.width, self.height))
        return Image.merge("RGB", (across, across.rotate(180), round_))

    def digest(self) -> str:
        return self.name


def build(
    model: Any,
    inputs: Inputs,
    *,
    rows: int | None,
    tokens: int | None,
    options: Options,
) -> Engine:
    """An engine that answers as the model does.

    Args:
        rows: decoded together; None for what suits the device.
        tokens: prefilled together; None for what suits the device.

    Raises:
        UnsupportedModel: it would not, or cannot.
    """
    processor = inputs.processor
    place, image = _tokens(model, processor)
    _check(model)
    requests = _requests(plain=not inputs.template)
    wanted = []
    for request in requests:
        try:
            wanted.append(_alone(model, inputs, request))
        except (OSError, ValueError, UserError, NotImplementedError) as error:
            if len(request.images) == 1:  # not every model takes several
                raise UnsupportedModel(f"it failed on a small image ({type(error).__name__}: {error})") from error
    language = Language(model, image)
    if model.dtype != torch.float32:
        noise = _noise(model, inputs, requests[:2], wanted[:2])
        language.tolerance = max(language.tolerance, min(3 * noise, MOST))
        log.info("logits move by %.1e of their spread where prompts go together", noise)
    with ExitStack() as stack:
        patches = stack.enter_context(patched(model, options))
        eyes = _eyes(model, processor, image, stay=patches.grids_on_cpu)
        room = memory.free_memory(model.device)
        kind = model.device.type
        kept = min(room // 8, FEATURES.get(kind, room))
        features = Features(model.model, eyes, device=model.device, dtype=model.dtype, limit=kept)
        limits = Limits(rows or ROWS.get(kind, ROWS_ON_GPU), tokens or TOKENS.get(kind, TOKENS_ON_GPU), room - kept)
        engine = Engine(
            language,
            eyes,
            features,
            place=place,
            limits=limits,
            options=options,
            workers=_workers(kind),
            ahead=AHEAD.get(kind, AHEAD_ON_GPU),
        )
        try:
            _compare(engine, inputs, requests[:2], wanted[:2])
        except UnsupportedModel:
            raise
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error) else ""
            raise UnsupportedModel(f"{type(error).__name__}: {first}") from error
        try:  # some processors treat several images differently (LLaVA-OneVision cuts only a single one into tiles)
            _compare(engine, inputs, requests[2:], wanted[2:])
        except Exception as error:
            engine.several = False
            log.warning("%s: requests with several images go through generate (%s)", type(model).__name__, error)
        features.clear()
        engine.resources = stack.pop_all()
    return engine


def _workers(kind: str) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(WORKERS, cores // 2 if kind == "cpu" else cores))


def _tokens(model: Any, processor: Any) -> tuple[int, int]:
    """The token of an image's place in a prompt, and that of its features' places."""
    config = getattr(model, "config", None)
    names = ("image_token_id", "image_token_index")
    image = next((getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)), None)
    written = getattr(processor, "image_token", None)
    if image is None or not isinstance(written, str):
        raise UnsupportedModel("it does not say which token stands for an image")
    place = processor.tokenizer.convert_tokens_to_ids(written)
    if not isinstance(place, int) or place == processor.tokenizer.unk_token_id:
        raise UnsupportedModel(f"its tokenizer does not know {written!r}")
    return place, image


def _check(model: Any) -> None:
    """Raises ``UnsupportedModel`` for what the comparison below could miss, or could not even try."""
    inner = text_part(model)
    if inner is None or not hasattr(model.model, "get_image_features") or model.get_output_embeddings() is None:
        raise UnsupportedModel("it is not made of a language model and a vision encoder that can be called alone")
    config = inner.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UnsupportedModel(f"its layers are not all plain attention ({', '.join(sorted(kinds))})")
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise UnsupportedModel("its attention has a sliding window")
    if getattr(config, "original_padding", False):
        raise UnsupportedModel("its positions count the padding of its batch (original_padding)")
    if len({str(p.device) for p in model.parameters()}) > 1:
        raise UnsupportedModel("it is spread over several devices")
    Shape.of(config)


def _eyes(model: Any, processor: Any, image: int, *, stay: bool) -> Eyes:
    image_processor = getattr(processor, "image_processor", None)
    if hasattr(model.model, "get_rope_index") and hasattr(image_processor, "merge_size"):
        return PatchEyes(processor, image, stay=stay)
    return AnyEyes(processor, image, processor.image_token)


def _requests(*, plain: bool) -> list[Request]:
    """Two questions about one image, and one about another after it."""
    a, b = ImagePart(_Drawn("a", 190, 130)), ImagePart(_Drawn("b", 120, 150))
    asked = "Say in some detail what can be seen in this image, and where."
    if plain:
        contents: list[tuple[Message, ...]] = [
            (Message("plain", (a, TextPart(asked))),),
            (Message("plain", (a, TextPart("Colours:"))),),
            (Message("plain", (a, TextPart(asked), b, TextPart(asked))),),
        ]
    else:
        contents = [
            (Message("user", (a, TextPart(asked))),),
            (Message("user", (a, TextPart("Colours?"))),),
            (
                Message("user", (a, TextPart(asked))),
                Message("assistant", (TextPart("A"),)),
                Message("user", (b, TextPart(asked))),
            ),
        ]
    return [Request(str(at), messages, Decoding(max_new_tokens=2)) for at, messages in enumerate(contents)]


def _alone(model: Any, inputs: Inputs, request: Request) -> tuple[int, list[torch.Tensor]]:
    """The model's first token, and its logits for the first and the second."""
    prepared = inputs.prepare(inputs.plan(request))
    for _, error in prepared.failed:
        raise error
    given = prepared.inputs.to(model.device, dtype=model.dtype)
    with torch.inference_mode():
        out = model.generate(
            **given,
            do_sample=False,
            max_new_tokens=2,
            min_new_tokens=2,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return int(out.sequences[0, given["input_ids"].shape[1]]), [logits[0].float() for logits in out.logits]


def _noise(
    model: Any, inputs: Inputs, requests: Sequence[Request], alone: Sequence[tuple[int, list[torch.Tensor]]]
) -> float:
    """How far the model's own logits move where prompts go through it together, as a share of their spread.

    That is rounding, and in half precision it grows with a model's depth; 0 where they cannot go together.
    """
    prepared = inputs.prepare([planned for request in requests for planned in inputs.plan(request)])
    if len(prepared.batch) != len(alone):
        return 0.0
    given = prepared.inputs.to(model.device, dtype=model.dtype)
    with torch.inference_mode():
        out = model.generate(
            **given, do_sample=False, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
        )  # fmt: skip
    pairs = zip(alone, out.logits[0].float(), strict=True)
    moved = [apart(logits[0], together) for (_, logits), together in pairs]
    return max(moved) if all(math.isfinite(one) for one in moved) else 0.0


def _compare(
    engine: Engine, inputs: Inputs, requests: Sequence[Request], wanted: Sequence[tuple[int, list[torch.Tensor]]]
) -> None:
    items = []
    for request in requests[: len(wanted)]:
        (planned,) = inputs.plan(request)
        items.append(Item(planned, planned.ids, request.images, planned.tokens, 2))
    with torch.inference_mode():
        found = engine.logits(items, [token for token, _ in wanted])
    limit = engine.language.tolerance
    for (_, theirs), ours in zip(wanted, found, strict=True):
        for one, other in zip(theirs, ours, strict=True):
            if one.shape != other.shape:
                raise UnsupportedModel(f"its logits have another shape ({tuple(one.shape)} and {tuple(other.shape)})")
            off = apart(one, other)
            if not off <= limit:
                raise UnsupportedModel(f"shared, its logits come out otherwise (by {off:.1e} of their spread)")
