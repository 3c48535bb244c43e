"""Images kept as bytes and normalized on the device: identical to the image processor's output."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from evalkit.model.engine.preprocess import BytePreprocessor, GenericPreprocessor

# As in the checkpoints' preprocessor_config.json, where Qwen2-VL's and Qwen2.5-VL's are alike.  Limits are given as
# ``size``: in 5.10 to 5.17, min_pixels and max_pixels also change the defaults of all processors to come.
SETTINGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"size": {"shortest_edge": 3136, "longest_edge": 12845056}},
    "qwen2_5_vl, limited": {"size": {"shortest_edge": 3136, "longest_edge": 40 * 28 * 28}},
    "qwen3_vl": {
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
        "patch_size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    },
}  # fmt: skip


def draw_image(width: int, height: int, seed: int) -> Image.Image:
    noise = random.Random(seed).randbytes(48 * 3)
    return Image.frombytes("RGB", (8, 6), noise).resize((width, height), Image.Resampling.LANCZOS)


def draw_images(count: int, most: int = 400) -> list[Image.Image]:
    rng = random.Random(7)
    return [draw_image(rng.randint(8, most), rng.randint(8, most), seed) for seed in range(count)]


@pytest.mark.parametrize("name", SETTINGS)
def test_identical_to_processor(name: str) -> None:
    processor = Qwen2VLImageProcessor(**SETTINGS[name])
    pixels, images = BytePreprocessor(processor), draw_images(50)
    raws = [pixels.prepare(image) for image in images]
    values, grid = pixels.collate(raws, "cpu", torch.float32)
    expected = processor(images=images, return_tensors="pt")
    assert torch.equal(values, expected["pixel_values"])
    assert values.dtype == expected["pixel_values"].dtype
    assert torch.equal(grid, expected["image_grid_thw"])
    patch = processor.patch_size
    assert [raw.size for raw in raws] == [(w * patch, h * patch) for _, h, w in grid.tolist()]
    assert all(raw.tensors["pixels"].dtype == torch.uint8 for raw in raws)
    generic = [GenericPreprocessor(processor).prepare(image) for image in images[:5]]
    sizes = [a.bytes / b.bytes for a, b in zip(generic, raws, strict=False)]
    assert all(7.5 < size < 8 for size in sizes), "fp32, and every patch twice"


def test_cast_after_normalizing() -> None:
    processor = Qwen2VLImageProcessor()
    pixels, images = BytePreprocessor(processor), draw_images(3)
    values, _ = pixels.collate([pixels.prepare(image) for image in images], "cpu", torch.bfloat16)
    assert torch.equal(values, processor(images=images, return_tensors="pt")["pixel_values"].bfloat16())


def test_limits_may_change() -> None:
    processor = Qwen2VLImageProcessor()
    pixels, image = BytePreprocessor(processor), draw_image(300, 200, 1)
    assert pixels.prepare(image).size == (308, 196)
    processor.size = type(processor.size)(shortest_edge=4 * 300 * 200, longest_edge=8 * 300 * 200)
    (width, height) = pixels.prepare(image).size or (0, 0)
    assert 4 * 300 * 200 <= width * height <= 8 * 300 * 200
    assert pixels.supports(processor)


def test_threads_give_same() -> None:
    pixels, images = BytePreprocessor(Qwen2VLImageProcessor()), draw_images(40, most=200)
    with ThreadPoolExecutor(max_workers=4) as workers:
        raws = list(workers.map(pixels.prepare, images))
    for raw, image in zip(raws, images, strict=True):
        alone = pixels.prepare(image)
        assert torch.equal(raw.tensors["pixels"], alone.tensors["pixels"])
        assert raw.size == alone.size


def test_rejects_what_processor_rejects() -> None:
    thin = draw_image(2000, 8, 1)
    with pytest.raises(ValueError, match="aspect ratio"):
        BytePreprocessor(Qwen2VLImageProcessor()).prepare(thin)
    with pytest.raises(ValueError, match="aspect ratio"):
        GenericPreprocessor(Qwen2VLImageProcessor()).prepare(thin)


class Sharper(Qwen2VLImageProcessor):  # type: ignore[misc]
    """One whose own step comes between resizing and patches."""

    def rescale_and_normalize(self, images: Any, do_rescale: bool, *rest: Any) -> Any:
        return super().rescale_and_normalize(images if do_rescale else images * 2, do_rescale, *rest)

    def _preprocess(self, images: Any, **settings: Any) -> Any:
        return super()._preprocess([255 - image if settings["do_rescale"] else image for image in images], **settings)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_supported_processors(settings: dict[str, Any]) -> None:
    assert BytePreprocessor.supports(Qwen2VLImageProcessor(**settings))


def test_unsupported_processors() -> None:
    assert BytePreprocessor.supports(Qwen2VLImageProcessor(do_normalize=False))
    assert not BytePreprocessor.supports(Qwen2VLImageProcessor(do_normalize=False, do_rescale=False)), (
        "bytes, as they are"
    )
    assert not BytePreprocessor.supports(Qwen2VLImageProcessor(do_resize=False)), "odd sizes cannot be cut into patches"
    assert not BytePreprocessor.supports(Qwen2VLImageProcessorPil()), "resizes another way"
    assert not BytePreprocessor.supports(CLIPImageProcessor())
    assert not BytePreprocessor.supports(Sharper())


@pytest.mark.parametrize("processor", [Qwen2VLImageProcessor(), Qwen2VLImageProcessorPil()], ids=["torch", "pil"])
def test_generic_collates_processors_output(processor: Any) -> None:
    generic, images = GenericPreprocessor(processor), draw_images(4)
    made = generic.collate([generic.prepare(image) for image in images], "cpu", torch.bfloat16)
    expected = processor(images=images, return_tensors="pt")
    assert set(made) == set(expected)
    assert torch.equal(made["pixel_values"], expected["pixel_values"].bfloat16())
    assert torch.equal(made["image_grid_thw"], expected["image_grid_thw"])
    assert made["image_grid_thw"].dtype == torch.int64


def test_generic_rejects_what_cannot_be_batched() -> None:
    free = GenericPreprocessor(CLIPImageProcessor(do_resize=False, do_center_crop=False))
    with pytest.raises(ValueError, match=r"pixel_values .*\(1, 3, 40, 30\), \(1, 3, 40, 31\)"):
        free.collate([free.prepare(draw_image(30, 40, 1)), free.prepare(draw_image(31, 40, 1))], "cpu", torch.float32)
    qwen = GenericPreprocessor(Qwen2VLImageProcessor())
    with pytest.raises(ValueError, match="different tensors"):
        free.collate([free.prepare(draw_image(30, 40, 1)), qwen.prepare(draw_image(30, 40, 1))], "cpu", torch.float32)
