"""The hf backend on other architectures: random weights of a few hundred kB, saved and opened as any checkpoint is.

The answers mean nothing; they must be those of plain ``processor`` + ``generate``, whatever the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from evalkit import registry
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.prompt_text import image_placeholder
from evalkit.model.hf.responses import truncate_at_stop
from evalkit.types import Batching, Decoding, ImagePart, Message, Request, TextPart

TOKENIZER = bundled_folder("tiny")
SIDE = 56  # pixels of a tile: 4 × 4 patches of 14
PATCHES = (SIDE // 14) ** 2

# ``<image>`` and a newline where an image is, a turn a line: LLaVA's way, which writes the token that begins a text.
LINES = """\
{{- bos_token or '' -}}
{%- for message in messages -%}
{{- message['role'] | upper + ': ' -}}
{%- for part in message['content'] -%}
{{- 'IMAGE\n' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT: ' -}}{%- endif -%}
"""


def tokenizer(**special: str) -> Any:
    """The tiny checkpoint's, with other names for special tokens, and padding on the wrong side."""
    return AutoTokenizer.from_pretrained(TOKENIZER, extra_special_tokens=special, padding_side="right")


def begins_with_bos() -> Any:
    """A tokenizer that puts a token before every text, as LLaMA's does."""
    fast = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    bos = "<|endoftext|>"
    fast.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, fast.token_to_id(bos))])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token=bos, eos_token="<|im_end|>", pad_token="<|vision_pad|>", padding_side="right",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip


def text_config(model_type: str, words: Any, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type, "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 4096, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id, **more,
    }  # fmt: skip


def vision_config(model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIDE, "patch_size": 14, **more,
    }  # fmt: skip


def with_videos(template: str) -> str:
    """The chat template with a place for videos, as those of the released checkpoints have."""
    if "'video'" in template:
        return template
    image = "{%- elif part['type'] == 'text' -%}"
    assert image in template
    video = "{%- elif part['type'] == 'video' -%}\n{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}\n"
    return template.replace(image, video + image)


def qwen(model_type: str) -> tuple[dict[str, Any], Any]:
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    words = tokenizer()
    third = model_type.startswith("qwen3")
    linear = model_type == "qwen3_5"
    patch, rope = (16, [4, 2, 2]) if third else (14, [2, 3, 3])
    size = {"shortest_edge": 4 * patch**2, "longest_edge": 120 * 128}
    image = Qwen2VLImageProcessor(size=size, patch_size=patch)
    template = with_videos(words.chat_template)
    kind = Qwen2_5_VLProcessor if model_type == "qwen2_5_vl" else Qwen2VLProcessor
    processor = (
        Qwen3VLProcessor(image, words, Qwen3VLVideoProcessor(), chat_template=template)
        if third
        else kind(image, words, Qwen2VLVideoProcessor(), chat_template=template)
    )
    text = {
        "qwen2_5_vl": "qwen2_5_vl_text",
        "qwen3_5": "qwen3_5_text",
        "qwen2_vl": "qwen2_vl_text",
        "qwen3_vl": "qwen3_vl_text",
        "qwen3_vl_moe": "qwen3_vl_moe_text",
    }[model_type]
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32} if "moe" in model_type else {}
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": patch, "hidden_size": 64}
    if third:
        vision |= {"hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64}
        vision |= {} if linear else {"deepstack_visual_indexes": [0, 1]}
    elif model_type == "qwen2_5_vl":
        vision |= {"hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64, "fullatt_block_indexes": [1]}
        vision |= {"window_size": 56, "tokens_per_second": 2}
    else:
        vision |= {"embed_dim": 32, "mlp_ratio": 2}
    ids = {
        key: words.convert_tokens_to_ids(token)
        for key, token in (
            ("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"),
            ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>"),
        )
    }  # fmt: skip
    rope_parameters = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": rope}
    if linear:  # one layer of each kind: a state that every token changes, and keys and values
        rope_parameters |= {"partial_rotary_factor": 1.0}
        experts |= {
            "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
            "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
        }  # fmt: skip
    return {
        "model_type": model_type, "vision_config": vision, "tie_word_embeddings": False, **ids,
        "text_config": text_config(text, words, rope_parameters=rope_parameters, **experts),
    }, processor  # fmt: skip


def llava() -> tuple[dict[str, Any], Any]:
    from transformers import CLIPImageProcessor, LlavaProcessor

    words = begins_with_bos()
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=size), words, patch_size=14, num_additional_image_tokens=1,
        vision_feature_select_strategy="default", chat_template=LINES.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return {
        "model_type": "llava", "text_config": text_config("llama", words), "image_seq_length": PATCHES,
        "vision_config": vision_config("clip_vision_model", projection_dim=32), "vision_feature_layer": -1,
        "image_token_index": words.convert_tokens_to_ids("<image>"),
    }, processor  # fmt: skip


def llava_onevision() -> tuple[dict[str, Any], Any]:
    from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

    words = tokenizer(image_token="<image>", video_token="<video>")
    grid = [[SIDE * a, SIDE * b] for a in (1, 2) for b in (1, 2)]
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grid), words,
        LlavaOnevisionVideoProcessor(), num_image_tokens=PATCHES, vision_feature_select_strategy="full",
        chat_template=LINES.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return {
        "model_type": "llava_onevision", "text_config": text_config("qwen2", words), "image_grid_pinpoints": grid,
        "vision_config": vision_config("siglip_vision_model", vision_use_head=False),
        "image_token_index": words.convert_tokens_to_ids("<image>"),
        "video_token_index": words.convert_tokens_to_ids("<video>"),
    }, processor  # fmt: skip


