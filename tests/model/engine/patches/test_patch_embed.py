"""Patch embedding as a matrix product equals the convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine.patches import patch_embed


@pytest.mark.parametrize("bias", [True, False])
def test_same_output_as_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 16, (2, 14, 14), (2, 14, 14), bias=bias))
    given = torch.randn(50, 3, 2, 14, 14)
    larger = torch.randn(2, 3, 4, 28, 28)
    with torch.inference_mode():
        expected, whole = model(given), model(larger)
        assert patch_embed.install(model) == 1
        found = model(given)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.equal(model(larger), whole), "not a patch: the convolution itself"
    patch_embed.uninstall(model)
    assert "forward" not in vars(model[0])
    with torch.inference_mode():
        assert torch.equal(model(given), expected)


def test_other_convolutions_are_unchanged() -> None:
    others = [
        nn.Conv3d(4, 8, 2, 2, groups=2),
        nn.Conv3d(3, 8, 2, 2, padding=1),
        nn.Conv3d(3, 8, 2, 2, dilation=2),
        nn.Conv2d(3, 8, 2, 2),
    ]
    assert patch_embed.install(nn.ModuleList(others)) == 0
    hooked = nn.Conv3d(3, 8, 2, 2)
    hooked.forward = lambda x: x  # type: ignore[method-assign]
    assert patch_embed.install(hooked) == 0
    patch_embed.uninstall(hooked)
    assert "forward" in vars(hooked)


def test_gradients_use_convolution() -> None:
    conv = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
    patch_embed.install(conv)
    conv(torch.randn(5, 3, 2, 4, 4)).sum().backward()
    assert conv.weight.grad is not None


def test_engine_installs_and_uninstalls(tiny_backend: HFBackend) -> None:
    backend = HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=4)
    embed = backend.model.model.visual.patch_embed.proj
    assert "forward" in vars(embed)
    backend.release()
    assert "forward" not in vars(embed)
    HFBackend(tiny_backend.model, tiny_backend.processor, batch_size=4)  # as the other tests found it
