"""Position tables computed on the CPU: the encoder's output is unchanged, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.model.engine.patches import vision_grids
from evalkit.model.hf.loading import load_model

from ...hf.test_architectures import save

pytestmark = pytest.mark.skipif(
    not hasattr(vision_grids.vision_utils, "get_vision_attention_seqlens"), reason="an earlier transformers"
)
GRIDS = torch.tensor([[1, 8, 12], [1, 2, 2], [1, 20, 6], [1, 8, 12]])


def _model(name: str, folder: Path) -> Any:
    if name == "tiny":
        folder = bundled_folder("tiny")
    else:
        save(name, folder)
    return load_model(resolve_checkpoint(str(folder)), device=torch.device("cpu"), dtype="float32")


def _seen(model: Any) -> list[torch.Tensor]:
    vision = model.model.visual
    width = 3 * vision.config.temporal_patch_size * vision.config.patch_size**2
    pixels = torch.randn(int(GRIDS.prod(-1).sum()), width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.model.get_image_features(pixel_values=pixels, image_grid_thw=GRIDS)
    parts = list(found.pooler_output)
    for layer in getattr(found, "deepstack_features", None) or ():
        parts += layer if isinstance(layer, (tuple, list)) else [layer]
    return [found.last_hidden_state, *parts]


@pytest.mark.parametrize("name", ["tiny", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_features_are_unchanged(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(name, tmp_path)
    expected = _seen(model)
    assert vision_grids.install(model) == 1
    assert vision_grids.install(model) == 0, "not twice"
    given: list[dict[str, Any]] = []
    forward = type(model.model.visual).forward

    def watched(visual: Any, pixels: Any, grid_thw: Any, **more: Any) -> Any:
        given.append(dict(more))
        return forward(visual, pixels, grid_thw, **more)

    monkeypatch.setattr(type(model.model.visual), "forward", watched)
    found = _seen(model)
    assert len(found) == len(expected) > 4
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert given[0].keys() >= {"position_ids", "cu_seqlens", "max_seqlen"}
    assert given[0]["max_seqlen"] == 120
    vision_grids.uninstall(model)
    given.clear()
    assert all(torch.equal(one, other) for one, other in zip(_seen(model), expected, strict=True))
    assert not given[0].keys() & {"position_ids", "cu_seqlens"}


def test_encoder_with_unknown_tables_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("tiny", tmp_path)
    less = {name: made for name, made in vision_grids.TABLES.items() if name != "get_vision_window_index"}
    monkeypatch.setattr(vision_grids, "TABLES", less)
    assert vision_grids.install(model) == 0


def test_hooked_encoder_and_earlier_transformers_are_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("tiny", tmp_path)
    own = model.model.visual.forward
    model.model.visual.forward = lambda *given, **more: own(*given, **more)
    assert vision_grids.install(model) == 0
    del model.model.visual.forward
    monkeypatch.setattr(vision_grids, "vision_utils", None)
    assert vision_grids.install(model) == 0
