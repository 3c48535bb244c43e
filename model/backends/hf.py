"""The ``hf`` backend: a transformers checkpoint in this process, batched and greedy.

The same request gets the same answer whatever its neighbours: prompts are padded on the left, positions come from the
attention mask, and decoding is plain greedy search (a checkpoint's own sampling settings and repetition penalty are
not applied: they are not part of any benchmark's protocol).  Continuations are ranked by the same search, made to write
them (``_continuations.py``).
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.types import Backend, Decoding, ImageRef, Preview, Request, Response

from ._continuations import Branch, Forced, Tokens
from ._inputs import Inputs, Planned, Prepared, explained
from ._loading import check_architecture, dtype_in_effect, load_model, load_processor, pick_device, pick_dtype

__all__ = ["BACKEND", "HFBackend", "dtype_in_effect", "pick_device", "pick_dtype"]

log = logging.getLogger(__name__)

# How many batches of requests are looked at together to sort them by length: enough to fill batches evenly, few
# enough that answers arrive steadily and nothing waits for the headers of 200,000 pictures.
LOOKAHEAD = 64
# No token's id: a continuation is forced to its end, whatever tokens it has.
NO_STOP = 2**31 - 1


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


class HFBackend:
    """Answers requests with a loaded model and its processor.

    Args:
        model: a transformers image-text-to-text model in eval mode.
        processor: its processor, with a chat template where requests are conversations.
        batch_size: rows per ``generate`` call.
    """

    name = "hf"

    def __init__(self, model: Any, processor: Any, *, batch_size: int) -> None:
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self.inputs = Inputs(processor)
        self.tokenizer = self.inputs.tokenizer
        configured = model.generation_config
        stops = configured.eos_token_id if configured.eos_token_id is not None else self.tokenizer.eos_token_id
        self.stops: tuple[int, ...] = tuple(stops) if isinstance(stops, list) else (stops,)
        self.pad = next(
            t for t in (configured.pad_token_id, self.tokenizer.pad_token_id, self.stops[0]) if t is not None
        )
        # The parts of requests with continuations whose other parts are still to come, by id.
        self._parts: dict[str, list[tuple[Response, list[tuple[float, int, Tokens]]]]] = {}
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

    # ------------------------------------------------------------------------------------------------------ answering

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, batch by batch; pictures of the next batch are decoded meanwhile."""
        self._parts.clear()
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting = None
            for item in self._batches(requests):
                if isinstance(item, Response):
                    yield item
                    continue
                coming = ahead.submit(self.inputs.prepare, item)
                if waiting is not None:
                    yield from self._answer(waiting.result())
                if stop is not None and stop.is_set():
                    return
                waiting = coming
            if waiting is not None:
                yield from self._answer(waiting.result())

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[Planned] | Response]:
        """Batches of similar length, longest first within a window; an error response for each unreadable picture."""
        window = LOOKAHEAD * self.batch_size
        for start in range(0, len(requests), window):
            groups: dict[object, list[Planned]] = {}  # one task has one decoding, so there is one group as a rule
            for request in requests[start : start + window]:
                try:
                    for planned in self.inputs.plan(request):
                        groups.setdefault(planned.group, []).append(planned)
                except (OSError, ValueError) as error:
                    yield _failed(request, error)
            for rows in groups.values():
                rows.sort(key=lambda p: -p.tokens)
                while rows:  # the size of a batch may change on the way
                    batch, rows[:] = rows[: self.batch_size], rows[self.batch_size :]
                    yield batch

    def _answer(self, prepared: Prepared) -> Iterator[Response]:
        for planned, error in prepared.failed:
            yield from self._whole(planned, _failed(planned.request, error))
        for planned in prepared.alone:
            yield from self._answer(self.inputs.prepare([planned]))
        batch, inputs = prepared.batch, prepared.inputs
        if not batch:
            return
        frames = self.inputs.frames(batch, inputs)
        lengths = inputs["attention_mask"].sum(-1).tolist()
        rows = [planned.branch for planned in batch if planned.branch is not None]  # all of a batch, or none
        began = time.perf_counter()
        full: str | None = None
        try:
            if rows:
                entropies, broken = self._score(inputs, rows)
            else:
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
                yield from self._whole(planned, _failed(planned.request, nan))
                continue
            common = Response(
                id=planned.request.id, prompt_tokens=int(lengths[row]), frames=frames[row], seconds=seconds
            )
            if rows:
                yield from self._whole(planned, common, entropies[row])
                continue
            tokens, finish = self._cut(new[row])
            text = self.tokenizer.decode(tokens, skip_special_tokens=False)
            yield replace(common, text=text, tokens=tuple(tokens), finish="stop" if finish else "length")

    def _whole(self, planned: Planned, part: Response, entropies: Sequence[float] = ()) -> Iterator[Response]:
        """The response, once all parts of its request are there: the likeliest continuation, or the first error."""
        if planned.branch is None:
            yield part
            return
        request = planned.request
        options = planned.branch.options
        ranked = [(mean, *option) for mean, option in zip(entropies, options, strict=True)] if not part.error else []
        parts = self._parts.setdefault(request.id, [])
        parts.append((part, ranked))
        if len(parts) < planned.parts:
            return
        del self._parts[request.id]
        failed = next((part for part, _ in parts if part.error is not None), None)
        if failed is not None:
            yield failed
            return
        _, place, tokens = min(rank for _, ranked in parts for rank in ranked)  # of equal ones, the first
        seconds = sum(part.seconds for part, _ in parts)
        yield replace(part, text=request.continuations[place], tokens=tokens, seconds=seconds)

    def _with_less(self, batch: list[Planned], full: str) -> Iterator[Response]:
        """Answer a batch that did not fit into memory by halves; a request that does not fit alone fails."""
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            yield from self._whole(batch[0], _failed(batch[0].request, MemoryError(full)))
            return
        half = (len(batch) + 1) // 2
        if half < self.batch_size:
            log.warning("out of memory with %d samples: going on with batches of %d", len(batch), half)
            self.batch_size = half
        for part in (batch[:half], batch[half:]):
            yield from self._answer(self.inputs.prepare(part))

    # ------------------------------------------------------------------------------------------------------ the model

    def _generate(self, inputs: Any, decoding: Decoding) -> tuple[list[list[int]], list[bool]]:
        """The new tokens of every row, and whether its logits were not numbers."""
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens or None,
        )
        watch = _NotNumbers()
        new = self._search(inputs, settings, watch)
        return new, [False] * len(new) if watch.rows is None else watch.rows.tolist()

    def _score(self, inputs: Any, rows: Sequence[Branch]) -> tuple[list[list[float]], list[bool]]:
        """Per row, the mean cross-entropy of each of its branch's options, and whether its logits were not numbers."""
        forced = Forced(rows, filler=self.pad)
        settings = GenerationConfig(do_sample=False, num_beams=1, max_new_tokens=forced.steps, eos_token_id=NO_STOP)
        self._search(inputs, settings, forced)
        return [forced.means(row) for row in range(len(rows))], forced.broken

    def _search(self, inputs: Any, settings: GenerationConfig, watch: LogitsProcessor) -> list[list[int]]:
        """The new tokens of every row, padded at the end."""
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)  # casts what is floating
        with torch.inference_mode():
            out = self.model.generate(
                **inputs, generation_config=settings, logits_processor=LogitsProcessorList([watch])
            )
        new: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
        return new

    def _cut(self, tokens: list[int]) -> tuple[list[int], bool]:
        """The tokens before the first end-of-turn token, and whether there was one."""
        for at, token in enumerate(tokens):
            if token in self.stops:
                return tokens[:at], True
        return tokens, False

    # ------------------------------------------------------------------------------------------------------ embedding

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """The mean of each picture's visual tokens, as the language model would see them, scaled to unit length.

        Pictures go through the vision encoder one by one, so that none depends on its neighbours; the next is decoded
        meanwhile.

        Raises:
            OSError: a picture cannot be read.
            UserError: the model has no ``get_image_features``.
        """
        owners = (self.model, getattr(self.model, "model", None))
        found = (getattr(owner, "get_image_features", None) for owner in owners)
        encode = next((method for method in found if method is not None), None)
        if encode is None:
            raise UserError(
                f"{type(self.model).__name__} has no vision encoder to embed pictures with (get_image_features)."
            )
        return self._embed(images, encode)

    def _embed(self, images: Sequence[ImageRef], encode: Callable[..., Any]) -> Iterator[tuple[float, ...]]:
        takes = inspect.signature(encode).parameters
        with ThreadPoolExecutor(max_workers=1) as ahead:
            coming = ahead.submit(self.inputs.pixels, images[0]) if images else None
            for following in (*images[1:], None):
                if coming is None:
                    return
                pixels = coming.result()
                coming = None if following is None else ahead.submit(self.inputs.pixels, following)
                pixels = pixels.to(self.model.device, dtype=self.model.dtype)
                with torch.inference_mode():
                    found = encode(**{name: value for name, value in pixels.items() if name in takes})
                    mean = _visual_tokens(found).float().mean(0)
                    yield tuple((mean / mean.norm()).tolist())


