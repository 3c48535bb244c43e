"""Many questions about few videos: the engine against ``generate``, which decodes and encodes for each question.

    python benchmarks/video.py                             # CPU, 30 million parameters; some minutes
    python benchmarks/video.py --videos 16 --questions 3 --seconds 60

Weights are random (``_random_qwen.py``).  Videos are H.264 at 30 frames per second, made here; frames are chosen by the
rule ``--sampling``.  The cache of decoded frames is off, and the cost of decoding is also given by itself.

one       one question at a time through ``generate``
batched   ``generate`` in batches of each size in ``--batches``
engine    shared prefixes; the number of times that a file is decoded, and bytes in use at the end for half of the
          videos and for all of them
vllm      with ``--vllm PYTHON``, an interpreter that has vLLM: a server with the same weights, compiled, with caches
          for all videos, asked by evalkit's ``server`` backend with 8 and with 32 requests in flight.  Videos are new
          each time, the engine answers the same questions, and all answers have the same length

Times are of the wall clock or, with ``--cpu-time``, of the process's threads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ["EVALKIT_VIDEO_CACHE_GB"] = "0"

import av
import numpy as np
import torch
from _paths import twin
from _random_qwen import make_model, make_processor, set_lengths
from _vllm import serving
from numpy.typing import NDArray
from server import FixedLimit

from evalkit.model.backends.hf import HFBackend
from evalkit.model.backends.server import ServerBackend
from evalkit.model.hf.memory import memory_in_use
from evalkit.types import Decoding, FrameSelection, Message, Request, Response, TextPart, VideoPart
from evalkit.video import VideoFile, video_sampling

TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message['role'] }}\n{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>{%- elif part['type'] == 'image' -%}"
    "<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}<|im_end|>\n"
    "{%- endfor -%}<|im_start|>assistant\n"
)
CONTEXT = 8192
"""Tokens of vLLM's longest prompt with its answer."""
WORDS = tuple("what when where who moves stops left right before after the a large small red green square".split())  # noqa: SIM905


@dataclass(frozen=True)
class CountedFile(VideoFile):
    """Counts how often it is decoded."""

    decoded: Counter[str] = field(default_factory=Counter, compare=False)
    seconds: list[float] = field(default_factory=list, compare=False)

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        began = time.perf_counter()
        found = super().frames(selection)
        self.decoded[self.path] += 1
        self.seconds.append(time.perf_counter() - began)
        return found


