"""The size at which an encoder sees an image, against the processors themselves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evalkit import registry
from evalkit.model.families.qwen2_5_vl import FAMILY, MAX_PIXELS, MIN_PIXELS, resized
from evalkit.types import ImageSize

SIDES = (1, 13, 14, 15, 27, 28, 29, 41, 42, 43, 56, 70, 98, 126, 333, 480, 640, 1000, 1023, 4000, 9999)
LIMITS = ((MIN_PIXELS, MAX_PIXELS), (3136, 15_360), (256 * 784, 1280 * 784), (784, 784))


@pytest.mark.parametrize("limits", LIMITS)
def test_it_equals_processors_on_grid_of_sizes(limits: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    compared = refused = 0
    for width in SIDES:
        for height in SIDES:
            try:
                expected = smart_resize(height, width, 28, *limits)[::-1]
            except ValueError:
                refused += 1
                with pytest.raises(ValueError, match="too narrow"):
                    resized((width, height), *limits)
                continue
            compared += 1
            assert resized((width, height), *limits) == expected, (width, height)
    assert compared > 300
    assert refused > 20


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (644, 476)),  # the nearest multiples
        ((42, 70), (56, 56)),  # halves go to the even multiple: 1.5 and 2.5 are both 2
        ((121, 116), (112, 112)),
        ((1, 1), (56, 56)),  # up to the least area, 3136
        ((2800, 14), (812, 28)),  # 14 is no multiple, and the area then 0: scaled by √(3136 / 39,200), rounded up
        ((10_000, 10_000), (3556, 3556)),  # 3584² is the limit; in floating point the factor falls just short of it
    ],
)  # fmt: skip
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized(size) == expected


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_sides_are_multiples_and_square_like_image_keeps_limits(width: int, height: int) -> None:
    if max(width, height) > 10 * min(width, height):
        return
    found = resized((width, height), 56 * 56, 1280 * 784)
    assert all(side % 28 == 0 and side >= 28 for side in found)
    assert 56 * 56 <= found[0] * found[1] <= 1280 * 784


def test_family_limits_are_the_default() -> None:
    assert FAMILY.image_size((640, 480)) == ImageSize((640, 480), (644, 476))
    assert FAMILY.image_size((640, 480), max_pixels=15_360) == ImageSize(
        (640, 480), resized((640, 480), MIN_PIXELS, 15_360)
    )
    assert FAMILY.image_size((30, 30), min_pixels=784) == ImageSize((30, 30), (28, 28))


# --------------------------------------------------------------------------------------------------- the other families

PATCHES = {"qwen2-vl": 14, "qwen2.5-vl": 14, "qwen3-vl": 16}


@pytest.mark.parametrize("family", PATCHES)
def test_frames_are_grids_of_processors(family: str) -> None:
    """200 sizes and limits, against what transformers' image processor really made (``image_grid_thw`` × patch)."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    patch, draw = PATCHES[family], random.Random(family)
    plugin, processor = registry.families.get(family), Qwen2VLImageProcessor(patch_size=patch, merge_size=2)
    for _ in range(200):
        size = (draw.randint(1, 500), draw.randint(1, 500))
        least = draw.choice((1, 4, 16, 64)) * (2 * patch) ** 2
        most = least * draw.choice((1, 2, 5, 40))
        limits = {"shortest_edge": least, "longest_edge": most}
        try:
            grid = processor(images=[Image.new("RGB", size)], size=limits, return_tensors="pt")["image_grid_thw"]
        except ValueError:
            with pytest.raises(ValueError, match="too narrow"):
                plugin.image_size(size, least, most)
            continue
        ((_, high, wide),) = grid.tolist()
        assert plugin.image_size(size, least, most) == ImageSize(size, (wide * patch, high * patch)), (size, limits)


@pytest.mark.parametrize(
    ("family", "size", "expected"),
    [
        ("qwen2-vl", (640, 480), (644, 476)),
        ("qwen2-vl", (1, 1), (56, 56)),
        ("qwen2-vl", (10_000, 10_000), (3556, 3556)),
        ("qwen3-vl", (640, 480), (640, 480)),
        ("qwen3-vl", (500, 333), (512, 320)),
        ("qwen3-vl", (1, 1), (256, 256)),  # 65,536 pixels at least
        ("qwen3-vl", (10_000, 10_000), (4096, 4096)),  # 16,777,216 at most
        ("qwen-vl", (640, 480), (640, 480)),
        ("qwen-vl-chat", (640, 480), (640, 480)),
        ("generic", (640, 480), (640, 480)),
        ("paligemma", (1, 4000), (1, 4000)),
    ],
)
def test_released_limits(family: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert registry.families.get(family).image_size(size) == ImageSize(size, expected)


def test_backend_reports_its_processors_sizes(tiny_backend: Any) -> None:
    """The bundled checkpoint's limit is 15,360 pixels, not its family's."""
    limits = {"shortest_edge": 3136, "longest_edge": 15_360}
    for size in ((640, 480), (112, 84), (9, 14), (33, 400)):
        made = tiny_backend.processor.image_processor(images=[Image.new("RGB", size)], size=limits, return_tensors="pt")
        ((_, high, wide),) = made["image_grid_thw"].tolist()
        assert tiny_backend.image_size(size) == ImageSize(size, (wide * 14, high * 14))
    with pytest.raises(ValueError, match="aspect ratio"):
        tiny_backend.image_size((9, 4000))
