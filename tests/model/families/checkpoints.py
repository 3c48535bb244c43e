"""Small random checkpoints of the families beyond Qwen: the real architecture and processor, and the turns of the
released chat templates, rebuilt here (the templates' tools, system prompts and dates are left out)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..hf.test_architectures import ARCHITECTURES, PATCHES, SIDE, text_config, tokenizer, vision_config
from .more_checkpoints import MORE

Built = tuple[dict[str, Any], Any]


def turns(image: str, *, user: str, assistant: str, end: str, start: str = "", gap: str = "") -> str:
    """A chat template: ``start``, then a turn per message with ``image`` where images are, and ``gap`` before texts."""
    parts = {name: json.dumps(text) for name, text in locals().items()}
    return (
        "{{%- if messages -%}}{{{{- {start} -}}}}{{%- endif -%}}{{%- for message in messages -%}}"
        "{{{{- {assistant} if message['role'] == 'assistant' else {user} -}}}}"
        "{{%- for part in message['content'] -%}}"
        "{{{{- {image} if part['type'] == 'image' else {gap} + part['text'] -}}}}"
        "{{%- endfor -%}}{{{{- {end} -}}}}{{%- endfor -%}}"
        "{{%- if add_generation_prompt -%}}{{{{- {assistant} -}}}}{{%- endif -%}}"
    ).format(**parts)


CHATML = {"user": "<|im_start|>user\n", "assistant": "<|im_start|>assistant\n", "end": "<|im_end|>\n"}
# All images come first, and several are numbered.
MOLMO = (
    "{%- set seen = namespace(images=[]) -%}"
    "{%- for m in messages -%}{%- for p in m['content'] if p['type'] == 'image' -%}"
    "{%- set seen.images = seen.images + [p] -%}{%- endfor -%}{%- endfor -%}"
    "{%- for p in seen.images -%}{{- ('Image ' ~ loop.index if seen.images | length > 1 else '') ~ '<|image|>' -}}"
    "{%- endfor -%}{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\n' -}}"
    "{%- for p in m['content'] if p['type'] == 'text' -%}{{- p['text'] -}}{%- endfor -%}{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
IDEFICS = {"user": "User:", "assistant": "Assistant:", "end": "<end_of_utterance>\n", "start": "<|im_start|>"}
TEMPLATES: Mapping[str, str] = {
    "internvl": turns("<IMG_CONTEXT>\n", **CHATML),
    "llava_onevision": turns("<image>", gap="\n", **CHATML),
    "idefics3": turns("<image>", **IDEFICS),
    "smolvlm": turns("<image>", **IDEFICS),
    "gemma3": turns(
        "<start_of_image>",
        user="<start_of_turn>user\n",
        assistant="<start_of_turn>model\n",
        end="<end_of_turn>\n",
    ),
    "glm4v": turns(
        "<|begin_of_image|><|image|><|end_of_image|>",
        user="<|user|>\n",
        assistant="<|assistant|>\n",
        end="",
        start="[gMASK]<sop>",
    ),
    "mistral3": turns("[IMG]", start="<s>", user="[INST]", assistant="[/INST]", end=""),
    "molmo2": MOLMO,
    "aya_vision": turns(
        "<image>",
        start="<|endoftext|>",
        user="<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
        assistant="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        end="<|END_OF_TURN_TOKEN|>",
    ),
    "ovis2": turns("<image>\n", **CHATML),
    "minicpmv4_6": turns("<image>\n", **CHATML),
    "mllama": turns(
        "<|image|>",
        start="<|endoftext|>",
        user="<|start_header_id|>user<|end_header_id|>\n\n",
        assistant="<|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
    ),
    "llama4": turns(
        "<|image|>",
        start="<|endoftext|>",
        user="<|header_start|>user<|header_end|>\n\n",
        assistant="<|header_start|>assistant<|header_end|>\n\n",
        end="<|eot|>",
    ),
}


def gemma3() -> Built:
    from transformers import Gemma3ImageProcessor, Gemma3Processor

    words = tokenizer(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}), words, image_seq_length=PATCHES // 4
    )
    layers = ["sliding_attention", "full_attention"]
    return {
        "model_type": "gemma3", "mm_tokens_per_image": PATCHES // 4, "image_token_index": words.image_token_id,
        "boi_token_index": words.boi_token_id, "eoi_token_index": words.eoi_token_id, "tie_word_embeddings": False,
        "text_config": text_config(
            "gemma3_text", words, sliding_window=64, layer_types=layers, tie_word_embeddings=False
        ),
        "vision_config": vision_config("siglip_vision_model", vision_use_head=False),
    }, processor  # fmt: skip


def glm4v() -> Built:
    from transformers import Glm4vImageProcessor, Glm4vProcessor, Glm4vVideoProcessor

    marks = ("begin_of_image", "end_of_image", "begin_of_video", "end_of_video", "image", "video")
    words = tokenizer(**{f"{name}_token": f"<|{name}|>" for name in marks})
    image = Glm4vImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112 * 2})
    ids = dict(zip(
        ("image_start_token_id", "image_end_token_id", "video_start_token_id", "video_end_token_id", "image_token_id",
         "video_token_id"),
        words.convert_tokens_to_ids([f"<|{name}|>" for name in marks]), strict=True,
    ))  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3], "partial_rotary_factor": 1.0}
    vision = {
        "depth": 2, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64, "intermediate_size": 64, "image_size": 112,
    }  # fmt: skip
    return {
        "model_type": "glm4v", "vision_config": vision, "tie_word_embeddings": False, **ids,
        "text_config": text_config("glm4v_text", words, rope_parameters=rope),
    }, Glm4vProcessor(image, words, Glm4vVideoProcessor())  # fmt: skip


def molmo2() -> Built:
    from transformers import Molmo2ImageProcessor, Molmo2Processor, Molmo2VideoProcessor

    marks = {
        "image_start_token_id": "<im_start>", "image_end_token_id": "<im_end>", "image_patch_id": "<im_patch>",
        "col": "<im_col>", "low_res_image_start_token_id": "<low_res_im_start>", "low": "<im_low>",
        "frame_start_token_id": "<frame_start>", "frame_end_token_id": "<frame_end>", "image": "<|image|>",
        "video": "<|video|>",
    }  # fmt: skip
    words = tokenizer(**{f"{name}_token": mark for name, mark in marks.items()})
    words.bos_token = "<|endoftext|>"
    image = Molmo2ImageProcessor(size={"height": SIDE, "width": SIDE}, max_crops=4, overlap_margins=[1, 1])
    ids = {name: words.convert_tokens_to_ids(mark) for name, mark in marks.items() if name.endswith("_id")}
    ids["image_patch_id"] = words.convert_tokens_to_ids("<im_patch>")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    text = text_config("molmo2_text", words, additional_vocab_size=0)
    return {
        "model_type": "molmo2", "text_config": text, "tie_word_embeddings": False, **ids,
        "vision_config": {**small, "head_dim": 16, "num_hidden_layers": 2, "image_size": [SIDE, SIDE]},
        "adapter_config": {**small, "head_dim": 16, "vision_feature_layer": [1, 0], "text_hidden_size": 64},
    }, Molmo2Processor(image, Molmo2VideoProcessor(), words)  # fmt: skip


def mistral3() -> Built:
    from transformers import PixtralImageProcessor, PixtralProcessor

    words = tokenizer(image_token="[IMG]", image_break_token="[IMG_BREAK]", image_end_token="[IMG_END]")
    image = PixtralImageProcessor(size={"longest_edge": 2 * SIDE}, patch_size={"height": 14, "width": 14})
    return {
        "model_type": "mistral3", "image_token_index": words.convert_tokens_to_ids("[IMG]"), "spatial_merge_size": 2,
        "text_config": text_config("mistral", words, sliding_window=None), "vision_feature_layer": -1,
        "vision_config": vision_config("pixtral", image_size=2 * SIDE, head_dim=16), "tie_word_embeddings": False,
    }, PixtralProcessor(image, words, patch_size=14, spatial_merge_size=2)  # fmt: skip


OWN: Mapping[str, Callable[[], Built]] = {
    "gemma3": gemma3,
    "glm4v": glm4v,
    "mistral3": mistral3,
    "molmo2": molmo2,
    **MORE,
}


def built(model_type: str) -> Built:
    """The configuration and the processor of a checkpoint."""
    config, processor = (OWN.get(model_type) or ARCHITECTURES[model_type])()
    processor.chat_template = TEMPLATES.get(model_type, processor.chat_template)
    return config, processor
