"""Positions of tokens in models of the Qwen2-VL line and in Kosmos-2, and ``generate`` with them.

Qwen2-VL: a video's tokens have a position in time, a row and a column: frame group t is at time t, or at its seconds
times ``tokens_per_second``, rounded down (Qwen2.5-VL).  Text after it continues from the largest position + 1, as in
training, in transformers 4 and in vLLM.  transformers 5.23 continues from max(rows, columns) instead, which is inside
the video if it has more frame groups than that.  Qwen3-VL has text between frame groups, each of which is numbered as
an image is.

Kosmos-2: in decode steps, transformers 5.23 counts the prompt's padding, too, and answers depend on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import transformers

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl")
"""Models whose videos are one run of tokens."""
NOTE = (
    f"text after a video continues from the video's largest position + 1, as in training; transformers "
    f"{transformers.__version__} would place it within the video's time, so its generate is given these positions"
)


def group_times(groups: int, seconds_per_group: float, tokens_per_second: float | None) -> list[int]:
    """The positions in time of a video's frame groups, from its own start.

    In fp32 and in this order, as vLLM computes them.  transformers 4.57 rounds ``seconds_per_group`` down first, which
    is wrong for more than two frames per second.

    Args:
        tokens_per_second: None for models that count groups (Qwen2-VL).
    """
    numbers = np.arange(groups)
    if tokens_per_second is None:
        return numbers.tolist()
    scaled = numbers.astype(np.float32) * np.float32(seconds_per_group) * np.float32(tokens_per_second)
    return np.floor(scaled).astype(np.int64).tolist()


def tokens_per_second(model: Any) -> float | None:
    """The model's scale of time; None if its videos are numbered by frame group."""
    found = getattr(getattr(model.config, "vision_config", None), "tokens_per_second", None)
    return None if found is None else float(found)


def rope_index(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    image_grids: Sequence[Sequence[int]],
    video_grids: Sequence[Sequence[int]],
    seconds_per_group: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions (3, rows, tokens) of a batch for a model in ``MODEL_TYPES``, and (rows, 1) what ``generate`` adds.

    Args:
        input_ids: (rows, tokens), with all visual tokens.
        attention_mask: (rows, tokens); None if there is no padding.
        image_grids, video_grids: (time, rows, columns) in patches, in the order of the batch.
        seconds_per_group: of each video.
    """
    config, merge = model.config, model.config.vision_config.spatial_merge_size
    images, videos = iter(image_grids), iter(zip(video_grids, seconds_per_group, strict=True))
    positions = torch.zeros(3, *input_ids.shape, dtype=torch.long)
    deltas = []
    for row, ids in enumerate(input_ids.tolist()):
        attended = [True] * len(ids) if attention_mask is None else attention_mask[row].bool().tolist()
        tokens = [token for token, used in zip(ids, attended, strict=True) if used]
        blocks: list[torch.Tensor] = []
        at = position = 0
        while at < len(tokens):
            if tokens[at] == config.image_token_id:
                grid = next(images)
                block = _block(grid, list(range(grid[0])), merge)
            elif tokens[at] == config.video_token_id:
                grid, seconds = next(videos)
                block = _block(grid, group_times(grid[0], seconds, tokens_per_second(model)), merge)
            else:
                block = torch.zeros(3, 1, dtype=torch.long)
            blocks.append(block + position)
            at += block.shape[1]
            position = int(blocks[-1].max()) + 1
        positions[:, row, torch.tensor(attended)] = torch.cat(blocks, dim=1)
        deltas.append(position - len(tokens))
    return positions.to(input_ids.device), torch.tensor(deltas, device=input_ids.device)[:, None]


def _block(grid: Sequence[int], times: Sequence[int], merge: int) -> torch.Tensor:
    """(3, tokens): time, row and column of an image's or a video's tokens."""
    axes = torch.tensor(times), torch.arange(grid[1] // merge), torch.arange(grid[2] // merge)
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)


def places_videos_otherwise(model: Any) -> bool:
    """Whether the model's own ``get_rope_index`` places text after a video elsewhere than ``rope_index``."""
    if getattr(model.config, "model_type", None) not in MODEL_TYPES:
        return False
    merge, groups, config = model.config.vision_config.spatial_merge_size, 6, model.config
    grid = [groups, 2 * merge, merge]
    text = next(token for token in range(8) if token not in (config.image_token_id, config.video_token_id))
    ids = torch.tensor([[text, *[config.video_token_id] * (2 * groups), text]], device=model.device)
    expected, _ = rope_index(model, ids, None, [], [grid], [1.0])
    found, _ = model.model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == config.video_token_id).int() * 2,
        video_grid_thw=torch.tensor([grid], device=model.device),
        attention_mask=torch.ones_like(ids),
        **({} if tokens_per_second(model) is None else {"second_per_grid_ts": torch.tensor([1.0])}),
    )
    return not torch.equal(expected, found)


@contextmanager
def trained_positions(model: Any, attention_mask: torch.Tensor | None = None) -> Iterator[None]:
    """``model.generate`` numbers tokens as in training, in this context: videos as ``rope_index``, no padding.

    Args:
        attention_mask: (rows, tokens) of the prompts, which are padded on the left; None if they are not.
    """
    with ExitStack() as stack:
        if places_videos_otherwise(model):
            stack.enter_context(_trained_video_positions(model))
        if attention_mask is not None and getattr(model.config, "model_type", None) == "kosmos-2":
            stack.enter_context(_positions_without_padding(model.text_model.model.embed_positions, attention_mask))
        yield


@contextmanager
def _trained_video_positions(model: Any) -> Iterator[None]:
    own = model.model.get_rope_index

    def numbered(input_ids: torch.Tensor, *args: Any, video_grid_thw: Any = None, **given: Any) -> Any:
        if video_grid_thw is None:
            return own(input_ids, *args, **given)
        images = given.get("image_grid_thw")
        seconds = given.get("second_per_grid_ts")
        return rope_index(
            model,
            input_ids,
            given.get("attention_mask"),
            [] if images is None else images.tolist(),
            video_grid_thw.tolist(),
            [1.0] * len(video_grid_thw) if seconds is None else torch.as_tensor(seconds).tolist(),
        )

    model.model.get_rope_index = numbered
    try:
        yield
    finally:
        del model.model.get_rope_index


@contextmanager
def _positions_without_padding(embedding: Any, attention_mask: torch.Tensor) -> Iterator[None]:
    """Kosmos-2's embedding of positions counts each row from its first token that is not padding."""
    own, used = embedding.forward, attention_mask.bool()
    padding = (~used).sum(-1)

    def counted(input_ids: torch.Tensor, past_key_values_length: int = 0, **given: Any) -> Any:
        beams = len(input_ids) // len(used)
        # As in transformers, a padding token gets no number even where a prompt or an answer contains it.
        numbered = input_ids != embedding.padding_idx
        if past_key_values_length:
            places = numbered.cumsum(-1) + past_key_values_length - padding.repeat_interleave(beams)[:, None]
        else:
            numbered = numbered & used.repeat_interleave(beams, dim=0)
            places = numbered.cumsum(-1)
        given["position_ids"] = places * numbered + embedding.padding_idx
        return own(input_ids=input_ids, past_key_values_length=past_key_values_length, **given)

    embedding.forward = counted
    try:
        yield
    finally:
        del embedding.forward