def internvl() -> tuple[dict[str, Any], Any]:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    image = GotOcr2ImageProcessor(size={"height": SIDE, "width": SIDE}, min_patches=1, max_patches=4)
    processor = InternVLProcessor(
        image, words, InternVLVideoProcessor(size={"height": SIDE, "width": SIDE}), image_seq_length=PATCHES // 4,
        chat_template=LINES.replace("IMAGE", "<IMG_CONTEXT>"),
    )  # fmt: skip
    vision = vision_config("internvl_vision", image_size=[SIDE, SIDE], patch_size=[14, 14])
    return {
        "model_type": "internvl", "text_config": text_config("qwen2", words), "vision_config": vision,
        "image_token_id": words.convert_tokens_to_ids("<IMG_CONTEXT>"), "image_seq_length": PATCHES // 4,
        "tie_word_embeddings": False,
    }, processor  # fmt: skip


def idefics(model_type: str) -> tuple[dict[str, Any], Any]:
    from transformers import (
        Idefics3ImageProcessor,
        Idefics3Processor,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    words = tokenizer(
        fake_image_token="<fake_token_around_image>", image_token="<image>",
        end_of_utterance_token="<end_of_utterance>", global_image_token="<global-img>",
    )  # fmt: skip
    sizes: Any = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    template = LINES.replace("IMAGE", "<image>")
    if model_type == "smolvlm":
        video = SmolVLMVideoProcessor(size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE})
        processor: Any = SmolVLMProcessor(
            SmolVLMImageProcessor(**sizes), words, video, image_seq_len=PATCHES // 4, chat_template=template
        )
    else:
        processor = Idefics3Processor(
            Idefics3ImageProcessor(**sizes), words, image_seq_len=PATCHES // 4, chat_template=template
        )
    return {
        "model_type": model_type, "text_config": text_config("llama", words), "scale_factor": 2,
        "vision_config": vision_config(f"{model_type}_vision"), "tie_word_embeddings": False,
        "image_token_id": words.convert_tokens_to_ids("<image>"), "pad_token_id": words.pad_token_id,
    }, processor  # fmt: skip


def paligemma() -> tuple[dict[str, Any], Any]:
    from transformers import PaliGemmaProcessor, SiglipImageProcessor

    words = tokenizer(image_token="<image>")
    words.bos_token = "<|endoftext|>"
    words.chat_template = None
    size = {"height": SIDE, "width": SIDE}
    processor = PaliGemmaProcessor(SiglipImageProcessor(size=size, image_seq_length=PATCHES), words)
    return {
        "model_type": "paligemma", "text_config": text_config("gemma", words), "projection_dim": 64, "hidden_size": 64,
        "vision_config": vision_config("siglip_vision_model", vision_use_head=False, projection_dim=64),
        "image_token_index": words.convert_tokens_to_ids("<image>"),
    }, processor  # fmt: skip


ARCHITECTURES: dict[str, Callable[[], tuple[dict[str, Any], Any]]] = {
    "qwen2_vl": lambda: qwen("qwen2_vl"),
    "qwen2_5_vl": lambda: qwen("qwen2_5_vl"),
    "qwen3_vl": lambda: qwen("qwen3_vl"),
    "qwen3_vl_moe": lambda: qwen("qwen3_vl_moe"),
    "qwen3_5": lambda: qwen("qwen3_5"),
    "llava": llava,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "idefics3": lambda: idefics("idefics3"),
    "smolvlm": lambda: idefics("smolvlm"),
    "paligemma": paligemma,
}


