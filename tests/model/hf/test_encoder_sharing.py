"""Models that run through their own ``generate`` encode an image of a batch once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.images import PathImage
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.engine.encoder_sharing import EncoderSharing, image_encoder
from evalkit.model.engine.options import EngineOptions
from evalkit.model.engine.patches import encode_once
from evalkit.model.engine.patches.encode_once import EncodeOnce, distinct
from evalkit.types import Batching, Decoding, ImagePart, Message, Request, TextPart

from ..families.checkpoints import built
from .test_architectures import save

ARCHITECTURES = (
    "gemma3",
    "paligemma",
    "aya_vision",
    "llama4",
    "mllama",
    "molmo2",
    "qwen3_5",
    "minicpmv4_6",
    "kosmos-2",
    "florence2",
)
SEVERAL_IMAGES = {"gemma3", "aya_vision", "llama4", "mllama", "molmo2", "qwen3_5", "minicpmv4_6"}
WITHOUT = EngineOptions(encoder_sharing=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def opened(request: pytest.FixtureRequest, folder: Path) -> HFBackend:
    return exact(request.param, folder)


def exact(model_type: str, folder: Path, dtype: str = "float32") -> HFBackend:
    """One prompt at a time, and every image."""
    path = folder / model_type
    if not path.exists():
        save(model_type, path, partial(built, model_type))
    backend = BACKEND.open(resolve_checkpoint(str(path)), device="cpu", dtype=dtype, batching=Batching(exact=True))
    assert isinstance(backend, HFBackend)
    assert backend.engine is None
    return backend


def noise(folder: Path, name: str, size: tuple[int, int], colour: tuple[int, int, int]) -> ImagePart:
    """An image of one colour, with noise, so that no two parts are equal."""
    path = folder / f"{name}.png"
    if not path.exists():
        pixels = np.random.default_rng(0).integers(-32, 32, (size[1], size[0], 3)) + colour
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return ImagePart(PathImage(str(path)))


def questions(backend: HFBackend, folder: Path) -> list[Request]:
    """Three about one image, two about another, one about each of two more; of different sizes and shapes."""
    a = noise(folder, "a", (190, 130), (255, 0, 0))
    b = noise(folder, "b", (112, 112), (0, 128, 255))
    c = noise(folder, "c", (120, 200), (200, 255, 200))
    d = noise(folder, "d", (190, 130), (0, 100, 0))
    role = "user" if backend.inputs.has_chat_template else "plain"
    asked = (
        (a, "What is it?"),
        (b, "Red?"),
        (a, "How many are there?"),
        (c, "Why?"),
        (b, "Where?"),
        (a, "Colour?"),
        (d, "Left?"),
    )
    return [
        Request(str(at), (Message(role, (image, TextPart(text))),), Decoding(6))
        for at, (image, text) in enumerate(asked)
    ]


def conversations(backend: HFBackend, folder: Path) -> list[Request]:
    """The questions, each after the same example, in which the image of two of them is shown."""
    asked = questions(backend, folder)
    shot = (*asked[3].messages, Message("assistant", (TextPart("two"),)))
    return [Request(f"few {one.id}", (*shot, *one.messages), one.decoding) for one in asked]


@contextmanager
def counted(backend: HFBackend) -> Iterator[list[int]]:
    """How many numbers the encoder's first layer returns, call by call."""
    encoder, found = image_encoder(backend.model), list[int]()
    assert encoder is not None
    first = next(module for module in encoder.modules() if not list(module.children()) and list(module.parameters()))

    def count(_: nn.Module, given: Any, out: Tensor) -> None:
        found.append(out.numel())

    handle = first.register_forward_hook(count)
    try:
        yield found
    finally:
        handle.remove()


def answers(backend: HFBackend, asked: Sequence[Request]) -> dict[str, tuple[int, ...]]:
    responses = list(backend.generate(asked))
    assert [response.error for response in responses if response.error] == []
    return {response.id: response.tokens for response in responses}


