"""Previews, running text, limits on images: what the model is given."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from evalkit import registry
from evalkit.checkpoint import Checkpoint, resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.families.qwen2_5_vl import resized
from evalkit.model.hf.processor_loading import load_processor
from evalkit.types import Batching, Decoding, ImagePart, Message, PromptSpec, Request, TextPart

VISION = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    """Chat, examples, running text, no image, continuations; images of very different shapes."""
    task, family = registry.tasks.get("vqav2"), registry.families.get("qwen2.5-vl")
    samples = list(task.load(open_data("tiny"), "val"))[:6]
    asked = [family.prompt(PromptSpec(task.name, task.kind), s) for s in samples]
    folder = tmp_path_factory.mktemp("images")
    shapes = []
    for size in ((300, 40), (31, 500), (20, 20), (640, 480)):
        Image.new("RGB", size, "red").save(folder / f"{size[0]}.png")
        shapes.append(PathImage(str(folder / f"{size[0]}.png")))
    chat = [Request(f"chat{n}", messages, Decoding(4)) for n, messages in enumerate(asked)]
    chat += [
        Request(f"shape{n}", (Message("user", (ImagePart(p), TextPart("What is it?"))),), Decoding(4))
        for n, p in enumerate(shapes)
    ]
    few = (*asked[0], Message("assistant", (TextPart("red"),)), *asked[1])
    plain = (TextPart("Look: "), ImagePart(shapes[0]), TextPart(" and "), ImagePart(shapes[3]), TextPart(" It is"))
    return [
        *chat,
        Request("few", few, Decoding(4)),
        Request("blind", (Message("user", (TextPart("What number is shown?"),)),), Decoding(4)),
        Request("plain", (Message("plain", plain),), Decoding(4)),
        Request("options", asked[2], Decoding(1), ("A", "red circle", "B")),
    ]


def test_previews_agree_with_responses(tiny_backend: HFBackend, requests: list[Request]) -> None:
    responses = {r.id: r for r in tiny_backend.generate(requests)}
    previews = list(BACKEND.preview(resolve_checkpoint("tiny"), requests))
    for request, preview in zip(requests, previews, strict=True):
        response = responses[request.id]
        assert response.finish != "error"
        assert preview.tokens == response.prompt_tokens
        assert preview.image_sizes == response.image_sizes
        assert preview.prompt == tiny_backend.inputs.prompt(request)
        assert preview.prompt.count("<|image_pad|>") == len(request.images)


def test_previews_need_no_weights(requests: list[Request], tmp_path: Path) -> None:
    folder = tmp_path / "weightless"
    shutil.copytree(resolve_checkpoint("tiny").location, folder)
    (folder / "model.safetensors").write_bytes(b"not weights")
    checkpoint = resolve_checkpoint(str(folder))
    (preview,) = BACKEND.preview(checkpoint, requests[:1])
    assert preview.tokens > 20
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="--model weightless: its processor could not be loaded"):
        BACKEND.preview(checkpoint, requests[:1])


def test_processor_without_image_token_counts(
    tiny_backend: HFBackend, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = type(tiny_backend.processor)
    known = list(BACKEND.preview(resolve_checkpoint("tiny"), requests))
    monkeypatch.delattr(processor, "_get_num_multimodal_tokens")
    assert list(BACKEND.preview(resolve_checkpoint("tiny"), requests)) == known
    assert tiny_backend.inputs.plan(requests[9])[0].tokens > tiny_backend.inputs.plan(requests[8])[0].tokens
    lengths = {r.id: r.prompt_tokens for r in tiny_backend.generate(requests)}
    assert [lengths[r.id] for r in requests] == [p.tokens for p in known]


def test_preview_of_an_invalid_prompt_is_reported(requests: list[Request], tmp_path: Path) -> None:
    Image.new("RGB", (4000, 4)).save(tmp_path / "thread.png")
    for name, said in (("thread.png", "aspect ratio"), ("absent.png", "absent.png")):
        message = Message("user", (ImagePart(PathImage(str(tmp_path / name))), TextPart("?")))
        with pytest.raises(UserError, match=f"sample odd: .*{said}"):
            list(BACKEND.preview(resolve_checkpoint("tiny"), [Request("odd", (message,), Decoding(4))]))


# -------------------------------------------------------------------------------------------------------- running text


def test_running_text_has_no_template(tiny_backend: HFBackend, requests: list[Request]) -> None:
    (plain,) = [r for r in requests if r.id == "plain"]
    assert tiny_backend.inputs.prompt(plain) == f"Look: {VISION} and {VISION} It is"
    inputs = tiny_backend.processor(
        text=[tiny_backend.inputs.prompt(plain)], images=[i.load() for i in plain.images], return_tensors="pt"
    )
    with torch.inference_mode():
        alone = tiny_backend.model.generate(**inputs, do_sample=False, max_new_tokens=4)
    new = [t for t in alone[0, inputs["input_ids"].shape[1] :].tolist() if t not in tiny_backend.stops]
    for size in (1, 3):
        backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=size)
        answers = {r.id: r for r in backend.generate([*requests[:3], plain])}
        assert list(answers["plain"].tokens) == new


def test_no_chat_template_is_reported(requests: list[Request]) -> None:
    processor = load_processor(resolve_checkpoint("tiny"))
    processor.chat_template = processor.tokenizer.chat_template = None
    backend = HFBackend(_Model(), processor, batch_size=1)
    with pytest.raises(UserError, match="has no chat template"):
        list(backend.generate(requests[:1]))
    processor.chat_template = "{{ raise_exception('roles must alternate') }}"
    backend = HFBackend(_Model(), processor, batch_size=1)
    with pytest.raises(UserError, match="rejects this conversation \\(user\\): roles must alternate"):
        list(backend.generate(requests[:1]))


class _Model:
    """What a backend needs of a model that it never asks."""

    class generation_config:  # noqa: N801
        eos_token_id = 1
        pad_token_id = 0


# -------------------------------------------------------------------------------------------------- limits on images


def limited(least: int | None, most: int | None) -> Checkpoint:
    return replace(resolve_checkpoint("tiny"), min_pixels=least, max_pixels=most)


@pytest.mark.parametrize(("least", "most"), [(None, 3200), (40_000, 60_000), (40_000, None), (None, 200_000)])
def test_limits_change_frames_as_familys_rule_says(
    requests: list[Request], least: int | None, most: int | None
) -> None:
    if least == 40_000 and most is None:  # above the tiny checkpoint's own upper limit
        with pytest.raises(UserError, match="--min-pixels: images cannot have between 40000 and 15360 pixels"):
            BACKEND.preview(limited(least, most), requests)
        return
    previews = list(BACKEND.preview(limited(least, most), requests))
    for request, preview in zip(requests, previews, strict=True):
        sizes = [image.size() for image in request.images]
        expected = [resized(size, least or 56 * 56, most or 120 * 128) for size in sizes]
        assert [size.resized for size in preview.image_sizes] == expected
    backend = BACKEND.open(limited(least, most), device="cpu", dtype="float32", batching=Batching(4))
    responses = {r.id: r for r in backend.generate(requests)}
    assert [responses[r.id].image_sizes for r in requests] == [p.image_sizes for p in previews]
    assert [responses[r.id].prompt_tokens for r in requests] == [p.tokens for p in previews]
    assert isinstance(backend, HFBackend)
    pixels = backend.inputs.pixels(requests[0].images[0])["image_grid_thw"][0].tolist()
    assert (pixels[2] * 14, pixels[1] * 14) == previews[0].image_sizes[0].resized, "embeddings obey them too"


def test_other_processors_have_no_such_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoProcessor, CLIPImageProcessor

    processor = load_processor(resolve_checkpoint("tiny"))
    processor.image_processor = CLIPImageProcessor(size={"shortest_edge": 224, "longest_edge": 448})
    monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: processor)
    sentence = "--max-pixels: the processor of tiny does not resize by number of pixels; leave it out."
    with pytest.raises(UserError, match=sentence):
        load_processor(limited(None, 10_000))
    with pytest.raises(UserError, match="--min-pixels: the processor of tiny"):
        load_processor(limited(10_000, None))
    load_processor(limited(None, None))