def save(name: str, folder: Path, build: Callable[[], tuple[dict[str, Any], Any]] | None = None) -> None:
    """Write a checkpoint of random weights, large enough that different images get different answers."""
    config, processor = (build or ARCHITECTURES[name])()
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**config)).float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1.5 * weight[0].numel() ** -0.5)
            elif weight.numel() == 1:  # Llama 3.2 Vision's gates, which are closed before training
                weight.fill_(1)
    words = processor.tokenizer
    model.generation_config = GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    if model.config.is_encoder_decoder:
        model.generation_config.decoder_start_token_id = words.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HFBackend:
    folder = tmp_path_factory.mktemp("checkpoints") / request.param
    save(request.param, folder)
    assert sum(f.stat().st_size for f in folder.glob("*.safetensors")) < 3e6
    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="cpu", dtype="float32", batching=Batching(3))
    assert isinstance(backend, HFBackend)
    assert backend.model.config.model_type == request.param
    return backend


def conversations(backend: HFBackend) -> list[Request]:
    """Questions with one image; with a few-shot example's before it; with none.  PaliGemma: running text, one image."""
    every = registry.tasks.get("vqav2").load(open_data("tiny"), "val")
    samples = list({s.images[0].size(): s for s in every}.values())[:7]  # no two images of one size
    assert len(samples) == 7
    if backend.model.config.model_type == "paligemma":
        return [
            Request(s.id, (Message("plain", (ImagePart(s.images[0]), TextPart(f"answer en {s.text}"))),), Decoding(8))
            for s in samples
        ]
    turns = [Message("user", (ImagePart(s.images[0]), TextPart(s.text))) for s in samples]
    few = (turns[0], Message("assistant", (TextPart("red"),)), turns[1])
    return [
        *(Request(s.id, (turn,), Decoding(8)) for s, turn in zip(samples[:5], turns, strict=False)),
        Request("few", few, Decoding(8)),
        Request("few too", (turns[5], Message("assistant", (TextPart("a blue square"),)), turns[6]), Decoding(8)),
        Request("blind", (Message("user", (TextPart("What number is shown?"),)),), Decoding(8)),
    ]


