"""Videos in the engine against the model's own ``generate``, one sample at a time: the same tokens."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evalkit.checkpoint import resolve_checkpoint
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.synthetic_image import SyntheticImage
from evalkit.model.synthetic_video import EveryFrame, SyntheticVideo
from evalkit.types import (
    Batching,
    Decoding,
    FrameSelection,
    ImagePart,
    Message,
    Request,
    Response,
    TextPart,
    VideoPart,
)

from ..hf.test_architectures import save

ASKED = ("What moves?", "How many things are there, and of which colour?", "When does it stop?")


@dataclass(frozen=True)
class Clip(SyntheticVideo):
    """Counts how often its frames are decoded, and holds other frames than a clip of another name."""

    decoded: Counter[str] = field(default_factory=Counter, compare=False)

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        self.decoded[self.name] += 1
        return super().frames(selection)[..., [sum(map(ord, self.name)) % 3, 1, 2]]


def clips() -> tuple[Counter[str], list[Clip]]:
    """An odd number of frames, one frame, more frame groups than a group has columns, two rates."""
    counter: Counter[str] = Counter()
    shapes = ((2, 2.0), (7, 2.0), (1, 1.0), (16, 2.0), (5, 5.0), (11, 0.5))
    return counter, [Clip(f"clip {n}", n, 96, 64, fps, decoded=counter) for n, fps in shapes]


def asked(videos: list[Clip]) -> list[Request]:
    """Questions about each clip; after few-shot examples; about two clips, and a clip and an image; letters."""
    sampling, turns, found = EveryFrame(columns=3, rows=2), {}, []

    def add(name: str, *messages: Message, continuations: tuple[str, ...] = ()) -> None:
        found.append(Request(name, messages, Decoding(9), continuations, video_sampling=sampling))

    for at, clip in enumerate(videos):
        for n, text in enumerate(ASKED):
            turns[at, n] = Message("user", (VideoPart(clip), TextPart(text)))
            add(f"{at}-{n}", turns[at, n])
    shot = turns[1, 0], Message("assistant", (TextPart("a disc"),))
    for at, n in itertools.product((0, 3), (0, 1)):
        add(f"few-{at}-{n}", *shot, turns[at, n])
    image = ImagePart(SyntheticImage("image", 110, 90))
    for n, text in enumerate(ASKED):
        add(f"two-{n}", Message("user", (VideoPart(videos[0]), VideoPart(videos[3]), TextPart(text))))
        add(f"mixed-{n}", Message("user", (image, VideoPart(videos[1]), TextPart("and"), image, TextPart(text))))
        add(f"image-{n}", Message("user", (image, TextPart(text))))
    add("letter", turns[1, 1], continuations=("A", "B", "C"))
    add("text", Message("user", (TextPart(ASKED[0]),)))
    return found


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HFBackend:
    folder = Path(tmp_path_factory.mktemp("checkpoints") / request.param)
    save(request.param, folder)
    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="cpu", dtype="float32", batching=Batching(3))
    assert isinstance(backend, HFBackend)
    assert backend.engine is not None
    assert backend.engine.supports_videos
    return backend


@pytest.fixture(scope="module")
def alone(opened: HFBackend) -> dict[str, Response]:
    found = {r.id: r for r in HFBackend(opened.model, opened.processor, exact=True).generate(asked(clips()[1]))}
    assert {r.error for r in found.values()} == {None}
    assert len({r.tokens for r in found.values()}) > len(found) // 2, "the answers differ"
    return found


def same(found: dict[str, Response], alone: dict[str, Response]) -> None:
    assert found.keys() == alone.keys()
    for name, one in alone.items():
        got = replace(found[name], seconds=one.seconds)
        assert got == one, name


@pytest.mark.parametrize("share", [True, False], ids=["shared", "unshared"])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_tokens_are_those_of_one_at_a_time(
    opened: HFBackend, alone: dict[str, Response], rows: int, share: bool
) -> None:
    _, videos = clips()
    backend = HFBackend(opened.model, opened.processor, batch_size=rows, options=EngineOptions(prefix_sharing=share))
    same({r.id: r for r in backend.generate(asked(videos))}, alone)


def test_each_video_is_decoded_and_encoded_once(opened: HFBackend) -> None:
    counter, videos = clips()
    backend = HFBackend(opened.model, opened.processor, batch_size=8)
    visual = opened.model.model.visual
    encoded: list[int] = []

    def count(_: Any, given: tuple[torch.Tensor, ...]) -> None:
        encoded.append(len(given[0]))

    handle = visual.register_forward_pre_hook(count)
    requests = [r for r in asked(videos) if r.id[0].isdigit()]
    assert len(list(backend.generate(requests))) == len(requests)
    handle.remove()
    assert counter == {video.name: 1 for video in videos}
    groups = sum((video.count + 1) // 2 for video in videos)
    assert sum(encoded) == groups * 6 * 4  # 3 × 2 visual tokens of 4 patches


def test_long_videos_are_computed_in_parts(opened: HFBackend, alone: dict[str, Response]) -> None:
    """Also within a video: with a budget of two frame groups, and of less than one."""
    _, videos = clips()
    for tokens in (16, 5):
        backend = HFBackend(opened.model, opened.processor, batch_size=8, max_batch_tokens=tokens)
        assert backend.engine is not None
        backend.engine.scheduler.admission.chunk = tokens
        longest = 0

        def measured(_: Any, args: Any, given: dict[str, Any]) -> None:
            nonlocal longest
            longest = max(longest, given["inputs_embeds"].shape[1])

        handle = backend.model.model.language_model.register_forward_pre_hook(measured, with_kwargs=True)
        found = {r.id: r for r in backend.generate([r for r in asked(videos) if r.id.startswith(("3-", "two", "few"))])}
        handle.remove()
        same(found, {name: one for name, one in alone.items() if name in found})
        assert longest <= max(tokens, 9 + len("<|im_start|>system\nYou are a helpful assistant."))


def test_few_videos_are_decoded_at_a_time(opened: HFBackend, alone: dict[str, Response]) -> None:
    """However many there are: those of one prefill, and the next one."""
    held, most, lock = 0, 0, Lock()

    class Counted(np.ndarray):  # type: ignore[type-arg]
        def __del__(self) -> None:
            nonlocal held
            with lock:
                held -= self.base is None

    @dataclass(frozen=True)
    class Held(Clip):
        def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
            nonlocal held, most
            found = super().frames(selection)
            kept = np.ndarray.__new__(Counted, found.shape, np.uint8)
            kept[:] = found
            with lock:
                held += 1
                most = max(most, held)
            return kept

    counter: Counter[str] = Counter()
    many = [Held(f"clip {n}", 4 + n % 5, 96, 64, decoded=counter) for n in range(24)]
    backend = HFBackend(opened.model, opened.processor, batch_size=64)
    assert backend.engine is not None
    backend.engine.scheduler.admission.video_pixels = 3 * 8 * 84 * 56
    backend.engine.scheduler.prefetch_pixels = 8 * 96 * 64
    requests = [r for r in asked(many) if r.id[0].isdigit()]
    assert len([r for r in backend.generate(requests) if r.error is None]) == len(requests)
    assert set(counter.values()) == {1}
    assert most <= 8


def test_exact_says_that_it_is_given_positions(opened: HFBackend, caplog: pytest.LogCaptureFixture) -> None:
    """In one line, however many requests there are; not for Qwen3-VL, whose videos transformers places rightly."""
    backend = HFBackend(opened.model, opened.processor, exact=True)
    for _ in range(2):
        list(backend.generate(asked(clips()[1])[:2]))
    lines = [line for line in caplog.messages if "largest position + 1" in line]
    assert len(lines) == (0 if opened.model.config.model_type == "qwen3_vl" else 1)
    assert backend.describe()["videos"] == "as videos"


def test_other_models_are_given_frames_as_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each video is decoded once for its frames, and answers are those of one request at a time."""
    save("llava", tmp_path / "llava")
    opened = BACKEND.open(resolve_checkpoint(str(tmp_path / "llava")), device="cpu", dtype="float32")
    assert isinstance(opened, HFBackend)
    counter, videos = clips()
    requests = [r for r in asked(videos) if not r.id.startswith(("few", "text"))]
    found = {r.id: r for r in opened.generate(requests)}
    assert counter == {video.name: 1 for video in videos}
    same(found, {r.id: r for r in HFBackend(opened.model, opened.processor, exact=True).generate(requests)})
    assert {r.error for r in found.values()} == {None}
    assert [len(found[name].image_sizes) for name in ("1-0", "two-0", "mixed-0")] == [0, 0, 2]
    assert found["1-0"].video_inputs[0].selection.indices == tuple(range(7))
    assert found["1-0"].prompt_tokens > 7 * 16 > found["0-0"].prompt_tokens  # 16 visual tokens per frame
    assert caplog.messages.count("LlavaForConditionalGeneration is given the frames of videos as images") == 2
    assert opened.describe()["videos"] == "frames as images"
