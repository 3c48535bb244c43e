"""Positions of prompts with videos, as transformers 4.57.6 numbers them (``tests/golden/video_positions.json``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.qwen2_5_vl import Qwen2_5_VLConfig, Qwen2_5_VLModel
from transformers.models.qwen2_vl import Qwen2VLConfig, Qwen2VLModel

from evalkit.model.engine.rope_positions import RopePositions
from evalkit.model.engine.vision import ProcessedImage
from evalkit.model.hf.positions import group_times, places_videos_otherwise, rope_index, trained_positions

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "video_positions.json").read_text(encoding="utf-8"))
CASES = GOLDEN["cases"]
IMAGE, VIDEO, START, END, TIME = 150, 151, 152, 153, 9
PER_SECOND = {"qwen2_vl": None, "qwen2_5_vl": 2.0}


def elements(case: dict[str, Any]) -> list[int | ProcessedImage]:
    """The prompt as the engine has it: text tokens, images, and frame groups."""
    found: list[int | ProcessedImage] = []
    for part in case["prompt"]:
        if isinstance(part, int):
            found.append(part)
            continue
        *groups, rows, columns = part[1:] if part[0] == "i" else part[1:4]
        grid = rows // 2, columns // 2
        tokens = grid[0] * grid[1]
        if part[0] == "i":
            found += [START, ProcessedImage((IMAGE,) * tokens, tokens, grid, None, None), END]
        elif case["model"] == "qwen3_vl":
            group = ProcessedImage((VIDEO,) * tokens, tokens, grid, None, None)
            found += [TIME, START, group, END] * groups[0]
        else:
            found.append(START)
            offset = 0
            for time in group_times(groups[0], part[4], PER_SECOND[case["model"]]):
                found.append(ProcessedImage((VIDEO,) * tokens, tokens, grid, None, None, offset, time))
                offset = max(time + 1, *grid)
            found.append(END)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["model"])
def test_engine_numbers_prompts_as_trained(case: dict[str, Any]) -> None:
    """Also where the prompt is computed in parts, at every place, within a video too."""
    whole = elements(case)
    ids, positions, following = RopePositions(grids=True).number(whole, 0)
    assert positions.tolist() == case["positions"]
    assert (len(ids), following) == (positions.shape[1], case["next"])
    for cut in range(1, len(whole)):
        _, first, between = RopePositions(grids=True).number(whole[:cut], 0)
        _, second, end = RopePositions(grids=True).number(whole[cut:], between)
        assert torch.equal(torch.cat([first, second], dim=1), positions), cut
        assert end == following


def of_type(model_type: str) -> Any:
    vision = SimpleNamespace(spatial_merge_size=2)
    if PER_SECOND[model_type] is not None:
        vision.tokens_per_second = PER_SECOND[model_type]
    config = SimpleNamespace(model_type=model_type, image_token_id=IMAGE, video_token_id=VIDEO, vision_config=vision)
    return SimpleNamespace(config=config)


def given(case: dict[str, Any]) -> tuple[torch.Tensor, list[list[int]], list[list[int]], list[float]]:
    ids = [token for part in elements(case) for token in ([part] if isinstance(part, int) else part.ids)]
    images = [[1, *part[1:]] for part in case["prompt"] if not isinstance(part, int) and part[0] == "i"]
    videos = [part for part in case["prompt"] if not isinstance(part, int) and part[0] == "v"]
    return torch.tensor(ids), images, [part[1:4] for part in videos], [part[4] for part in videos]


def padded(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    ids, mask = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for row, tokens in enumerate(rows):
        ids[row, longest - len(tokens) :] = tokens
        mask[row, longest - len(tokens) :] = 1
    return ids, mask


def joined(lists: Sequence[list[Any]]) -> list[Any]:
    return [one for part in lists for one in part]


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl"])
def test_generate_is_given_the_same_positions(model_type: str) -> None:
    """All prompts as one batch, padded on the left."""
    cases = [case for case in CASES if case["model"] == model_type]
    rows, images, videos, seconds = zip(*map(given, cases), strict=True)
    ids, mask = padded(rows)
    positions, deltas = rope_index(of_type(model_type), ids, mask, *map(joined, (images, videos, seconds)))
    for row, case in enumerate(cases):
        assert positions[:, row, mask[row].bool()].tolist() == case["positions"]
        assert int(deltas[row]) + len(rows[row]) == case["next"]


@pytest.mark.parametrize(("config", "model"), [(Qwen2VLConfig, Qwen2VLModel), (Qwen2_5_VLConfig, Qwen2_5_VLModel)])
def test_get_rope_index_is_replaced_only_where_it_differs(config: Any, model: Any) -> None:
    """In a context, and for prompts with videos."""
    settings = config(
        text_config={"num_hidden_layers": 1, "hidden_size": 32, "vocab_size": 200, "intermediate_size": 32,
            "num_attention_heads": 4, "num_key_value_heads": 2},
        vision_config={"depth": 1, "tokens_per_second": 2} if config is Qwen2_5_VLConfig else {"depth": 1},
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END,
    )  # fmt: skip
    with torch.device("meta"):
        inner = model(settings)
    outer = SimpleNamespace(config=settings, model=inner, device=torch.device("cpu"))
    case = next(case for case in CASES if case["model"] == settings.model_type)
    ids, _, videos, seconds = given(case)
    inputs: dict[str, Any] = {
        "mm_token_type_ids": (ids == VIDEO).int()[None] * 2, "video_grid_thw": torch.tensor(videos),
        "attention_mask": torch.ones_like(ids)[None], "second_per_grid_ts": seconds,
    }  # fmt: skip
    with trained_positions(outer):
        assert inner.get_rope_index(ids[None], **inputs)[0][:, 0].tolist() == case["positions"]
    own = inner.get_rope_index(ids[None], **inputs)[0][:, 0].tolist()
    assert (own != case["positions"]) == places_videos_otherwise(outer)


def test_group_times_are_not_rounded_per_group() -> None:
    assert group_times(5, 2 / 3, 2.0) == [0, 1, 2, 4, 5]  # three frames per second: 4/3 of a position per group
    assert group_times(4, 0.25, 2.0) == [0, 0, 1, 1]
    assert group_times(4, 0.25, None) == [0, 1, 2, 3]
