"""The ``hf`` backend: a transformers checkpoint in this process, batched and greedy.

The same request gets the same answer whatever its neighbours: prompts are padded on the left, positions come from the
attention mask, and decoding is plain greedy search (a checkpoint's own sampling settings and repetition penalty are
not applied: they are not part of any benchmark's protocol).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.types import Backend, Decoding, Frame, Picture, Request, Response, Size, Text

log = logging.getLogger(__name__)

# How many batches of requests are looked at together to sort them by length: enough to fill batches evenly, few
# enough that answers arrive steadily and nothing waits for the headers of 200,000 pictures.
LOOKAHEAD = 64
LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(wanted: str) -> torch.device:
    """The device ``auto`` stands for (cuda, then mps, then cpu), or the one named.  Raises ``UserError`` if absent."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"--device {wanted}: no such device; use auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"--device {wanted}: this machine (or this torch) has no CUDA GPU; use --device cpu or auto."
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {wanted}: there are only {torch.cuda.device_count()} CUDA devices, from cuda:0.")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {wanted}: this machine has no Apple GPU; use --device cpu or auto.")
    elif device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {wanted}: not supported; use auto, cpu, cuda, cuda:N or mps.")
    return device


def pick_dtype(wanted: str, device: torch.device) -> Any:
    """``auto`` is the checkpoint's own on a GPU, and float32 on CPU, where half precision is ten times slower."""
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if wanted not in DTYPES:
        raise UserError(f"--dtype {wanted}: unknown; use auto, {', '.join(DTYPES)}.")
    return DTYPES[wanted]


def dtype_in_effect(checkpoint: Checkpoint, wanted: str, device: torch.device) -> str:
    """The name of the dtype that a checkpoint is run in, from its configuration, before anything is loaded."""
    kind = pick_dtype(wanted, device)
    if kind != "auto":
        return str(kind).removeprefix("torch.")
    config = checkpoint.config
    parts = [config, config.get("text_config")]
    found = (p.get(key) for p in parts if isinstance(p, Mapping) for key in ("dtype", "torch_dtype"))
    return next((str(name).removeprefix("torch.") for name in found if name is not None), "auto")


class _NotNumbers(LogitsProcessor):
    """Notes the rows whose logits are not numbers: greedy search would make a plausible token of them."""

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bad = scores.isnan().any(-1)
        self.rows = bad if self.rows is None else self.rows | bad
        return scores


def out_of_memory(error: BaseException) -> bool:
    """Whether a device (or the CPU's allocator) had no room."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@dataclass(frozen=True)
class _Planned:
    request: Request
    prompt: str
    sizes: tuple[Size, ...]
    tokens: int


@dataclass(frozen=True)
class _Prepared:
    """A batch with the model's inputs; the requests that failed; those that are to be prepared one by one."""

    batch: list[_Planned]
    inputs: Any
    failed: list[Response]
    alone: Sequence[_Planned] = ()