def write_video(path: Path, seconds: float, size: tuple[int, int], seed: int) -> Path:
    """A textured background with a moving square."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    background = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(round(seconds * 30)):
            shown = background.copy()
            left = 4 * number % (width - 64)
            shown[height // 3 : height // 3 + 64, left : left + 64] = (seed * 40 % 255, 220, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return path


def requests_about(videos: Sequence[CountedFile], questions: int, tokens: int, sampling: str) -> list[Request]:
    """Questions of different lengths about each video."""
    rng = random.Random(0)
    rule = video_sampling(sampling)
    found = []
    for at, video in enumerate(videos):
        for n in range(questions):
            text = " ".join(rng.choices(WORDS, k=rng.randint(6, 40)))
            message = Message("user", (VideoPart(video), TextPart(text)))
            found.append(Request(f"{at}-{n}", (message,), Decoding(tokens, tokens), video_sampling=rule))
    return found


def timed(backend: HFBackend | ServerBackend, requests: list[Request], clock: Any) -> tuple[float, dict[str, Response]]:
    """Seconds, and responses by id."""
    began = clock()
    found = {response.id: response for response in backend.generate(requests)}
    errors = [response.error for response in found.values() if response.error is not None]
    if errors:
        raise SystemExit(errors[0])
    return clock() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--questions", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=16.0, help="of the longest video; the shortest has half")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of an answer")
    parser.add_argument("--sampling", default="fps=2,max_video_tokens=1536")
    parser.add_argument("--batches", default="4,8")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM")
    parser.add_argument(
        "--vllm-cores", choices=("all", "default"), default="all", help="by default, it leaves one idle"
    )
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    clock = time.process_time if settings.cpu_time else time.perf_counter
    processor = make_processor()
    processor.chat_template = processor.tokenizer.chat_template = TEMPLATE
    limits = {"shortest_edge": 16 * 28 * 28, "longest_edge": 768 * 28 * 28}
    processor.video_processor.size = type(processor.video_processor.size)(**limits)
    model = make_model("small", processor, torch.device("cpu"), torch.float32, 0)
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(settings).items()}, "seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        lengths = np.linspace(settings.seconds / 2, settings.seconds, settings.videos)

        def ask(first: int) -> tuple[list[CountedFile], list[Request]]:
            """New videos, and the questions about them."""
            files = [
                CountedFile(str(write_video(Path(folder) / f"{first + n}.mp4", float(length), (640, 360), first + n)))
                for n, length in enumerate(lengths)
            ]
            return files, requests_about(files, settings.questions, settings.tokens, settings.sampling)

        if settings.vllm is None:
            run(model, processor, *ask(0), settings, clock, result)
        else:
            set_lengths(model, processor.tokenizer, None, 0, None)
            beside(model, processor, [ask(n * settings.videos)[1] for n in range(4)], settings, result)
    if settings.json is not None:
        settings.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


def run(
    model: Any, processor: Any, files: list[CountedFile], requests: list[Request], settings: Any, clock: Any,
    result: dict[str, Any],
) -> None:  # fmt: skip
    """Measure, print, and fill ``result``."""
    engine = HFBackend(model, processor)
    assert engine.engine is not None, engine.unfit
    half = [r for r in requests if int(r.id.partition("-")[0]) < len(files) // 2]
    timed(engine, half, clock)
    memory = memory_in_use(model.device)
    for file in files:
        file.decoded.clear()
        file.seconds.clear()
    ours, found = timed(engine, requests, clock)
    decoding = sum(sum(file.seconds) for file in files)
    times = Counter(count for file in files for count in file.decoded.values())
    prompts = [response.prompt_tokens for response in found.values()]
    print(f"{len(files)} videos, {len(requests)} questions, prompts of {min(prompts)} to {max(prompts)} tokens")
    rate, after = len(requests) / ours, memory_in_use(model.device)
    print(f"engine     {ours:7.1f} s  {rate:6.2f} answers/s; decoding takes {decoding:.1f} s, ahead, in threads")
    print(f"           files decoded once: {times[1]} of {len(files)}")
    print(f"           memory: {memory / 2**20:.0f} MiB after half of the videos, {after / 2**20:.0f} MiB after all")
    result["seconds"]["engine"] = ours
    result |= {"decoded once": times[1], "memory": [memory, after]}
    engine.release()
    for size in [1, *map(int, settings.batches.split(","))]:
        backend = HFBackend(model, processor, exact=True)
        backend.plain.batch_size = size
        spent, other = timed(backend, requests, clock)
        differing = sum(other[key].tokens != response.tokens for key, response in found.items())
        name = "one      " if size == 1 else f"batch {size:3}"
        print(f"{name}  {spent:7.1f} s  {len(requests) / spent:6.2f} answers/s; the engine is {spent / ours:.1f} times "
              f"as fast; {differing} answers differ")  # fmt: skip
        result["seconds"][str(size)] = spent


def beside(model: Any, processor: Any, draws: list[list[Request]], settings: Any, result: dict[str, Any]) -> None:
    """Compare with vLLM, print, and fill ``result``; the first questions warm both up."""
    engine = HFBackend(twin(model), processor)
    assert engine.engine is not None, engine.unfit
    with serving(
        settings.vllm, model, processor, eager=False, context=CONTEXT, blocks=None, images=8 * len(draws[0]),
        all_cores=settings.vllm_cores == "all", arguments=("--trust-request-mm-kwargs",),
    ) as server:  # fmt: skip
        assert server.checkpoint.served is not None
        served = replace(server.checkpoint.served, family="qwen2.5-vl")
        for number, requests in enumerate(draws):
            ours, found = timed(engine, requests, time.perf_counter)
            backend = ServerBackend(replace(server.checkpoint, served=served))
            count = (8, 8, 32, 32)[number]
            backend.limiter = FixedLimit(count)
            spent, other = timed(backend, requests, time.perf_counter)
            # Of random tokens, the last may be a part of a character, which vLLM leaves out.
            texts, others = ({key: one.text.rstrip("\ufffd") for key, one in all_.items()} for all_ in (found, other))
            differing = sum(others[key] != text for key, text in texts.items())
            if number == 0:
                lengths = [response.prompt_tokens for response in found.values()]
                about = f"{settings.videos} videos, {len(requests)} questions"
                print(f"{about}, prompts of {min(lengths)} to {max(lengths)} tokens")
                print(f"{server.version}, {server.how}; videos are sent {backend.describe()['videos']}")
                continue
            rates = f"engine {len(requests) / ours:6.2f} answers/s, vLLM {len(requests) / spent:6.2f}"
            print(f"{rates} ({count} in flight): {spent / ours:.2f} times; {differing} texts differ")
            result["seconds"][f"vllm {number}"] = [ours, spent, count, differing]


if __name__ == "__main__":
    main()
