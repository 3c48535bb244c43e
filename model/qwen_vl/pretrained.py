"""The base class of Qwen-VL's models."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration import QwenVLConfig
from .decoder import QwenVLAttention, QwenVLBlock
from .vision import QwenVLAdapter, QwenVLCrossAttention, QwenVLVisionTransformer, sincos_2d


class QwenVLPreTrainedModel(PreTrainedModel):
    """The base of both models: loading, saving, placement on devices, initial weights."""

    config: QwenVLConfig
    config_class = QwenVLConfig
    base_model_prefix = "transformer"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    _input_embed_layer = "wte"
    supports_gradient_checkpointing = True
    # The vision encoder holds parameters outside its blocks (positions, projection), so it stays on one device.
    _no_split_modules = ["QwenVLVisionTransformer", "QwenVLBlock"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _can_record_outputs = {"hidden_states": QwenVLBlock, "attentions": QwenVLAttention}
    # Buffers in checkpoints of the original code: masks and tables that are computed here.
    _keys_to_ignore_on_load_unexpected = [
        r"(^|\.)(inv_freq|masked_bias|logn_tensor|registered_causal_mask|attn_mask)$",
        r"\.attn\.bias$",
    ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, QwenVLVisionTransformer):
            scale = self.config.vision.width**-0.5
            init.normal_(module.positional_embedding, std=scale)
            init.normal_(module.proj, std=self.config.vision.output_dim**-0.5)
        elif isinstance(module, QwenVLAdapter):
            queries, width = module.pos_embed.shape
            init.normal_(module.query, std=std)
            init.copy_(module.pos_embed, sincos_2d(width, int(queries**0.5)))
        elif isinstance(module, QwenVLCrossAttention):
            init.normal_(module.in_proj_weight, std=std)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, QwenVLBlock):  # residual branches, as in GPT-2
            for layer in (module.attn.c_proj, module.mlp.c_proj):
                init.normal_(layer.weight, std=std / (2 * self.config.num_hidden_layers) ** 0.5)
