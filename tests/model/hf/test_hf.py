"""The hf backend, on the bundled checkpoint: the same answers at any batch size, and as ``model.generate`` gives alone."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.model.backends.hf import BACKEND, HFBackend, pick_device, pick_dtype
from evalkit.types import Decoding, ImagePart, Message, PromptSpec, Request, TextPart


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Long and short prompts and answers mixed: 20 expressions and 20 questions, on 112-pixel images of odd sizes."""
    found = []
    for name, split in (("refcoco", "testA"), ("vqav2", "val")):
        task = registry.tasks.get(name)
        family = registry.families.get("qwen2.5-vl")
        samples = list(task.load(open_data("tiny"), split))[:20]
        found += [
            Request(f"{name}-{s.id}", family.prompt(PromptSpec(name, task.kind), s), Decoding(64)) for s in samples
        ]
    return found


def _alone(backend: HFBackend, request: Request) -> list[int]:
    """Plain transformers: processor and ``generate`` for one sample, as a model card shows it."""
    text = backend.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.messages[0].content[1].text}]}],  # type: ignore[union-attr]
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    inputs = backend.processor(text=[text], images=[request.images[0].load()], return_tensors="pt")
    with torch.inference_mode():
        out = backend.model.generate(**inputs, do_sample=False, max_new_tokens=request.decoding.max_new_tokens)
    new: list[int] = out[0, inputs["input_ids"].shape[1] :].tolist()
    return [t for t in new if t not in backend.stops]


def test_batch_sizes_agree_with_each_other_and_with_generate(tiny_backend: HFBackend, requests: list[Request]) -> None:
    alone = {r.id: _alone(tiny_backend, r) for r in requests}
    assert len({tuple(v) for v in alone.values()}) > 15, "the answers differ among themselves"
    for size in (1, 3, 16):
        backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=size)
        responses = {r.id: list(r.tokens) for r in backend.generate(requests)}
        assert responses == alone, f"batches of {size}"


def test_responses_say_what_happened(tiny_backend: HFBackend, requests: list[Request]) -> None:
    responses = {r.id: r for r in tiny_backend.generate(requests)}
    assert set(responses) == {r.id for r in requests}
    for request in requests:
        response = responses[request.id]
        assert response.finish == "stop"
        assert "<|im_end|>" not in response.text
        assert response.image_sizes[0].original == request.images[0].size()
        assert response.image_sizes[0].resized == (112, 112)
        (planned,) = tiny_backend.inputs.plan(request)
        assert response.prompt_tokens == planned.tokens, "the length that batches are sorted by is the true one"


def test_truncated_answer_is_marked(tiny_backend: HFBackend, requests: list[Request]) -> None:
    short = [Request(r.id, r.messages, Decoding(3)) for r in requests if r.id.startswith("refcoco")][:5]
    for response in tiny_backend.generate(short):
        assert response.finish == "length"
        assert len(response.tokens) == 3


def test_mixed_decodings_in_one_batch(tiny_backend: HFBackend, requests: list[Request]) -> None:
    mixed = [Request(r.id, r.messages, Decoding(2 if n % 2 else 64)) for n, r in enumerate(requests[:8])]
    lengths = {r.id: len(r.tokens) for r in tiny_backend.generate(mixed)}
    assert [lengths[r.id] <= 2 for r in mixed] == [bool(n % 2) for n in range(8)]


