"""What ``long_answers.py`` compares: prompts with several images, and answers that are forced to end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _device import wait
from _mixes import WORDS, paint_scene
from _paths import twin
from transformers import GenerationConfig, StoppingCriteria

from evalkit.images import PathImage
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine.kv_tensors import KVTensors
from evalkit.model.engine.options import EngineOptions
from evalkit.model.engine.sequence import Sequence as EngineSequence
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

LIMIT = 32768
SHORTEST = 16
EXPONENT = 0.5
Tokens = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Query:
    """A prompt with images, and the length of its answer."""

    id: str
    paths: tuple[Path, ...]
    text: str
    length: int

    @property
    def request(self) -> Request:
        """The request for evalkit's backends."""
        parts = [ImagePart(PathImage(str(path))) for path in self.paths]
        return Request(self.id, (Message("user", (*parts, TextPart(self.text))),), Decoding(LIMIT))


def draw(count: int, longest: int, folder: Path, seed: str, images: int = 4, side: int = 224) -> list[Query]:
    """Draw prompts, with ``images`` images of ``side`` × ``side`` pixels each."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        paths = tuple(folder / f"{seed}-{number}-{at}.jpg" for at in range(images))
        for path in paths:
            paint_scene((side, side), rng.randrange(2**32)).save(path, quality=90)
        low, high = SHORTEST**-EXPONENT, longest**-EXPONENT
        length = round((low - rng.random() * (low - high)) ** (-1 / EXPONENT))
        found.append(Query(f"{seed}-{number}", paths, " ".join(rng.choices(WORDS, k=rng.randint(8, 20))), length))
    return found


class _Ends(StoppingCriteria):
    """Ends each row at its own length."""

    def __init__(self, prompt: int, lengths: list[int], device: torch.device) -> None:
        self.ends = torch.tensor(lengths, device=device) + prompt

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> Any:
        return input_ids.shape[1] >= self.ends


class Generate:
    """``model.generate`` in fixed batches of prompts sorted by length; ``seconds`` are those of each batch."""

    def __init__(
        self, model: Any, processor: Any, batch_size: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.model, self.processor, self.batch_size, self.clock = model, processor, batch_size, clock
        self.seconds: list[float] = []

    def run(self, queries: Sequence[Query]) -> Tokens:
        """Return all answers."""
        from PIL import Image

        order = sorted(queries, key=lambda one: -len(one.text)) if self.batch_size > 1 else list(queries)
        found: Tokens = {}
        for at in range(0, len(order), self.batch_size):
            batch, began = order[at : at + self.batch_size], self.clock()
            content = [[{"type": "image"}] * len(one.paths) + [{"type": "text", "text": one.text}] for one in batch]
            texts = [
                self.processor.apply_chat_template(
                    [{"role": "user", "content": one}], tokenize=False, add_generation_prompt=True
                )
                for one in content
            ]
            images = [Image.open(path).convert("RGB") for one in batch for path in one.paths]
            inputs = self.processor(
                text=texts, images=images, padding=True, padding_side="left", return_tensors="pt"
            ).to(self.model.device, dtype=self.model.dtype)
            prompt = inputs["input_ids"].shape[1]
            ends = _Ends(prompt, [one.length for one in batch], self.model.device)
            longest = max(one.length for one in batch)
            settings = GenerationConfig(do_sample=False, max_new_tokens=longest, pad_token_id=0, eos_token_id=None)
            with torch.inference_mode():
                out = self.model.generate(**inputs, generation_config=settings, stopping_criteria=[ends])
            for one, row in zip(batch, out[:, prompt:].tolist(), strict=True):
                found[one.id] = tuple(row[: one.length])
            wait(self.model.device)
            self.seconds.append(self.clock() - began)
        return found


class Engine:
    """evalkit's engine.

    Attributes:
        admitted: number of sequences in each prefill.
        in_flight: number of running sequences at each decode step.
        held: (bytes of keys and values in tensors, bytes that the running sequences need), at each decode step and
            after each prefill.
    """

    def __init__(self, model: Any, processor: Any, rows: int, options: EngineOptions = EngineOptions()) -> None:
        self.backend = HFBackend(twin(model), processor, batch_size=rows, options=options)
        assert self.backend.engine is not None
        self.engine = self.backend.engine
        self.admitted: list[int] = []
        self.in_flight: list[int] = []
        self.held: list[tuple[int, int]] = []
        self._prefilled = 0
        running, runner = self.engine.scheduler.running, self.engine.runner
        decode, prefill = runner.decode, runner.prefill

        def decoded(*given: Any) -> Any:
            found = decode(*given)
            self.in_flight.append(len(running))
            self._count(0)
            return found

        def prefilled(*given: Any) -> Any:
            found = prefill(*given)
            self.admitted.append(len(given[0]))
            self._count(_bytes(found.tensors))
            return found

        runner.decode, runner.prefill = decoded, prefilled  # type: ignore[method-assign]

    def _count(self, prefilled: int) -> None:
        running = self.engine.scheduler.running
        each = self.engine.language.shape.bytes(self.engine.language.dtype)
        need = sum(sequence.prompt_tokens + sequence.launched for sequence in running.sequences) * each
        nodes = {node for s in self.engine.scheduler.waiting for node in s.prefixes if node.prefix is not None}
        prefixes = sum(node.prefix.kv.nbytes for node in nodes)
        tensors = running.contiguous.tensors
        cache = running.paged.pool.end * running.paged.page_bytes if running.uses_pages else _bytes(tensors)
        self.held.append((cache + prefixes + prefilled, need))

    def run(self, queries: Sequence[Query]) -> Tokens:
        """Return all answers."""
        self.admitted, self.in_flight, self.held = [], [], []
        asked = []
        for one in queries:
            (planned,) = self.backend.inputs.plan(one.request)
            asked.append(
                EngineSequence(
                    one,
                    planned.ids,
                    one.request.images,
                    planned.tokens,
                    LIMIT,
                    hits_stop_string=lambda tokens, length=one.length: len(tokens) >= length,
                )
            )
        found: Tokens = {}
        with torch.inference_mode():
            for sequence in self.engine.generate(asked):
                if sequence.error is not None:
                    raise sequence.error
                assert isinstance(sequence.request, Query)
                found[sequence.request.id] = tuple(sequence.tokens)
        return found


def _bytes(tensors: KVTensors | None) -> int:
    return 0 if tensors is None else tensors.store.nbytes
