"""Embeddings: the model's own vision encoder, image by image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.model.backends.hf import HFBackend
from evalkit.types import ImageRef


@pytest.fixture(scope="module")
def images() -> list[ImageRef]:
    samples = list(registry.tasks.get("vqav2").load(open_data("tiny"), "val"))
    return list({i.name: i for s in samples for i in s.images}.values())[:12]


def test_unit_vectors_that_do_not_depend_on_neighbours(tiny_backend: HFBackend, images: list[ImageRef]) -> None:
    vectors = list(tiny_backend.embed(images))
    assert len(vectors) == len(images)
    assert {len(v) for v in vectors} == {128}
    for vector in vectors:
        assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-5)
    assert list(tiny_backend.embed(images[::-1])) == vectors[::-1]
    assert list(tiny_backend.embed(images[3:4])) == vectors[3:4]
    assert list(tiny_backend.embed([])) == []
    assert len(set(vectors)) == len(vectors)


def test_vector_is_mean_of_visual_tokens(tiny_backend: HFBackend, images: list[ImageRef]) -> None:
    pixels = tiny_backend.processor.image_processor(images=[images[0].load()], return_tensors="pt")
    with torch.inference_mode():
        tokens = tiny_backend.model.model.visual(pixels["pixel_values"], grid_thw=pixels["image_grid_thw"])
    mean = tokens.pooler_output.mean(0)
    (vector,) = tiny_backend.embed(images[:1])
    assert torch.allclose(torch.tensor(vector), mean / mean.norm(), atol=1e-6)


def test_unreadable_image_fails_after_earlier_results(
    tiny_backend: HFBackend, images: list[ImageRef], tmp_path: Path
) -> None:
    Image.new("RGB", (4000, 4)).save(tmp_path / "thread.png")
    for name in ("absent.png", "thread.png"):
        found = tiny_backend.embed([images[0], PathImage(str(tmp_path / name)), images[1]])
        assert len(next(found)) == 128
        with pytest.raises(OSError, match=name):
            next(found)


def test_model_without_encoder_is_reported(tiny_backend: HFBackend, images: list[ImageRef]) -> None:
    class Blind:
        generation_config = tiny_backend.model.generation_config

    backend = HFBackend(Blind(), tiny_backend.processor, batch_size=1)
    with pytest.raises(UserError, match="Blind cannot embed images"):
        backend.embed(images)
