"""Qwen2.5-VL with random weights, for ``throughput.py``: small or medium for a CPU, 7B for a GPU.

Tokenizer, chat template and processor are the tiny checkpoint's, with the released pixel limits.  A random model does
not end its answers as a trained one does.  So the end token's row of the output layer is scaled (``set_lengths``) until
the mean answer has the desired length.  Where an answer ends then depends on its image and question, and is the same
for every method, since it is decided by the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

TINY = Path(__file__).resolve().parents[1] / "model" / "tiny" / "weights" / "tiny"
PIXELS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16384 * 28 * 28}

# The proportions of the released ones: an image costs the vision encoder about half of what it costs the language
# model (0.4 in the 7B, 0.9 in the 3B).
SMALL = {
    "text": {
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 9, "num_attention_heads": 8,
        "num_key_value_heads": 2, "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    },
    "vision": {
        "depth": 8, "hidden_size": 192, "intermediate_size": 512, "num_heads": 6, "out_hidden_size": 512,
        "fullatt_block_indexes": [3, 7], "initializer_range": 0.07,
    },
}  # fmt: skip
MEDIUM = {
    "text": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 11, "num_attention_heads": 14,
        "num_key_value_heads": 2, "initializer_range": 0.04,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    },
    "vision": {
        "depth": 8, "hidden_size": 640, "intermediate_size": 1708, "num_heads": 10, "out_hidden_size": 896,
        "fullatt_block_indexes": [3, 7], "initializer_range": 0.05,
    },
}  # fmt: skip
SEVEN = {
    "text": {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31], "initializer_range": 0.03,
    },
}  # fmt: skip
SIZES = {"small": SMALL, "medium": MEDIUM, "7b": SEVEN}


@dataclass(frozen=True)
class Counts:
    """Parameters: all, and those that each token of text and each patch of an image goes through."""

    all: int
    text: int
    patch: float

    def flops(self, tokens: int, patches: int) -> float:
        """FLOPs of a forward pass in matrix products, without attention scores."""
        return 2.0 * (self.text * tokens + self.patch * patches)


def make_processor() -> Any:
    """The tiny checkpoint's, for images of any size."""
    processor = AutoProcessor.from_pretrained(TINY)
    processor.image_processor.size = type(processor.image_processor.size)(**PIXELS)
    processor.tokenizer.padding_side = "left"
    return processor


def make_model(size: str, processor: Any, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """A model with random weights that bf16 can hold, made on its device, in eval mode."""
    tokenizer = processor.tokenizer
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")
    }
    shape = SIZES[size]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "bos_token_id": None,
            "eos_token_id": end, "pad_token_id": pad, "tie_word_embeddings": False, **shape["text"],
        },
        vision_config={"patch_size": 14, "window_size": 112, **shape["vision"]},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        tie_word_embeddings=False,
        **ids,
    )  # fmt: skip
    torch.manual_seed(seed)
    with device:
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=[end, pad], pad_token_id=pad)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
        model.lm_head.weight[list(set(tokenizer.added_tokens_decoder) - {end})] = 0  # no answer has vision tokens in it
    return model.to(device).eval()


def count(model: Any) -> Counts:
    """The parameters of a model."""

    def of(module: Any) -> int:
        return sum(weight.numel() for weight in module.parameters())

    vision = model.model.visual
    return Counts(of(model), of(model.model.language_model.layers), of(vision.blocks) + of(vision.merger) / 4)


def set_lengths(model: Any, tokenizer: Any, inputs: Any, limit: int, mean: float | None) -> float:
    """Scale the end token so that these inputs' answers have ``mean`` tokens (None: all have ``limit``).

    Where greedy search would end is known, for any scale, from one run that is kept from ending: at the first token at
    which scale × the end's logit is above the largest other one.

    Returns:
        the mean that these inputs' answers have now.
    """
    end = tokenizer.eos_token_id
    row = model.lm_head.weight
    if not hasattr(model, "unscaled_end"):
        model.unscaled_end = row[end].detach().clone()
    with torch.no_grad():
        row[end] = model.unscaled_end
    if mean is None:
        with torch.no_grad():
            row[end] = 0
        return float(limit)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=limit, suppress_tokens=[end], eos_token_id=None, output_logits=True,
        return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.inference_mode():
        out = model.generate(**inputs, generation_config=settings)
    logits = torch.stack([step.float() for step in out.logits], dim=1)  # (rows, limit, vocabulary)
    ends = logits[..., end].clone()
    logits[..., end] = -torch.inf
    # The scale from which on an answer ends at a token: never, where the end's logit is below zero.
    needed = torch.where(ends > 0, logits.amax(-1) / ends.clamp_min(1e-6), torch.inf).cummin(1).values.cpu()
    scale, found = _fitting(needed, mean)
    with torch.no_grad():
        row[end] = (model.unscaled_end * scale).bfloat16()
    return found


def _fitting(needed: torch.Tensor, mean: float) -> tuple[float, float]:
    """The scale whose answers are nearest to ``mean`` tokens, and their mean."""
    steps = [0.0, *sorted(set(needed[needed.isfinite()].tolist()))]
    steps.append(steps[-1] * 1.01 + 1e-3)
    between: Sequence[float] = [(low + high) / 2 for low, high in pairwise(steps)]
    lengths = {scale: float((needed >= scale).sum(1).float().mean()) for scale in between}
    return min(lengths.items(), key=lambda pair: abs(pair[1] - mean))
