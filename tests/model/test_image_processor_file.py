"""Spellings of image processors' files, as they are read for loaded models and for servers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoint import Checkpoint, bundled_folder, resolve_checkpoint
from evalkit.endpoint import Endpoint, ServedModel
from evalkit.errors import UserError
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.server.image_sizes import resize_rule

SIZES = [(300, 200), (148, 155), (20, 300), (640, 480), (57, 56)]
EDGES = {"shortest_edge": 3136, "longest_edge": 15_360}
PIXELS = {"min_pixels": 3136, "max_pixels": 15_360}
OTHER = {"shortest_edge": 4000, "longest_edge": 1_000_000}

SPELLINGS: dict[str, Mapping[str, Any]] = {
    "outside size": PIXELS,
    "in size": {"size": PIXELS},
    "edges": {"size": EDGES},
    "outside and in size": {**PIXELS, "size": PIXELS},
    "outside overrides edges": {**PIXELS, "size": OTHER},
    "null outside": {"min_pixels": None, "max_pixels": None, "size": EDGES},
    "one of each": {"min_pixels": 3136, "size": {"max_pixels": 15_360}},
    "the minimum by default": {"size": {"longest_edge": 15_360}},
    "in size, the minimum by default": {"size": {"max_pixels": 15_360}},
}
TYPES = [
    "Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil", "Qwen2_5_VLImageProcessor",
    "Qwen2_5_VLImageProcessorFast", "Qwen3VLImageProcessor", None,
]  # fmt: skip


def written(folder: Path, settings: Mapping[str, Any], *, nested: bool = False, patch_size: int = 14) -> Path:
    """The bundled checkpoint with another image processor's file."""
    shutil.copytree(bundled_folder("tiny"), folder)
    (folder / "processor_config.json").unlink()
    content: dict[str, Any] = {
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "patch_size": patch_size, "merge_size": 2, "temporal_patch_size": 2, **settings,
    }  # fmt: skip
    names = {"processor_class": "Qwen2_5_VLProcessor"}
    name = "processor_config.json" if nested else "preprocessor_config.json"
    video = {**content, "video_processor_type": "Qwen2VLVideoProcessor", "size": EDGES}
    parts = {"image_processor": content, "video_processor": video}
    (folder / name).write_text(json.dumps(names | (parts if nested else content)))
    return folder


def served(processor: Path, family: str = "qwen2.5-vl") -> Checkpoint:
    endpoint = Endpoint("http://localhost:1/v1", processor=str(processor))
    return Checkpoint("m", "m", {}, served=ServedModel(endpoint, family=family))


def sizes(folder: Path) -> list[list[tuple[int, int]]]:
    """Sizes after resizing: of the loaded processor, and as computed for a server."""
    inputs, rule = Inputs(load_processor(resolve_checkpoint(str(folder)))), resize_rule(served(folder))
    assert rule.known
    return [[inputs.image_size(size).resized for size in SIZES], [rule.image_size(size).resized for size in SIZES]]


@pytest.fixture(scope="module")
def expected() -> list[tuple[int, int]]:
    inputs = Inputs(load_processor(resolve_checkpoint("tiny")))  # has the same limits
    found = [inputs.image_size(size).resized for size in SIZES]
    assert found[0] == (140, 84)
    return found


@pytest.mark.parametrize("nested", [False, True], ids=["preprocessor", "processor"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_limits_in_every_spelling(tmp_path: Path, expected: list[tuple[int, int]], spelling: str, nested: bool) -> None:
    settings = {"image_processor_type": "Qwen2VLImageProcessor", **SPELLINGS[spelling]}
    assert sizes(written(tmp_path / "x", settings, nested=nested)) == [expected, expected]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("spelling", ["outside size", "in size", "edges"])
def test_types_in_every_spelling(
    tmp_path: Path, expected: list[tuple[int, int]], name: str | None, spelling: str
) -> None:
    settings = {"image_processor_type": name, **SPELLINGS[spelling]}
    if name is None:
        del settings["image_processor_type"]
    assert sizes(written(tmp_path / "x", settings)) == [expected, expected]


def test_other_sides_and_defaults_are_processors(tmp_path: Path) -> None:
    """Qwen3-VL's patches are larger; without limits, transformers' own apply."""
    settings = {"image_processor_type": "Qwen2VLImageProcessorFast", "size": EDGES}
    loaded, computed = sizes(written(tmp_path / "qwen3", settings, patch_size=16))
    assert loaded == computed
    assert all(side % 32 == 0 for size in loaded for side in size)
    loaded, computed = sizes(written(tmp_path / "default", {"image_processor_type": "Qwen2VLImageProcessor"}))
    assert loaded == computed
    assert loaded[3] == (644, 476)


UNKNOWN: dict[str, tuple[Mapping[str, Any], str]] = {
    "a type of nobody": (
        {"image_processor_type": "Qwen9ImageProcessor"},
        "preprocessor_config.json has the image_processor_type Qwen9ImageProcessor; expected Qwen2VLImageProcessor",
    ),
    "another model's type": (
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}},
        "preprocessor_config.json has the image_processor_type CLIPImageProcessor; expected Qwen2VLImageProcessor",
    ),
    "sides": (
        {"image_processor_type": "Qwen2VLImageProcessor", "size": {"height": 448, "width": 448}},
        'preprocessor_config.json has the size {"height": 448, "width": 448}; expected shortest_edge and longest_edge',
    ),
    "a text": (
        {"image_processor_type": "Qwen2VLImageProcessor", "max_pixels": "1280*28*28"},
        "preprocessor_config.json has max_pixels '1280*28*28'; expected an integer",
    ),
    "swapped": (
        {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 9000, "max_pixels": 3136},
        "preprocessor_config.json has a minimum of 9000 pixels above the maximum of 3136",
    ),
    "no resizing": (
        {"image_processor_type": "Qwen2VLImageProcessor", "do_resize": False},
        "preprocessor_config.json says do_resize: false",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "sentence"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_spellings_are_refused(tmp_path: Path, settings: Mapping[str, Any], sentence: str) -> None:
    folder = written(tmp_path / "x", settings)
    with pytest.raises(UserError, match=f"^--model x: {re.escape(sentence)}"):
        load_processor(resolve_checkpoint(str(folder)))
    with pytest.raises(UserError, match=f"^--processor {re.escape(str(folder))}: {re.escape(sentence)}"):
        resize_rule(served(folder))


def test_server_s_family_without_rule_needs_no_known_processor(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}})
    rule = resize_rule(served(folder, "generic"))
    assert rule.image_size((300, 200)).resized == (300, 200)


def test_unknown_image_processor_of_another_architecture(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", {"image_processor_type": "TheirImageProcessor"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(
        UserError, match="image_processor_type TheirImageProcessor, which transformers .* does not have"
    ):
        load_processor(resolve_checkpoint(str(folder)))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "x", {"image_processor_type": "Qwen2VLImageProcessor"}, nested=name[3] == "c")
    (folder / name).write_text('{"image')
    with pytest.raises(UserError, match=f"{name} is unreadable"):
        load_processor(resolve_checkpoint(str(folder)))
    with pytest.raises(UserError, match=f"{name} is unreadable"):
        resize_rule(served(folder))