def _visual_tokens(found: Any) -> torch.Tensor:
    """(tokens, width), from what ``get_image_features`` gave: a tensor, or one for each picture or tile."""
    found = getattr(found, "pooler_output", found)
    parts = found if isinstance(found, (tuple, list)) else [found]
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _failed(request: Request, error: BaseException) -> Response:
    said = explained(request, error)
    log.warning("sample %s: %s", request.id, said)
    return Response(id=request.id, finish="error", error=said)


class _Factory:
    name = "hf"

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """The backend, the dtype in effect, and how the checkpoint is quantised.

        Raises:
            UserError: transformers has no such model.
        """
        check_architecture(checkpoint)
        quantization = checkpoint.config.get("quantization_config")
        method = quantization.get("quant_method", "unnamed") if isinstance(quantization, Mapping) else None
        return {
            "backend": self.name,
            "dtype": dtype_in_effect(checkpoint, dtype, pick_device(device)),
            "quantization": method,
        }

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batch_size: int) -> Backend:
        """Load a checkpoint with transformers' Auto classes: safetensors and no remote code, unless it is allowed."""
        where = pick_device(device)
        pick_dtype(dtype, where)  # before anything is read
        processor = load_processor(checkpoint)
        return HFBackend(load_model(checkpoint, device=where, dtype=dtype), processor, batch_size=batch_size)

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview]:
        """What a run would give the model for each request, from the processor alone."""
        inputs = Inputs(load_processor(checkpoint))
        return (inputs.preview(request) for request in requests)


BACKEND = _Factory()
