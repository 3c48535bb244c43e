"""The methods that ``throughput.py`` compares; each returns the answer tokens by sample id.

``generate`` is used as a careful user would: greedy, in inference mode, with left padding and batches sorted by length
(including visual tokens), while a thread preprocesses the next batch.  As in evalkit (``threads``), that thread does
not compete with the model for CPU cores.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _mixes import Query
from transformers import GenerationConfig

from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.threads import threads

Answers = dict[str, tuple[int, ...]]
FEATURES = (
    "prefix_sharing", "token_budget", "continuous_batching", "packed_vision_attention", "packed_weights",
    "image_prefetch",
    "async_scheduling", "cuda_graphs", "fused_kernels",
)  # fmt: skip
ON_GPU = {"async_scheduling", "cuda_graphs", "fused_kernels"}
TAKES = frozenset(inspect.signature(HFBackend).parameters)
CHILD = Path(__file__).parent / "_lmms_eval.py"


def conversation(one: Query) -> list[dict[str, Any]]:
    """A question as chat templates take it."""
    turns: list[dict[str, Any]] = []
    content: list[dict[str, str]] = []
    for shown in one.shown:
        content += [{"type": "image"}, *([{"type": "text", "text": shown.text}] if shown.text else [])]
        if shown.answer:
            turns += [{"role": "user", "content": content}, {"role": "assistant", "content": shown.answer}]
            content = []
    return [*turns, {"role": "user", "content": content}]


class Generate:
    """``model.generate`` in batches of a fixed size."""

    def __init__(self, model: Any, processor: Any, batch_size: int) -> None:
        self.model, self.processor, self.batch_size = model, processor, batch_size
        stops = model.generation_config.eos_token_id
        self.stops = set(stops if isinstance(stops, list) else [stops])

    def inputs(self, batch: Sequence[Query]) -> Any:
        """The model's inputs, on the CPU."""
        from PIL import Image

        images = [Image.open(shown.path).convert("RGB") for one in batch for shown in one.shown]
        texts = [
            self.processor.apply_chat_template(conversation(one), tokenize=False, add_generation_prompt=True)
            for one in batch
        ]
        return self.processor(
            text=texts, images=images, padding=True, padding_side="left", return_tensors="pt"
        )  # fmt: skip

    def placed(self, batch: Sequence[Query]) -> Any:
        """The model's inputs, on its device."""
        return self.inputs(batch).to(self.model.device, dtype=self.model.dtype)

    def run(self, queries: Sequence[Query]) -> Answers:
        """Return all answers."""
        order = sorted(queries, key=self._length, reverse=True) if self.batch_size > 1 else list(queries)
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        answers: Answers = {}
        with threads(1) as ahead:
            coming = ahead.submit(self.inputs, batches[0])
            for place, batch in enumerate(batches):
                inputs = coming.result().to(self.model.device, dtype=self.model.dtype)
                if place + 1 < len(batches):
                    coming = ahead.submit(self.inputs, batches[place + 1])
                tokens = self.tokens(inputs, max(one.limit for one in batch))
                answers |= {one.id: self.cut(row[: one.limit]) for one, row in zip(batch, tokens, strict=True)}
        return answers

    def tokens(self, inputs: Any, limit: int) -> list[list[int]]:
        """The new tokens of each row."""
        settings = GenerationConfig(do_sample=False, num_beams=1, max_new_tokens=limit)
        with torch.inference_mode():
            out = self.model.generate(**inputs, generation_config=settings)
        new: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
        return new

    def cut(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The tokens before the first stop token."""
        at = next((at for at, token in enumerate(tokens) if token in self.stops), len(tokens))
        return tuple(tokens[:at])

    def gap(self, one: Query, at: int) -> float:
        """The top-2 logit gap after ``at`` tokens at batch size 1; NaN if the answer is shorter."""
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=at + 1, output_logits=True, return_dict_in_generate=True
        )
        with torch.inference_mode():
            out = self.model.generate(**self.placed([one]), generation_config=settings)
        if at >= len(out.logits):  # alone, it ends before
            return float("nan")
        best = out.logits[at][0].float().topk(2).values.tolist()
        return float(best[0] - best[1])

    def _length(self, one: Query) -> int:
        visual = sum(shown.size[0] * shown.size[1] // 28**2 for shown in one.shown)
        text = sum(len(self.processor.tokenizer(shown.text)["input_ids"]) for shown in one.shown)
        return text + visual


class Evalkit:
    """evalkit's ``hf`` backend on the same weights; arguments that an older version lacks are omitted."""

    def __init__(self, model: Any, processor: Any, batch_size: int | None = None, **options: bool) -> None:
        model = twin(model)
        wanted: dict[str, Any] = {"batch_size": batch_size, "options": EngineOptions(**options)}
        if batch_size is None and "options" not in TAKES:  # versions without options have no automatic batch size
            wanted["batch_size"] = 16
        self.backend = HFBackend(model, processor, **{name: v for name, v in wanted.items() if name in TAKES})
        self.prompts: dict[str, int] = {}

    def run(self, queries: Sequence[Query]) -> Answers:
        """Return all answers; fills ``prompts`` with the prompt lengths in tokens."""
        answers: Answers = {}
        for response in self.backend.generate([one.request for one in queries]):
            if response.error is not None:
                raise RuntimeError(f"{response.id}: {response.error}")
            answers[response.id] = response.tokens
            self.prompts[response.id] = response.prompt_tokens
        return answers


def twin(model: Any) -> Any:
    """Copy a model's modules, so that patches to one do not affect the other; on a GPU, both share the weights.

    On a CPU the engine packs weights, and the other model needs its own.
    """
    if model.device.type == "cpu":
        return copy.deepcopy(model)
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def lmms_eval(
    python: str, model: Any, processor: Any, queries: Sequence[Query], *, batch_sizes: Sequence[int]
) -> Mapping[str, Any]:
    """Run the samples through lmms-eval, in an environment that has it.

    Returns:
        ``version``; seconds by batch size (``seconds``); texts by sample id (``texts``).

    Raises:
        RuntimeError: lmms-eval failed; the message is its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model.save_pretrained(root / "model")
        processor.save_pretrained(root / "model")
        work = {
            "model": str(root / "model"), "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch."),
            "batch_sizes": list(batch_sizes), "limit": queries[0].limit, "threads": torch.get_num_threads(),
            "samples": [{"id": one.id, "image": str(one.path), "text": one.text} for one in queries],
        }  # fmt: skip
        (root / "work.json").write_text(json.dumps(work))
        command = [python, str(CHILD), str(root / "work.json"), str(root / "done.json")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        if done.returncode != 0:
            raise RuntimeError(f"lmms-eval failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        found: Mapping[str, Any] = json.loads((root / "done.json").read_text())
        return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The ids of samples whose answers differ, among those that both answered."""
    return [name for name in one if name in other and one[name] != other[name]]


def first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """The first index at which two answers differ."""
    same = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(same) if a != b), min(len(one), len(other)))
