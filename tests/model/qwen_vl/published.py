"""Writes small checkpoints with random weights, file by file as Qwen-VL and Qwen-VL-Chat were published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from evalkit.model.qwen_vl import QwenVLConfig, QwenVLForConditionalGeneration

from .test_tokenization import write_tiny

RANKS = 262
END = RANKS  # <|endoftext|>; the other special tokens follow it
VISUAL = {
    "heads": 2, "image_size": 448, "image_start_id": 476, "layers": 1, "mlp_ratio": 2.01, "output_dim": 128,
    "patch_size": 14, "width": 32,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "attn_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "bf16": False, "emb_dropout_prob": 0.0, "fp16": False, "fp32": True,
    "hidden_size": 128, "initializer_range": 0.02, "intermediate_size": 320, "kv_channels": 64,
    "layer_norm_epsilon": 1e-06, "max_position_embeddings": 8192, "model_type": "qwen", "no_bias": True,
    "num_attention_heads": 2, "num_hidden_layers": 2, "onnx_safe": None, "rotary_emb_base": 10000, "rotary_pct": 1.0,
    "scale_attn_weights": True, "seq_length": 2048, "tie_word_embeddings": False, "tokenizer_type": "QWenTokenizer",
    "torch_dtype": "float32", "transformers_version": "4.31.0", "use_cache": True, "use_dynamic_ntk": True,
    "use_flash_attn": False, "use_logn_attn": True, "visual": VISUAL, "vocab_size": 512,
}  # fmt: skip
TOKENIZER = {
    "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
    "clean_up_tokenization_spaces": True,
    "model_max_length": 8192,
    "tokenizer_class": "QWenTokenizer",
}
# Both sample by default; only the chat model's has a window, only the base model's names its stop words.
GENERATION = {
    "chatml": {"max_window_size": 6144, "top_p": 0.3},
    "raw": {"stop_words_ids": [[END]], "top_p": 0.5},
}


def write_checkpoint(
    folder: Path, *, chat: bool = True, seed: int = 0, files: int = 3, spread: float = 0.2, **changes: Any
) -> Path:
    """A checkpoint in ``folder``: weights in ``files`` pickles with an index, buffers that nobody needs among them.

    Args:
        spread: standard deviation of the weights: large, so that the likeliest token stands out, and depends on
            everything before it.
        changes: of ``config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tiny(folder / "qwen.tiktoken")
    format_ = "chatml" if chat else "raw"
    generation = {"chat_format": format_, "do_sample": True, "eos_token_id": END, "max_new_tokens": 512}
    generation |= {"pad_token_id": END, "top_k": 0, "transformers_version": "4.31.0"} | GENERATION[format_]
    config = CONFIG | changes
    contents = {
        "config.json": config,
        "tokenizer_config.json": TOKENIZER,
        "generation_config.json": generation,
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2), "utf-8")
    torch.manual_seed(seed)
    model = QwenVLForConditionalGeneration(QwenVLConfig.from_dict({**config, "initializer_range": spread}))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["transformer.rotary_emb.inv_freq"] = torch.ones(config["kv_channels"] // 2)
    for layer in range(config["num_hidden_layers"]):
        weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        weights[f"transformer.h.{layer}.attn.logn_tensor"] = torch.ones(1, 8, 1, 1)
        weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8)
    names = [f"pytorch_model-{n:05d}-of-{files:05d}.bin" for n in range(1, files + 1)]
    where = {key: names[at * files // len(weights)] for at, key in enumerate(weights)}
    for name in names:
        torch.save({key: tensor for key, tensor in weights.items() if where[key] == name}, folder / name)
    index = {"metadata": {"total_size": sum(t.nbytes for t in weights.values())}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), "utf-8")
    return folder