class HFBackend:
    """Answers requests with a loaded model and its processor.

    Args:
        model: a transformers image-text-to-text model in eval mode.
        processor: its processor, with a chat template.
        batch_size: requests per ``generate`` call.
    """

    name = "hf"

    def __init__(self, model: Any, processor: Any, *, batch_size: int) -> None:
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"
        configured = model.generation_config
        stops = configured.eos_token_id if configured.eos_token_id is not None else self.tokenizer.eos_token_id
        self.stops: tuple[int, ...] = tuple(stops) if isinstance(stops, list) else (stops,)
        self.pad = next(
            t for t in (configured.pad_token_id, self.tokenizer.pad_token_id, self.stops[0]) if t is not None
        )
        # A question with the placeholder in its text would pair pictures and positions wrongly.
        names = ("image_token", "video_token", "boi_token", "eoi_token")
        self.placeholders = [t for t in (getattr(processor, n, None) for n in names) if isinstance(t, str) and t]
        # generate() fills whatever a call leaves open from here: Qwen2.5-VL's file, for one, has a repetition penalty.
        model.generation_config = GenerationConfig(eos_token_id=list(self.stops), pad_token_id=self.pad)

    def describe(self) -> Mapping[str, Any]:
        """Device, dtype and library versions, for the run's record."""
        device = self.model.device
        return {
            "backend": self.name,
            "device": str(device),
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "batch_size": self.batch_size,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    # ------------------------------------------------------------------------------------------------------- planning

    def prompt(self, request: Request) -> str:
        """The request under the checkpoint's chat template, one placeholder per picture."""
        conversation = [
            {
                "role": m.role,
                "content": [
                    {"type": "image"} if isinstance(p, Picture) else {"type": "text", "text": p.text} for p in m.content
                ],
            }
            for m in request.messages
        ]
        return str(self.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))

    def prompt_tokens(self, prompt: str, sizes: Sequence[Size]) -> int:
        """The prompt's true length: its text, with every picture's placeholder replaced by its visual tokens."""
        text = len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if not sizes:
            return text
        counts = self.processor._get_num_multimodal_tokens(image_sizes=[(h, w) for w, h in sizes])
        return text - len(sizes) + sum(counts["num_image_tokens"])

    def _plan(self, request: Request) -> _Planned:
        for message in request.messages:
            for part in message.content:
                if isinstance(part, Text) and (found := [t for t in self.placeholders if t in part.text]):
                    raise ValueError(f"its text contains the image placeholder {found[0]}")
        sizes = tuple(image.size() for image in request.images)
        prompt = self.prompt(request)
        return _Planned(request, prompt, sizes, self.prompt_tokens(prompt, sizes))

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[_Planned] | Response]:
        """Batches of similar length, longest first within a window; an error response for each unreadable picture."""
        window = LOOKAHEAD * self.batch_size
        for start in range(0, len(requests), window):
            planned: list[_Planned] = []
            for request in requests[start : start + window]:
                try:
                    planned.append(self._plan(request))
                except (OSError, ValueError) as error:
                    yield _failed(request, error)
            planned.sort(key=lambda p: -p.tokens)
            while planned:  # the size of a batch may change on the way
                batch, planned = planned[: self.batch_size], planned[self.batch_size :]
                yield batch

    def _prepare(self, batch: list[_Planned]) -> _Prepared:
        """Decode the pictures and build the model's inputs; what cannot be decoded is answered with its error."""
        good: list[_Planned] = []
        pictures: list[Any] = []
        failed: list[Response] = []
        for planned in batch:
            try:
                loaded = [image.load() for image in planned.request.images]
            except (OSError, ValueError) as error:
                failed.append(_failed(planned.request, error))
                continue
            good.append(planned)
            pictures.append(loaded)
        if not good:
            return _Prepared(good, None, failed)
        try:
            inputs = self.processor(
                text=[p.prompt for p in good],
                images=pictures if any(pictures) else None,
                padding=True,
                return_tensors="pt",
            )
        except ValueError as error:  # one of them, then: a picture of an impossible shape, say
            if len(good) == 1:
                return _Prepared([], None, [*failed, _failed(good[0].request, error)])
            return _Prepared([], None, failed, alone=good)
        return _Prepared(good, inputs, failed)

    # ----------------------------------------------------------------------------------------------------- generating

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, batch by batch; pictures of the next batch are decoded meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting = None
            for item in self._batches(requests):
                if isinstance(item, Response):
                    yield item
                    continue
                coming = ahead.submit(self._prepare, item)
                if waiting is not None:
                    yield from self._answer(waiting.result())
                if stop is not None and stop.is_set():
                    return
                waiting = coming
            if waiting is not None:
                yield from self._answer(waiting.result())

    def _answer(self, prepared: _Prepared) -> Iterator[Response]:
        yield from prepared.failed
        for planned in prepared.alone:
            yield from self._answer(self._prepare([planned]))
        batch, inputs = prepared.batch, prepared.inputs
        if not batch:
            return
        # One task has one decoding, so a batch has one; a mixed batch would be split by its decodings.
        groups: dict[Decoding, list[_Planned]] = {}
        for planned in batch:
            groups.setdefault(planned.request.decoding, []).append(planned)
        if len(groups) > 1:
            for group in groups.values():
                yield from self._answer(self._prepare(group))
            return
        frames = self._frames(batch, inputs)
        lengths = inputs["attention_mask"].sum(-1).tolist()
        began = time.perf_counter()
        full: str | None = None
        try:
            new, broken = self._generate(inputs, batch[0].request.decoding)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            full = str(error).strip().splitlines()[0]
        if full is not None:  # outside the except: the error's traceback holds the tensors that are in the way
            yield from self._with_less(batch, full)
            return
        seconds = (time.perf_counter() - began) / len(batch)
        for row, planned in enumerate(batch):
            if broken[row]:
                nan = ArithmeticError("the model's output is not a number (NaN); another --dtype may help")
                yield _failed(planned.request, nan)
                continue
            tokens, finish = self._cut(new[row])
            yield Response(
                id=planned.request.id,
                text=self.tokenizer.decode(tokens, skip_special_tokens=False),
                tokens=tuple(tokens),
                finish="stop" if finish else "length",
                prompt_tokens=int(lengths[row]),
                frames=frames[row],
                seconds=seconds,
            )

    def _with_less(self, batch: list[_Planned], full: str) -> Iterator[Response]:
        """Answer a batch that did not fit into memory by halves; a request that does not fit alone fails."""
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            yield _failed(batch[0].request, MemoryError(full))
            return
        half = (len(batch) + 1) // 2
        if half < self.batch_size:
            log.warning("out of memory with %d samples: going on with batches of %d", len(batch), half)
            self.batch_size = half
        for part in (batch[:half], batch[half:]):
            yield from self._answer(self._prepare(part))

    def _generate(self, inputs: Any, decoding: Decoding) -> tuple[list[list[int]], list[bool]]:
        """The new tokens of every row, and whether its logits were not numbers."""
        inputs = inputs.to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens or None,
        )
        watch = _NotNumbers()
        with torch.inference_mode():
            out = self.model.generate(
                **inputs, generation_config=settings, logits_processor=LogitsProcessorList([watch])
            )
        new: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
        return new, [False] * len(new) if watch.rows is None else watch.rows.tolist()

    def _cut(self, tokens: list[int]) -> tuple[list[int], bool]:
        """The tokens before the first end-of-turn token, and whether there was one."""
        for at, token in enumerate(tokens):
            if token in self.stops:
                return tokens[:at], True
        return tokens, False

    def _frames(self, batch: list[_Planned], inputs: Any) -> list[tuple[Frame, ...]]:
        """Each picture's size in the file and as the encoder saw it (``image_grid_thw`` × patch size, where given)."""
        originals = [size for planned in batch for size in planned.sizes]
        resized: list[Size] = list(originals)
        if "image_grid_thw" in inputs:
            patch = int(self.processor.image_processor.patch_size)
            resized = [(w * patch, h * patch) for _, h, w in inputs["image_grid_thw"].tolist()]
        if len(resized) != len(originals):
            raise RuntimeError(f"the processor made {len(resized)} pictures of {len(originals)}")
        frames = iter([Frame(o, r) for o, r in zip(originals, resized, strict=True)])
        return [tuple(next(frames) for _ in planned.sizes) for planned in batch]


def _failed(request: Request, error: BaseException) -> Response:
    names = ", ".join(image.name for image in request.images)
    log.warning("sample %s: %s: %s", request.id, names, error)
    return Response(id=request.id, finish="error", error=f"{type(error).__name__}: {error} ({names})")


class _Factory:
    name = "hf"

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """The backend and the dtype in effect."""
        return {"backend": self.name, "dtype": dtype_in_effect(checkpoint, dtype, pick_device(device))}

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batch_size: int) -> Backend:
        """Load a checkpoint with transformers' Auto classes: safetensors and no remote code, unless it is allowed."""
        where = pick_device(device)
        kind = pick_dtype(dtype, where)
        transformers.utils.logging.disable_progress_bar()
        try:
            trusted = checkpoint.trust_remote_code
            processor = AutoProcessor.from_pretrained(checkpoint.location, trust_remote_code=trusted)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                checkpoint.location,
                dtype=kind,
                use_safetensors=None if checkpoint.allow_pickled_weights else True,
                trust_remote_code=trusted,
            )
        except LOADING_ERRORS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"--model {checkpoint.name}: the checkpoint could not be loaded: {reason}") from error
        return HFBackend(model.to(where).eval(), processor, batch_size=batch_size)


BACKEND = _Factory()
