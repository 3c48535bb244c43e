"""Small random checkpoints as in ``checkpoints.py``: Aya Vision, Llama 3.2 Vision and 4, Ovis2, MiniCPM-V,
Kosmos-2, Florence-2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..hf.test_architectures import SIDE, qwen, text_config, tokenizer, vision_config

Built = tuple[dict[str, Any], Any]
SIZE = {"height": SIDE, "width": SIDE}


def aya_vision() -> Built:
    from transformers import AyaVisionProcessor, GotOcr2ImageProcessor

    words = tokenizer(
        image_token="<image>", patch="<|IMG_PATCH|>", start="<|START_OF_IMG|>", end="<|END_OF_IMG|>",
        global_tile="TILE_GLOBAL",
    )  # fmt: skip
    image = GotOcr2ImageProcessor(size=SIZE, crop_to_patches=True, min_patches=1, max_patches=4)
    processor = AyaVisionProcessor(image, words, patch_size=14, img_size=SIDE, downsample_factor=2)
    layers = ["sliding_attention", "full_attention"]
    return {
        "model_type": "aya_vision", "downsample_factor": 2, "tie_word_embeddings": False,
        "image_token_index": words.convert_tokens_to_ids("<|IMG_PATCH|>"),
        "text_config": text_config(
            "cohere2", words, sliding_window=64, layer_types=layers, tie_word_embeddings=False, logit_scale=1.0
        ),
        "vision_config": vision_config("siglip_vision_model", vision_use_head=False),
    }, processor  # fmt: skip


def ovis2() -> Built:
    from transformers import Ovis2ImageProcessor, Ovis2Processor

    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    words = tokenizer(image_token="<image>", atom="<IMG_ATOM>", **{mark.lower()[1:-1]: mark for mark in marks})
    image = Ovis2ImageProcessor(size=SIZE, crop_to_patches=True, min_patches=1, max_patches=4)
    return {
        "model_type": "ovis2", "image_token_id": words.convert_tokens_to_ids("<IMG_ATOM>"),
        "visual_indicator_token_ids": words.convert_tokens_to_ids(marks), "vocab_size": len(words), "hidden_size": 64,
        "text_config": text_config("qwen2", words), "tie_word_embeddings": False,
        "vision_config": vision_config("ovis2_vision", hidden_stride=2, vocab_size=48, num_visual_indicator_tokens=5),
    }, Ovis2Processor(image, words, image_seq_length=4)  # fmt: skip


def mllama() -> Built:
    from transformers import MllamaImageProcessor, MllamaProcessor

    words = tokenizer(image_token="<|image|>", python_token="<|python_tag|>")
    words.bos_token = "<|endoftext|>"
    text = text_config("mllama_text_model", words, cross_attention_layers=[1], tie_word_embeddings=False)
    vision = {
        "model_type": "mllama_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_global_layers": 1, "attention_heads": 2, "image_size": SIDE, "patch_size": 14, "vision_output_dim": 64,
        "intermediate_layers_indices": [0], "max_num_tiles": 4,
    }  # fmt: skip
    return {
        "model_type": "mllama", "text_config": text, "vision_config": vision,
        "image_token_index": words.convert_tokens_to_ids("<|image|>"),
    }, MllamaProcessor(MllamaImageProcessor(size=SIZE, max_image_tiles=4), words)  # fmt: skip


def llama4() -> Built:
    from transformers import Llama4ImageProcessor, Llama4Processor

    names = ("image", "image_start", "image_end", "patch", "tile_x_separator", "tile_y_separator")
    words = tokenizer(**{f"{name}_token": f"<|{name}|>" for name in names})
    words.bos_token = "<|endoftext|>"
    text = text_config(
        "llama4_text", words, intermediate_size_mlp=96, num_local_experts=2, interleave_moe_layer_step=2,
        no_rope_layers=[1, 0], attention_chunk_size=64,
    )  # fmt: skip
    vision = vision_config(
        "llama4_vision_model", intermediate_size=128, vision_output_dim=64, projector_input_dim=64,
        projector_output_dim=64,
    )  # fmt: skip
    ids = {
        f"{key}_index": words.convert_tokens_to_ids(f"<|{mark}|>")
        for key, mark in (("boi_token", "image_start"), ("eoi_token", "image_end"), ("image_token", "patch"))
    }
    return {
        "model_type": "llama4", "text_config": text, "vision_config": vision, "tie_word_embeddings": False, **ids,
    }, Llama4Processor(Llama4ImageProcessor(size=SIZE, max_patches=4), words, patch_size=14)  # fmt: skip


def minicpmv4_6() -> Built:
    from transformers import MiniCPMV4_6ImageProcessor, MiniCPMV4_6Processor, MiniCPMV4_6VideoProcessor

    marks = ("image", "video", "image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end")
    words = tokenizer(**{f"{name}_token": f"<{name}>" for name in marks})
    sizes: Any = {"scale_resolution": SIDE, "patch_size": 14, "max_slice_nums": 4}
    processor = MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessor(**sizes), MiniCPMV4_6VideoProcessor(**sizes), words
    )  # fmt: skip
    text = qwen("qwen3_5")[0]["text_config"] | {"vocab_size": len(words)}
    return {
        "model_type": "minicpmv4_6", "text_config": text, "tie_word_embeddings": False, "image_size": SIDE,
        "vision_config": vision_config("minicpmv4_6_vision"), "insert_layer_id": 0,
        "image_token_id": words.convert_tokens_to_ids("<image>"),
        "video_token_id": words.convert_tokens_to_ids("<video>"),
    }, processor  # fmt: skip


def kosmos_2() -> Built:
    from transformers import CLIPImageProcessor, Kosmos2Processor

    words = tokenizer()
    # Visual tokens are given the ids after that of the unknown token.
    words.bos_token, words.unk_token, words.chat_template = "<|endoftext|>", words.convert_ids_to_tokens(100), None
    processor = Kosmos2Processor(CLIPImageProcessor(size=SIZE, crop_size=SIZE), words)
    text = {
        "model_type": "kosmos_2_text_model", "vocab_size": len(words), "embed_dim": 64, "layers": 2, "ffn_dim": 96,
        "attention_heads": 4, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }  # fmt: skip
    return {
        "model_type": "kosmos-2", "text_config": text, "vision_config": vision_config("kosmos_2_vision_model"),
    }, processor  # fmt: skip


def florence2() -> Built:
    from transformers import CLIPImageProcessor, Florence2Processor

    places = {f"loc_{place}": f"<loc_{place}>" for place in range(1000)}
    words = tokenizer(image_token="<image>", **places)
    words.bos_token, words.chat_template = "<|endoftext|>", None
    side = {"height": 64, "width": 64}
    image = CLIPImageProcessor(size=side, crop_size=side, image_seq_length=5)
    text = {
        "model_type": "bart", "vocab_size": len(words), "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id,
        "decoder_start_token_id": words.eos_token_id, "forced_eos_token_id": None,
    }  # fmt: skip
    vision = {
        "model_type": "florence_vision", "depths": [1, 1, 1, 1], "embed_dim": [16, 32, 32, 32], "window_size": 4,
        "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2], "projection_dim": 64, "max_position_embeddings": 8,
    }  # fmt: skip
    return {
        "model_type": "florence2", "text_config": text, "vision_config": vision,
        "image_token_id": words.convert_tokens_to_ids("<image>"),
    }, Florence2Processor(image, words)  # fmt: skip


MORE: Mapping[str, Callable[[], Built]] = {
    "aya_vision": aya_vision,
    "ovis2": ovis2,
    "mllama": mllama,
    "llama4": llama4,
    "minicpmv4_6": minicpmv4_6,
    "kosmos-2": kosmos_2,
    "florence2": florence2,
}
