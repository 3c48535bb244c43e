"""Speed and memory of Qwen-VL at full size with random weights, and a check that batches give the same answers.

    python benchmarks/qwen_vl.py                              # a GPU: 9.7 billion parameters, bf16; about two minutes
    python benchmarks/qwen_vl.py --size small --device cpu    # a CPU: a small model

The configuration is the published one, and so are the names and shapes of the parameters.  The vocabulary has the
published size, but its tokens are synthetic: the questions' words, and bytes.  Images and questions are the VQAv2 mix
of ``_mixes.py``: about five questions per image.  All answers have the same length.  Four methods on the same samples:
``generate`` at batch size 1, ``generate`` in batches, evalkit with the same batch size, evalkit with its defaults.
Answers of random weights depend on rounding, so in bf16 many differ between methods; with ``--dtype float32`` none do.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _device import peak_of, wait
from _mixes import MIXES, WORDS, Query, draw, images
from _paths import Answers, differing
from transformers import GenerationConfig

from evalkit.model.backends.hf import HFBackend
from evalkit.model.qwen_vl import (
    QwenVLConfig,
    QwenVLForConditionalGeneration,
    QwenVLImageProcessor,
    QwenVLProcessor,
    QwenVLTokenizer,
)
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

RANKS = 151643
VISUAL = {
    "heads": 16, "image_size": 448, "image_start_id": 151857, "layers": 48, "mlp_ratio": 4.9231, "output_dim": 4096,
    "patch_size": 14, "width": 1664,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "full": {"visual": VISUAL},
    "small": {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "kv_channels": 64,
        "intermediate_size": 1024,
        "visual": VISUAL | {"heads": 4, "layers": 4, "width": 128, "output_dim": 256},
    },
}  # fmt: skip


def write_vocabulary(path: Path) -> None:
    """A vocabulary of the published size: bytes, the words' prefixes, and padding that no text contains."""
    tokens = {bytes([byte]): None for byte in range(256)}
    for word in WORDS:
        spaced = f" {word}".encode()
        tokens |= {spaced[:end]: None for end in range(2, len(spaced) + 1)}
    missing = RANKS - len(tokens)
    tokens |= {b"\xff" + number.to_bytes(3, "big"): None for number in range(missing)}
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)))


def make(size: str, device: torch.device, dtype: torch.dtype, folder: Path) -> tuple[Any, QwenVLProcessor]:
    """The model with random weights, made on its device, and its processor."""
    write_vocabulary(folder / "qwen.tiktoken")
    tokenizer = QwenVLTokenizer(folder / "qwen.tiktoken")
    processor = QwenVLProcessor(QwenVLImageProcessor(), tokenizer, chat_template=None)
    config = QwenVLConfig(**SIZES[size], initializer_range=0.03)
    assert tokenizer.special_ids["<img>"] == VISUAL["image_start_id"]
    torch.manual_seed(0)
    with device:
        model = QwenVLForConditionalGeneration._from_config(config, dtype=dtype)
    end = tokenizer.special_ids["<|endoftext|>"]
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=[end], pad_token_id=end)
    return model.to(device).eval(), processor


def question(one: Query) -> str:
    """The prompt of Qwen-VL's official evaluation."""
    return f"{one.text} Answer:"


def generate(model: Any, processor: QwenVLProcessor, queries: Sequence[Query], rows: int, length: int) -> Answers:
    """``model.generate`` in batches of ``rows``."""
    settings = GenerationConfig(do_sample=False, max_new_tokens=length, min_new_tokens=length)
    answers: Answers = {}
    for at in range(0, len(queries), rows):
        batch = queries[at : at + rows]
        inputs = processor(
            text=[f"{processor.image_token}{question(one)}" for one in batch],
            images=[[one.request.images[0].load()] for one in batch],
            padding=True,
            return_tensors="pt",
        ).to(model.device, dtype=model.dtype)
        with torch.inference_mode():
            out = model.generate(**inputs, generation_config=settings)
        new = out[:, inputs["input_ids"].shape[1] :].tolist()
        answers |= {one.id: tuple(tokens) for one, tokens in zip(batch, new, strict=True)}
    return answers


def evalkit(backend: HFBackend, queries: Sequence[Query], length: int) -> Answers:
    """evalkit's backend."""
    requests = [
        Request(
            one.id,
            (Message("plain", (ImagePart(one.request.images[0]), TextPart(question(one)))),),
            Decoding(length, length),
        )
        for one in queries
    ]
    answers: Answers = {}
    for response in backend.generate(requests):
        if response.error is not None:
            raise RuntimeError(f"{response.id}: {response.error}")
        answers[response.id] = response.tokens
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--samples", type=int, default=128, metavar="N")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--length", type=int, default=16, metavar="TOKENS", help="of each answer")
    settings = parser.parse_args()
    device = torch.device(settings.device)
    rows, length = settings.batch_size, settings.length
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        model, processor = make(settings.size, device, getattr(torch, settings.dtype), Path(folder))
        count = sum(weight.numel() for weight in model.parameters())
        weights = sum(weight.nbytes for weight in model.parameters())
        print(
            f"Qwen-VL with {count:,} random parameters, {settings.dtype}, {weights / 2**30:.1f} GiB, on "
            f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'a CPU'}, made in "
            f"{time.perf_counter() - began:.0f} s"
        )
        queries = draw(MIXES[0], settings.samples, Path(folder), seed="0", large=True)
        plain = lambda some, rows: generate(model, processor, some, rows, length)  # noqa: E731
        methods: dict[str, tuple[Sequence[Query], Callable[[Sequence[Query]], Answers]]] = {
            "generate, one at a time": (queries[:: max(1, len(queries) // 12)], lambda some: plain(some, 1)),
            f"generate, batches of {rows}": (queries, lambda some: plain(some, rows)),
        }
        found: dict[str, Answers] = {}
        print(f"{len(queries)} samples, {images(queries)} images, answers of {length} tokens")
        print(f"  {'':28}{'samples/s':>10}{'GiB beyond the weights':>25}{'answers as (1)':>16}")

        def measure(name: str, some: Sequence[Query], method: Callable[[Sequence[Query]], Answers]) -> None:
            method(some[: rows if "one" not in name else 1])
            wait(device)
            began = time.perf_counter()
            peak = peak_of(device, lambda: found.update({name: method(some)}))
            wait(device)
            rate = len(some) / (time.perf_counter() - began)
            first = found["generate, one at a time"]
            same = f"{len(first) - len(differing(first, found[name]))} of {len(first)}"
            print(f"  {name:28}{rate:10.2f}{'' if peak is None else f'{peak / 2**30:.2f}':>25}{same:>16}", flush=True)

        for name, (some, method) in methods.items():
            measure(name, some, method)
        for name, size in ((f"evalkit, {rows} rows", rows), ("evalkit", None)):
            backend = HFBackend(model, processor, batch_size=size)
            if backend.engine is None:
                raise RuntimeError(f"the engine does not answer: {backend.unfit}")
            measure(name, queries, lambda some, backend=backend: evalkit(backend, some, length))  # type: ignore[misc]
            steps = backend.engine.runner.steps
            shapes, on = len(steps.graphs), steps.capture is not None
            print(f"    decode steps captured: {f'{shapes} shapes' if on else 'no'}")
            backend.release()


if __name__ == "__main__":
    main()
