"""Blocks of vision encoders in fewer operations: the same features up to rounding, the same weights afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from evalkit.model.engine.options import EngineOptions
from evalkit.model.engine.patches import packed_linear, patched, vision_block
from evalkit.model.engine.patches.forward_override import has_own_forward

WIDTH = 256


def qwen2() -> Any:
    config = Qwen2VLVisionConfig(depth=3, embed_dim=WIDTH, num_heads=4, mlp_ratio=2, hidden_size=64)
    return Qwen2VisionTransformerPretrainedModel._from_config(config)


def qwen25() -> Any:
    config = Qwen2_5_VLVisionConfig(
        depth=3, hidden_size=WIDTH, num_heads=4, intermediate_size=384, out_hidden_size=64, fullatt_block_indexes=[1],
        window_size=56,
    )  # fmt: skip
    return Qwen2_5_VisionTransformerPretrainedModel._from_config(config)


def qwen3() -> Any:
    config = Qwen3VLVisionConfig(
        depth=3, hidden_size=WIDTH, num_heads=4, intermediate_size=384, out_hidden_size=64, deepstack_visual_indexes=[1]
    )
    return Qwen3VLVisionModel._from_config(config)


class Wrapped(torch.nn.Module):
    """A model of which the engine's patches find the parts."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual


def features(visual: Any) -> list[torch.Tensor]:
    """Of two images of different sizes."""
    grid = torch.tensor([[1, 8, 12], [1, 6, 4]])
    inner = visual.config.in_channels * visual.config.temporal_patch_size * visual.config.patch_size**2
    pixels = (torch.arange(int(grid.prod(1).sum()) * inner) * 12.9898).sin().view(-1, inner)
    with torch.inference_mode():
        out = visual(pixels, grid_thw=grid)
    return [out.pooler_output, *(getattr(out, "deepstack_features", None) or ())]


@pytest.mark.parametrize("make", [qwen2, qwen25, qwen3])
def test_features_change_by_rounding_only(make: Any) -> None:
    torch.manual_seed(0)
    visual = make().eval()
    expected = features(visual)
    with patched(Wrapped(visual), EngineOptions()):
        assert not any(map(has_own_forward, visual.blocks))
        found = features(visual)
    assert all(map(has_own_forward, visual.blocks))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).norm() / other.norm()) < 1e-5
    assert all(torch.equal(one, other) for one, other in zip(features(visual), expected, strict=True))


def test_small_weights_are_packed_in_vision_encoders_only() -> None:
    """They are multiplied by many rows there."""
    visual = qwen25()
    plain = torch.nn.Linear(WIDTH, WIDTH)
    assert packed_linear.MIN_NUMBERS_FOR_IMAGES <= plain.weight.numel() < packed_linear.MIN_NUMBERS
    model = torch.nn.ModuleDict({"visual": visual, "plain": plain})
    with patched(model, EngineOptions()):
        assert packed_linear.packed_weight(visual.blocks[0].attn.proj) is not None
        assert packed_linear.packed_weight(plain) is None


def test_gradients_are_those_of_the_own_forward() -> None:
    """oneDNN's products have none."""
    visual = qwen25()
    hidden, boundaries = torch.randn(8, WIDTH, requires_grad=True), torch.tensor([0, 8], dtype=torch.int32)
    given = {"cu_seqlens": boundaries, "position_embeddings": (torch.ones(8, WIDTH // 4), torch.zeros(8, WIDTH // 4))}
    (expected,) = torch.autograd.grad(visual.blocks[0](hidden, **given).sum(), hidden)
    with patched(Wrapped(visual), EngineOptions()):
        (found,) = torch.autograd.grad(visual.blocks[0](hidden, **given).sum(), hidden)
    assert torch.allclose(found, expected, atol=1e-4)


def test_without_packed_weights_blocks_are_left_alone() -> None:
    visual = qwen25()
    with patched(Wrapped(visual), EngineOptions(packed_weights=False)):
        assert all(map(has_own_forward, visual.blocks))
    assert vision_block.install(visual) == 0
