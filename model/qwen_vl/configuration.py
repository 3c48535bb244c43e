"""The configuration of Qwen-VL: the published ``config.json`` with its ``visual`` dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from transformers import PreTrainedConfig

TEXT_ONLY = (
    "this checkpoint is a text-only Qwen (model_type 'qwen' without a 'visual' part in config.json), and only Qwen-VL "
    "and Qwen-VL-Chat are supported; give a checkpoint with a vision encoder."
)


@dataclass(frozen=True)
class VisionShape:
    """The ``visual`` dictionary of the configuration, typed.

    Attributes:
        image_size: side of the square image, in pixels.
        patch_size: side of a patch, in pixels.
        width: channels of the ViT.
        layers: blocks of the ViT.
        heads: attention heads of a block.
        mlp_ratio: width of a block's MLP, as a multiple of ``width`` (truncated to an integer).
        output_dim: channels of the adapter; they must be the language model's.
        image_start_id: id of ``<img>``; ``</img>`` is the next id, and ``<imgpad>`` the one after that.
        n_queries: visual tokens per image.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float
    output_dim: int
    image_start_id: int
    n_queries: int = 256

    @classmethod
    def read(cls, visual: Mapping[str, Any] | None) -> VisionShape:
        """From the dictionary in ``config.json``; other keys are ignored.

        Raises:
            ValueError: there is none (a text-only Qwen), or a key is missing.
        """
        if not visual:
            raise ValueError(TEXT_ONLY)
        missing = [f.name for f in fields(cls) if f.name not in visual and f.name != "n_queries"]
        if missing:
            raise ValueError(f"config.json: 'visual' has no {', '.join(map(repr, missing))}; is it Qwen-VL's own file?")
        return cls(**{f.name: visual[f.name] for f in fields(cls) if f.name in visual})

    @property
    def mlp_width(self) -> int:
        """1664 × 4.9231 is 8192.04: truncated."""
        return int(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.image_size // self.patch_size


class QwenVLConfig(PreTrainedConfig):
    """Qwen-VL's configuration; the defaults are those of the published language model (7B), without a vision encoder.

    Attributes:
        visual: the vision encoder as in the file; ``vision`` is the same, typed.
        intermediate_size: twice the width of the MLP, as in the published file (22016 for 11008).
        kv_channels: channels of an attention head.
        seq_length: training length in tokens; LogN scaling and dynamic NTK begin above it.
        no_bias: whether all linear layers but ``c_attn`` lack a bias.
        original_padding: whether to treat padding as the original does: positions count it, the NTK factor comes from
            the padded length, and ``position_ids`` is ignored, so that a left-padded row differs from the single sample
            once the padded length exceeds ``seq_length``.  By default, positions begin at each row's first real token,
            and results do not depend on padding.
    """

    model_type: ClassVar[str] = "qwen"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "head_dim": "kv_channels",
        "num_key_value_heads": "num_attention_heads",
    }

    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    intermediate_size: int = 22016
    kv_channels: int = 128
    seq_length: int = 2048
    max_position_embeddings: int = 8192
    layer_norm_epsilon: float = 1e-6
    rotary_emb_base: float = 10000
    rotary_pct: float = 1.0
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    no_bias: bool = True
    attn_dropout_prob: float = 0.0
    emb_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    use_cache: bool = True
    visual: dict[str, Any] | None = None
    original_padding: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("auto_map", None)  # the remote code that these classes replace
        super().__post_init__(**kwargs)
        if self.rotary_pct != 1.0:
            raise ValueError(f"config.json: rotary_pct {self.rotary_pct} is not supported; Qwen-VL has 1.0.")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers.  Raises ``ValueError`` for a text-only Qwen and for an incomplete ``visual``."""
        VisionShape.read(config_dict.get("visual"))
        return super().from_dict(config_dict, **kwargs)

    @property
    def vision(self) -> VisionShape:
        """The ``visual`` dictionary, typed.  Raises ``ValueError`` if there is none."""
        return VisionShape.read(self.visual)

    @property
    def image_start_id(self) -> int:
        """``<img>``"""
        return self.vision.image_start_id

    @property
    def image_end_id(self) -> int:
        """``</img>``"""
        return self.vision.image_start_id + 1

    @property
    def image_token_id(self) -> int:
        """``<imgpad>``, the placeholder of visual tokens."""
        return self.vision.image_start_id + 2

    def ntk_alpha(self, length: int) -> float:
        """The NTK factor of a request whose complete prompt has ``length`` tokens.

        max(2^⌈log₂(length / seq_length) + 1⌉ − 1, 1): 1 up to ``seq_length``, 3 up to twice, 7 up to four times that,
        and so on.  Keys are cached after rotation, so requests may share a prefix only if their factors are equal.
        """
        doublings = 0
        while self.use_dynamic_ntk and length > self.seq_length << doublings:
            doublings += 1
        return float(2 ** (doublings + 1) - 1)