def test_each_image_is_encoded_once_and_answers_stay_the_same(
    opened: HFBackend, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = questions(opened, folder)
    several = conversations(opened, folder) if opened.model.config.model_type in SEVERAL_IMAGES else []
    alone = answers(opened, [*asked, *several])
    assert len({alone[one.id] for one in asked}) >= 3, "the answers differ"
    shared, plain = (
        HFBackend(opened.model, opened.processor),
        HFBackend(opened.model, opened.processor, options=WITHOUT),
    )
    with caplog.at_level(logging.INFO):
        assert answers(shared, asked) == {one.id: alone[one.id] for one in asked}  # after the check
    name = type(opened.model).__name__
    assert f"{name} encodes an image of a batch once, in prompts with an image" in caplog.messages
    with counted(opened) as once:
        assert answers(shared, asked) == {one.id: alone[one.id] for one in asked}
    with counted(opened) as each:
        assert answers(plain, asked) == {one.id: alone[one.id] for one in asked}
    with counted(opened) as singly:
        answers(plain, [asked[at] for at in (0, 1, 3, 6)])
    assert len(once) == len(each) == len(singly) == 1, "one batch"
    assert once == singly
    assert once[0] < each[0]
    if several:
        answers(shared, several)  # with a check of its own
        with counted(opened) as once:
            assert answers(shared, several) == {one.id: alone[one.id] for one in several}
        with counted(opened) as each:
            answers(plain, several)
        assert 2 * sum(once) < sum(each)  # 4 of 14 images
    encoder = image_encoder(opened.model)
    assert "forward" not in vars(encoder)
    family = registry.families.get(registry.family_name(opened.model.config.model_type, ""))
    assert family.without_sharing
    assert family.shares_encodings, "as the family's page says"


def test_logits_stay_the_same(opened: HFBackend, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = image_encoder(opened.model)
    assert encoder is not None
    once = EncodeOnce(encoder)
    rows = [row for request in questions(opened, folder) for row in opened.inputs.plan(request)]
    tensors = opened.inputs.prepare(rows).inputs.to(dtype=torch.float32)

    def logits() -> Tensor:
        settings: Any = {"do_sample": False, "max_new_tokens": 3, "min_new_tokens": 3}
        settings |= {"output_logits": True, "return_dict_in_generate": True}
        with torch.inference_mode():
            return torch.stack(opened.model.generate(**tensors, **settings).logits)

    expected = logits()
    with once.active():
        torch.testing.assert_close(logits(), expected, rtol=1e-4, atol=1e-4)
    assert once.encoded < once.given
    # The encoding of another image would be noticed.
    monkeypatch.setattr(encode_once, "distinct", swapped)
    with once.active():
        assert (logits() - expected).abs().max() > 0.1


def swapped(images: Sequence[Sequence[Tensor]]) -> tuple[list[int], list[int]]:
    """As ``distinct``, but each image gets the encoding of the next one of its shape."""
    first, places = distinct(images)
    shapes = [[part.shape for part in images[at]] for at in first]
    following = [
        next(
            other for step in range(1, len(first) + 1) if shapes[other := (place + step) % len(first)] == shapes[place]
        )
        for place in range(len(first))
    ]
    return first, [following[place] for place in places]


@pytest.mark.parametrize(
    ("model_type", "dtype"),
    [("gemma3", "float32"), ("mllama", "float32"), ("mllama", "bfloat16"), ("qwen3_5", "float32")],
)
def test_an_encoder_that_mixes_images_is_left_alone(
    model_type: str, dtype: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = exact(model_type, folder, dtype)
    encoder, asked = image_encoder(opened.model), questions(opened, folder)
    assert encoder is not None
    first = next(module for module in encoder.modules() if not list(module.children()) and list(module.parameters()))
    first.register_forward_hook(lambda _, given, out: out + out.mean(0, keepdim=True))
    shared, plain = (
        HFBackend(opened.model, opened.processor),
        HFBackend(opened.model, opened.processor, options=WITHOUT),
    )
    with caplog.at_level(logging.INFO):
        found = answers(shared, asked)
    assert "encodes an image for each of its questions: its logits would differ" in caplog.text
    assert found == answers(plain, asked)
    with counted(opened) as again, counted(opened) as each:
        answers(shared, asked)
        answers(plain, asked)
    assert again[0] == each[1]


@pytest.mark.parametrize("model_type", ["paligemma", "qwen3_5"])
def test_half_precision(model_type: str, folder: Path) -> None:
    opened = exact(model_type, folder, "bfloat16")
    asked = questions(opened, folder)
    shared, plain = (
        HFBackend(opened.model, opened.processor),
        HFBackend(opened.model, opened.processor, options=WITHOUT),
    )
    answers(shared, asked)
    with counted(opened) as numbers:
        answers(shared, asked)
        answers(plain, asked)
    assert 7 * numbers[0] <= 5 * numbers[1]  # 4 of 7 images, of different sizes


def test_distinct_images_are_not_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = exact("gemma3", folder)
    asked = questions(opened, folder)
    backend = HFBackend(opened.model, opened.processor)
    calls: list[int] = []
    active, check = EncodeOnce.active, EncoderSharing._check
    monkeypatch.setattr(EncodeOnce, "active", lambda once: calls.append(1) or active(once))
    monkeypatch.setattr(EncoderSharing, "_check", lambda sharing, several: calls.append(2) or check(sharing, several))
    answers(backend, [asked[at] for at in (0, 1, 3, 6)])
    assert calls == []
    answers(backend, asked)
    assert calls == [2, 1, 1]  # the check's batch, and this one
    answers(backend, [*asked, *conversations(opened, folder)])
    assert calls == [2, 1, 1, 2, 1, 1]
    answers(backend, asked)
    assert calls == [2, 1, 1, 2, 1, 1, 1]
    calls.clear()
    backend.close()
    answers(backend, asked)
    answers(HFBackend(opened.model, opened.processor, exact=True), asked)
    assert calls == []


def test_a_borrowed_model_is_given_back(folder: Path) -> None:
    opened = exact("paligemma", folder)
    encoder, asked = image_encoder(opened.model), questions(opened, folder)
    alone = answers(opened, asked)
    with BACKEND.wrap(opened.model, opened.processor) as wrapped, counted(opened) as numbers:
        assert isinstance(wrapped, HFBackend)
        assert answers(wrapped, asked) == alone
    assert 3 * numbers[-1] == 4 * numbers[0]  # four images; the check's first batch has three
    assert "forward" not in vars(encoder)


# -------------------------------------------------------------------------------------------------------- single parts


class Rows(nn.Module):
    """Counts the rows that it is given, and returns twice the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, pixel_values: Tensor, kinds: Tensor | None = None, **more: Any) -> Any:
        self.rows.append(len(pixel_values))
        out = 2 * pixel_values + (0 if kinds is None else kinds.view(-1, *(1,) * (pixel_values.ndim - 1)))
        return BaseModelOutput(last_hidden_state=out, hidden_states=(None, out))


def test_equal_checksums_do_not_make_images_equal() -> None:
    a, b, c = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0])
    assert distinct([(a,), (b,), (c,)]) == ([0, 1], [0, 1, 0])
    assert distinct([(a, b), (a, c), (a, b), (a[:1], b)]) == ([0, 1, 3], [0, 1, 0, 2])
    nan = torch.tensor([torch.nan])
    assert distinct([(nan,), (nan,)]) == ([0, 1], [0, 1])
    assert distinct([]) == ([], [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_what_is_given_with_an_image_tells_images_apart(dtype: torch.dtype) -> None:
    rows = Rows()
    pixels = torch.arange(4).view(2, 2).to(dtype)[[0, 1, 0, 0]]
    kinds = torch.tensor([1, 1, 1, 2])
    expected = rows(pixels, kinds)
    once = EncodeOnce(rows)
    with once.active():
        out = rows(pixels, kinds=kinds, flag=True)
    assert rows.rows == [4, 3]
    assert torch.equal(out.last_hidden_state, expected.last_hidden_state)
    assert out.hidden_states[0] is None
    assert torch.equal(out.hidden_states[1], expected.hidden_states[1])
    assert (once.given, once.encoded, once.problem) == (4, 3, None)


def test_what_is_not_understood_is_encoded_as_it_is() -> None:
    class Summed(Rows):
        def forward(self, pixel_values: Tensor, kinds: Tensor | None = None, **more: Any) -> Any:
            return super().forward(pixel_values, kinds, **more).last_hidden_state.sum(0)

    pixels = torch.ones(3, 2)
    cases: list[tuple[Rows, dict[str, Any], str]] = [
        (Summed(), {}, "output for 1 images has shape (2,)"),
        (Rows(), {"other": torch.ones(2)}, "tensors of different lengths"),
        (Rows(), {"other": [1]}, "is given a list"),
    ]
    for encoder, more, problem in cases:
        expected = encoder(pixels, **more)
        once = EncodeOnce(encoder)
        with once.active():
            out = encoder(pixels, **more)
        assert once.problem is not None
        assert problem in once.problem
        same = [value for value in (out, expected) if isinstance(value, Tensor)] or [
            out.last_hidden_state,
            expected.last_hidden_state,
        ]
        assert torch.equal(*same)


def test_an_encoders_own_forward_comes_back() -> None:
    rows = Rows()
    own = rows.forward = partial(rows.forward)
    once = EncodeOnce(rows)

    def fail() -> None:
        with once.active():
            assert rows.forward is not own
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert rows.forward is own