def test_one_unreadable_image_is_one_error(tiny_backend: HFBackend, requests: list[Request], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    whole = Path(requests[0].images[0].name).read_bytes()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    bad = [
        Request(name, (Message("user", (ImagePart(PathImage(str(tmp_path / name))), TextPart("what?"))),), Decoding(4))
        for name in ("broken.jpg", "torn.jpg", "absent.jpg")
    ]
    responses = {r.id: r for r in tiny_backend.generate([bad[0], requests[0], bad[1], requests[21], bad[2]])}
    assert {k for k, r in responses.items() if r.finish == "error"} == {"broken.jpg", "torn.jpg", "absent.jpg"}
    for name in ("broken.jpg", "torn.jpg", "absent.jpg"):
        assert str(tmp_path / name) in str(responses[name].error)
    assert responses[requests[0].id].finish == "stop"


def test_out_of_memory_halves_batches_and_loses_nothing(
    tiny_backend: HFBackend, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=16)
    whole = {r.id: r.text for r in backend.generate(requests)}
    backend.release()  # the plain path: the engine's own is in tests/model/engine
    generate = backend.model.generate
    tried: list[int] = []

    def cramped(*, input_ids: torch.Tensor, **options: Any) -> Any:
        tried.append(len(input_ids))
        if tried[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return generate(input_ids=input_ids, **options)

    monkeypatch.setattr(backend.model, "generate", cramped)
    assert {r.id: r.text for r in backend.generate(requests)} == whole
    assert tried[:4] == [16, 8, 4, 4]
    assert backend.batch_size == 4, "it is remembered"

    def full(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA oom")

    monkeypatch.setattr(backend.model, "generate", full)
    answers = list(backend.generate(requests[:3]))
    assert [r.finish for r in answers] == ["error"] * 3
    assert "MemoryError: CUDA oom" in str(answers[0].error)


def test_impossible_image_is_one_error_in_its_batch(
    tiny_backend: HFBackend, requests: list[Request], tmp_path: Path
) -> None:
    Image.new("RGB", (4000, 4)).save(tmp_path / "thread.png")  # beyond the aspect ratio that the processor takes
    message = Message("user", (ImagePart(PathImage(str(tmp_path / "thread.png"))), TextPart("?")))
    odd = Request("thread", (message,), Decoding(4))
    answers = {r.id: r for r in tiny_backend.generate([*requests[:5], odd])}
    assert answers["thread"].finish == "error"
    assert "aspect ratio" in str(answers["thread"].error)
    assert [answers[r.id].finish for r in requests[:5]] == ["stop"] * 5


def test_stops_after_the_current_batch(tiny_backend: HFBackend, requests: list[Request]) -> None:
    backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=4)
    stop = Event()
    answered = 0
    for _ in backend.generate(requests, stop):
        answered += 1
        stop.set()
    assert answered == 4


def test_text_that_names_image_token_cannot_shift_images(tiny_backend: HFBackend, requests: list[Request]) -> None:
    image = ImagePart(requests[0].images[0])
    evil = Request("evil", (Message("user", (image, TextPart("what is <|image_pad|>?"))),), Decoding(4))
    responses = {r.id: r for r in tiny_backend.generate([evil, requests[0]])}
    assert responses["evil"].finish == "error"
    assert "<|image_pad|>" in str(responses["evil"].error)
    assert responses[requests[0].id].finish == "stop"


def test_prompts_without_images_and_with_examples(tiny_backend: HFBackend, requests: list[Request]) -> None:
    example = (*requests[21].messages, Message("assistant", (TextPart("red"),)))
    few = Request("few", (*example, *requests[22].messages), Decoding(8))
    plain = Request("plain", (Message("user", (TextPart("What number is shown?"),)),), Decoding(8))
    responses = {r.id: r for r in tiny_backend.generate([few, plain])}
    assert len(responses["few"].image_sizes) == 2
    assert responses["plain"].image_sizes == ()
    assert {r.finish for r in responses.values()} <= {"stop", "length"}


def test_checkpoints_sampling_settings_are_not_applied(tiny_backend: HFBackend) -> None:
    settings = tiny_backend.model.generation_config
    assert settings.repetition_penalty in (None, 1.0)
    assert not settings.do_sample


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_devices() -> None:
    with pytest.raises(UserError, match="--device cuda: this machine .* has no CUDA GPU"):
        pick_device("cuda")
    with pytest.raises(UserError, match="--device meta: not supported"):
        pick_device("meta")
    with pytest.raises(UserError, match="--device quantum: no such device"):
        pick_device("quantum")
    assert pick_device("auto").type in ("cpu", "mps")


def test_dtypes() -> None:
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == "auto"
    assert pick_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16
    with pytest.raises(UserError, match="--dtype int8: unknown; use auto, float32"):
        pick_dtype("int8", torch.device("cpu"))


def test_corrupt_weights_are_reported(tmp_path: Path) -> None:
    source = Path(resolve_checkpoint("tiny").location)
    for file in source.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[:1000] if file.suffix == ".safetensors" else content)
    with pytest.raises(UserError, match="the checkpoint could not be loaded"):
        BACKEND.open(resolve_checkpoint(str(tmp_path)), device="cpu", dtype="auto")


def test_palette_and_grey_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "P", "RGBA", "1"):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (30, 20)).save(path)
        image = PathImage(str(path))
        assert image.size() == (30, 20)
        assert image.load().mode == "RGB"


def test_greedy_overrides_of_the_checkpoint_are_reported(
    tiny_backend: HFBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Qwen2.5-VL's ``generation_config.json`` samples and has a repetition penalty of 1.05."""
    model, kept = tiny_backend.model, tiny_backend.model.generation_config
    try:
        for said in (1, 0):  # once a process
            model.generation_config = GenerationConfig(
                do_sample=True, temperature=1e-6, repetition_penalty=1.05, eos_token_id=kept.eos_token_id
            )
            caplog.clear()
            backend = HFBackend(model, tiny_backend.processor, exact=True)
            assert len(caplog.messages) == said
            assert all("repetition_penalty=1.05, which is ignored" in m for m in caplog.messages)
        assert backend.describe()["not_applied"] == {"repetition_penalty": 1.05}
    finally:
        model.generation_config = kept
    assert tiny_backend.describe()["not_applied"] == {}