def plain(backend: HFBackend, request: Request) -> dict[str, torch.Tensor]:
    """The model's inputs for one request, as a model card shows it."""
    images = [image.load() for image in request.images]
    if request.messages[0].role == "plain":
        place = image_placeholder(backend.processor)
        text = "".join(place if isinstance(p, ImagePart) else p.text for p in request.messages[0].content)
        inputs = backend.processor(text=[text], images=images, return_tensors="pt")
        inputs.pop("labels", None)
        return dict(inputs)
    shown = iter(images)
    turns = [
        {
            "role": m.role,
            "content": [
                {"type": "image", "image": next(shown)}
                if isinstance(p, ImagePart)
                else {"type": "text", "text": p.text}
                for p in m.content
            ],
        }
        for m in request.messages
    ]
    return dict(
        backend.processor.apply_chat_template(
            turns, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
    )


def test_answers_are_those_of_plain_generate(opened: HFBackend) -> None:
    requests = conversations(opened)
    alone, lengths = {}, {}
    for request in requests:
        inputs = plain(opened, request)
        lengths[request.id] = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            out = opened.model.generate(**inputs, do_sample=False, max_new_tokens=8)[0, lengths[request.id] :].tolist()
        alone[request.id] = truncate_at_stop(out, opened.stops)[0]
    assert len({tuple(tokens) for tokens in alone.values()}) > len(requests) // 2, "the answers differ"
    for size in (1, 3):
        backend = HFBackend(opened.model, opened.processor, batch_size=size)
        responses = {r.id: r for r in backend.generate(requests)}
        assert {k: r.error for k, r in responses.items() if r.error} == {}
        assert {k: list(r.tokens) for k, r in responses.items()} == alone, f"batches of {size}"
        assert {k: r.prompt_tokens for k, r in responses.items()} == lengths


# PaliGemma reads images and question both ways, so nothing before the answer is the same for two questions.
# Qwen3.5 keeps the state of its linear attention beside keys and values.
UNFIT = {"paligemma", "qwen3_5"}


def test_shared_prefixes_change_nothing(opened: HFBackend) -> None:
    """Several questions to an image, and one after a few-shot example, at every batch size, shared and not."""
    first, second, *_ = samples = list(
        {s.images[0].size(): s for s in registry.tasks.get("vqav2").load(open_data("tiny"), "val")}.values()
    )
    unfit = opened.model.config.model_type in UNFIT
    plainly = opened.model.config.model_type == "paligemma"
    asked = ["What is it?", "How many things are there, and of which colour?", "Is the large one red?"]
    requests = [
        Request(
            f"{at}-{n}",
            (Message("plain" if plainly else "user", (ImagePart(s.images[0]), TextPart(text))),),
            Decoding(9),
        )
        for at, s in enumerate(samples[:3])
        for n, text in enumerate(asked)
    ]
    if not plainly:
        shot = (
            Message("user", (ImagePart(first.images[0]), TextPart(asked[0]))),
            Message("assistant", (TextPart("two"),)),
        )
        for n, text in enumerate(asked):
            turn = Message("user", (ImagePart(second.images[0]), TextPart(text)))
            requests.append(Request(f"few-{n}", (*shot, turn), Decoding(9)))
    exact = HFBackend(opened.model, opened.processor, exact=True)
    alone = {r.id: r for r in exact.generate(requests)}
    for rows, share in itertools.product((1, 3, 16, 64), (True, False)):
        backend = HFBackend(
            opened.model, opened.processor, batch_size=rows, options=EngineOptions(prefix_sharing=share)
        )
        assert (backend.engine is None) == unfit, backend.unfit
        for response in backend.generate(requests):
            one = alone[response.id]
            assert response.error is None
            assert response.tokens == one.tokens, f"{response.id} in batches of {rows}, share={share}"
            assert (response.prompt_tokens, response.image_sizes) == (one.prompt_tokens, one.image_sizes)


def test_previews_and_frames_are_right(opened: HFBackend) -> None:
    requests = conversations(opened)
    responses = {r.id: r for r in opened.generate(requests)}
    previews = BACKEND.preview(resolve_checkpoint(opened.model.config._name_or_path), requests)
    for request, preview in zip(requests, previews, strict=True):
        response = responses[request.id]
        assert (preview.tokens, preview.image_sizes) == (response.prompt_tokens, response.image_sizes)
        assert all(p.text in preview.prompt for m in request.messages for p in m.content if isinstance(p, TextPart))
        assert [f.original for f in response.image_sizes] == [image.size() for image in request.images]
        if opened.model.config.model_type.startswith("qwen") and request.images:
            patch = opened.model.config.vision_config.patch_size
            grid = plain(opened, request)["image_grid_thw"].tolist()
            assert [f.resized for f in response.image_sizes] == [(w * patch, h * patch) for _, h, w in grid]
        else:
            assert [f.resized for f in response.image_sizes] == [f.original for f in response.image_sizes]


def test_limits_on_images_are_obeyed_or_refused(opened: HFBackend) -> None:
    model_type = opened.model.config.model_type
    least = replace(resolve_checkpoint(opened.model.config._name_or_path), max_pixels=64 * 64)
    if not model_type.startswith("qwen"):
        with pytest.raises(UserError, match=f"--max-pixels: the processor of {model_type} does not resize by number"):
            BACKEND.preview(least, [])
        return
    for preview in BACKEND.preview(least, conversations(opened)):
        assert all(
            w * h <= 64 * 64 < f.original[0] * f.original[1] for f in preview.image_sizes for w, h in [f.resized]
        )


def test_continuations_are_ranked_as_by_plain_forward_passes(opened: HFBackend) -> None:
    options = ("red", "a large green circle", "7")
    asked = [Request(r.id, r.messages, r.decoding, options) for r in conversations(opened)]
    best = {}
    for request in asked:
        means = []
        for option in options:
            inputs = plain(opened, request)
            ids = torch.tensor([opened.tokenizer(option, add_special_tokens=False)["input_ids"]])
            start = inputs["input_ids"].shape[1]
            for name in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"):
                if name in inputs:  # PaliGemma's prompt sees itself both ways, what follows does not (type 1)
                    more = {"input_ids": ids, "mm_token_type_ids": 0 * ids}.get(name, torch.ones_like(ids))
                    inputs[name] = torch.cat([inputs[name], more], 1)
            with torch.inference_mode():
                logits = opened.model(**inputs).logits[0, start - 1 : -1]
            means.append(torch.nn.functional.cross_entropy(logits, ids[0]).item())
        best[request.id] = options[means.index(min(means))]
    for size in (1, 3):
        backend = HFBackend(opened.model, opened.processor, batch_size=size)
        assert {r.id: r.text for r in backend.generate(asked)} == best


def test_embeddings_do_not_depend_on_neighbours(opened: HFBackend) -> None:
    images = [r.images[0] for r in conversations(opened)[:4]]
    vectors = list(opened.embed(images))
    assert [len(v) for v in vectors] == [64] * 4
    assert [sum(x * x for x in v) for v in vectors] == pytest.approx([1] * 4, abs=1e-5)
    assert list(opened.embed(images[2:])) == vectors[2:]
    assert len(set(vectors)) == 4
