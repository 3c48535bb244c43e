"""Replacements for modules of transformers' models; ``patched`` installs and removes all of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from evalkit.model.engine.options import EngineOptions

from . import (
    attention,
    decoder_layer,
    mlp,
    packed_linear,
    packed_qkv,
    patch_embed,
    rms_norm,
    vision_block,
    vision_grids,
)


class ModelPatches(AbstractContextManager["ModelPatches"]):
    """The replacements in one model, see ``patched``.

    Attributes:
        grids_on_cpu: whether the vision encoder takes images' grids on the CPU (``vision_grids``).
        packed: the number of linear layers with packed weights (``packed_linear``, ``packed_qkv``).
        decoder_layers: the number of layers of the language model in fewer operations (``decoder_layer``).
    """

    def __init__(self, model: Any, options: EngineOptions) -> None:
        self.model = model
        self.options = options
        self.grids_on_cpu = False
        self.packed = 0
        self.decoder_layers = 0

    def __enter__(self) -> ModelPatches:
        try:
            if self.options.packed_vision_attention:
                attention.install_vision(self.model)
                patch_embed.install(self.model)
            if self.options.fused_kernels:
                mlp.install(self.model)
                rms_norm.install(self.model)
            attention.install_text(self.model)
            if self.options.packed_weights:
                self.packed = packed_qkv.install(self.model) + packed_linear.install(self.model)
                self.decoder_layers = decoder_layer.install(self.model)
                vision_block.install(self.model)
            self.grids_on_cpu = vision_grids.install(self.model) > 0
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        for patch in (
            decoder_layer,
            vision_block,
            attention,
            patch_embed,
            mlp,
            rms_norm,
            packed_qkv,
            packed_linear,
            vision_grids,
        ):
            patch.uninstall(self.model)


def patched(model: Any, options: EngineOptions) -> ModelPatches:
    """Replace modules of a model by faster ones inside the context; the model's own are restored after it.

    Only leaving the context restores the model.  (A generator would also do so when it is garbage collected, in the
    middle of another engine's work on the same model.)
    """
    return ModelPatches(model, options)
