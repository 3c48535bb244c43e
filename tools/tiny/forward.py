"""The forward pass of the tiny checkpoint, written out for packed rows, and its comparison with transformers'."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from batches import Batches
from clips import Clip, draw_clip, sampled_times
from frames import FRAME, GRID, SLOTS, compressed, patches_of
from mix import Mix
from questions import sample_vqa
from scenes import draw_scene, render


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    # Written out: on CPU, the backward pass of the fused kernel took 40 % of a training step.
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores.float() if bias is None else scores.float() + bias
    return scores.softmax(-1).to(v.dtype) @ v


CHUNK = 88
"""Queries that are attended together: none of them needs the keys after the last."""


def _attend_causally(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    parts = []
    for at in range(0, q.shape[2], CHUNK):
        end = min(at + CHUNK, q.shape[2])
        parts.append(_attend(q[:, :, at:end], k[:, :, :end], v[:, :, :end], bias[:, :, at:end, :end]))
    return torch.cat(parts, 2)


@dataclass
class Tables:
    """Constants of the 8 × 8 grid: the window order of the 16 visual tokens and the rotary tables of their patches."""

    order: torch.Tensor
    inverse: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor


def make_tables(model: Any) -> Tables:
    side = GRID // 2
    window = model.config.vision_config.window_size // 28
    cells = np.arange(SLOTS).reshape(side // window, window, side // window, window).transpose(0, 2, 1, 3).reshape(-1)
    order = torch.from_numpy(cells.copy())
    unit = [(2 * (c // side) + i, 2 * (c % side) + j) for c in range(SLOTS) for i in (0, 1) for j in (0, 1)]
    at = torch.tensor(unit, dtype=torch.float32).view(SLOTS, 4, 2)[order].reshape(-1, 2)
    config = model.config.vision_config
    spatial = config.hidden_size // config.num_heads // 2
    inv = 1.0 / (10000.0 ** (torch.arange(0, spatial, 2, dtype=torch.float32) / spatial))
    angles = (at[:, :, None] * inv).reshape(len(at), -1)
    angles = torch.cat((angles, angles), -1)
    return Tables(order, torch.argsort(order), angles.cos(), angles.sin())


def encode_images(model: Any, patches: torch.Tensor, tables: Tables) -> torch.Tensor:
    """``patches`` (N, 64, 1176) to visual tokens (N, 16, hidden)."""
    visual = model.model.visual
    n = patches.shape[0]
    heads = model.config.vision_config.num_heads
    x = F.linear(patches, visual.patch_embed.proj.weight.flatten(1))
    dim = x.shape[-1]
    x = x.view(n, SLOTS, 4, dim)[:, tables.order].reshape(n, GRID * GRID, dim)
    for number, block in enumerate(visual.blocks):
        windows = 1 if number in visual.fullatt_block_indexes else SLOTS // 4
        qkv = block.attn.qkv(block.norm1(x)).view(n, GRID * GRID, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        q, k, v = _rotate(qkv[0], tables.cos, tables.sin), _rotate(qkv[1], tables.cos, tables.sin), qkv[2]
        split = (n, heads, windows, GRID * GRID // windows, dim // heads)
        q, k, v = (t.reshape(split).transpose(1, 2).flatten(0, 1).to(v.dtype) for t in (q, k, v))
        y = _attend(q, k, v)
        y = y.view(n, windows, heads, -1, dim // heads).permute(0, 1, 3, 2, 4).reshape(n, GRID * GRID, dim)
        x = x + block.attn.proj(y)
        x = x + block.mlp(block.norm2(x))
    merged = visual.merger.mlp(visual.merger.ln_q(x).reshape(n, SLOTS, 4 * dim))
    return merged[:, tables.inverse]


SUPERVISED_LAYER = 2
"""The layer of the text that finds the decisive tokens of a clip during training."""
SUPERVISED_HEADS = 2


@dataclass
class TextStates:
    """What the text model made of a packed batch.

    Attributes:
        last: (rows, length, hidden), normed.
        early: (visual tokens, hidden), before the layer ``SUPERVISED_LAYER``.
        attended: (attending,): how much of the attention of its first heads is on the decisive tokens.
    """

    last: torch.Tensor
    early: torch.Tensor
    attended: torch.Tensor


def text_states(model: Any, batch: dict[str, torch.Tensor], visual: torch.Tensor) -> TextStates:
    """The states of a packed batch whose images and clips became ``visual`` (N, 16, hidden)."""
    text = model.model.language_model
    config = model.config.text_config
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    rows, length = batch["ids"].shape
    x = text.embed_tokens(batch["ids"])
    dim = x.shape[-1]
    places = (batch["ids"] == model.config.image_token_id) | (batch["ids"] == model.config.video_token_id)
    x = x.masked_scatter(places[..., None], visual.to(x.dtype))
    cos, sin = text.rotary_emb(x, batch["positions"])
    cos, sin = cos[:, None], sin[:, None]
    same = batch["groups"][:, :, None] == batch["groups"][:, None, :]
    seen = (batch["segments"][:, None, :] == 0) | (batch["segments"][:, :, None] == batch["segments"][:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    bias = torch.zeros((), dtype=x.dtype, device=x.device).masked_fill(~(same & seen & causal), -1e4)[:, None]
    early = attended = x.new_zeros(0)
    for number, layer in enumerate(text.layers):
        h = layer.input_layernorm(x)
        q = layer.self_attn.q_proj(h).view(rows, length, heads, -1).transpose(1, 2)
        k = layer.self_attn.k_proj(h).view(rows, length, kv, -1).transpose(1, 2)
        v = layer.self_attn.v_proj(h).view(rows, length, kv, -1).transpose(1, 2)
        q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
        k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
        if number == SUPERVISED_LAYER and "attending" in batch:
            early = x[places]
            row, at = batch["attending"].unbind(-1)
            some = slice(SUPERVISED_HEADS)
            scores = torch.einsum("mhd,mhkd->mhk", q[row, some, at], k[row, some]) * q.shape[-1] ** -0.5
            attention = (scores.float() + bias[row, :, at]).softmax(-1)
            attended = (attention * batch["attended"][:, None]).sum(-1).mean(-1)
        y = _attend_causally(q, k, v, bias)
        x = x + layer.self_attn.o_proj(y.transpose(1, 2).reshape(rows, length, dim))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return TextStates(text.norm(x), early, attended)


def to_logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """The tied head: states (…, hidden) to logits (…, vocabulary)."""
    return F.linear(states, model.model.language_model.embed_tokens.weight)


def check_forward(model: Any, processor: Any, tables: Tables, seed: int) -> float:
    """The largest difference of our forward from transformers', on two images and on a clip; above 1e-3 raises."""
    rng = random.Random(f"{seed}/check")
    data = Batches(processor, seed, 1)
    scenes = [draw_scene(rng, held_out=False, sort="shapes") for _ in range(2)]
    images = data.images([(scene, [sample_vqa(scene, rng)]) for scene in scenes], rng, 256)
    clip = draw_clip(rng, held_out=False, seconds=5)
    video = data.clip(clip, rng, 512, Mix.forms)
    assert images is not None
    assert video is not None
    gap = 0.0
    for run in (images, video):
        batch = data.collate([[run]], len(run), rng)
        with torch.no_grad():
            visual = encode_images(model, batch["patches"], tables)
            ours = to_logits(model, text_states(model, batch, visual).last)[0]
            gap = max(gap, float((ours - _theirs(model, batch, data, clip if run is video else None)).abs().max()))
    frames = np.stack([np.asarray(compressed(render(clip.at(t), *FRAME), rng)) for t in sampled_times(clip)])
    pixels = processor.video_processor(videos=[frames], do_sample_frames=False, return_tensors="pt")
    ours = patches_of(frames, processor.image_processor)
    gap = max(gap, float((ours.flatten(0, 1) - pixels["pixel_values_videos"]).abs().max()))
    if gap > 1e-3:
        raise RuntimeError(f"the written-out forward differs from transformers' by {gap:.2e}; fix it before training")
    return gap


def _theirs(model: Any, batch: dict[str, torch.Tensor], data: Batches, clip: Clip | None) -> torch.Tensor:
    """Logits of transformers' forward, at our positions; those of a clip's tokens must be transformers' own.

    Its text after a video begins at another position than in the model's training (see docs/videos.md), and separate
    segments need a mask.
    """
    ids = batch["ids"]
    kind = torch.where(ids == data.image_token, 1, torch.where(ids == data.video_token, 2, 0))
    grid = torch.tensor([[1, GRID, GRID]] * 2)
    inputs: dict[str, Any] = {"pixel_values": batch["patches"].flatten(0, 1), "image_grid_thw": grid}
    if clip is not None:
        grid = torch.tensor([[len(batch["patches"]), GRID, GRID]])
        seconds = torch.tensor([2 * clip.seconds / len(sampled_times(clip))])
        inputs = {"pixel_values_videos": batch["patches"].flatten(0, 1), "video_grid_thw": grid}
        places, _ = model.model.get_rope_index(
            ids, mm_token_type_ids=kind, video_grid_thw=grid, second_per_grid_ts=seconds
        )
        if not torch.equal(places[:, kind == 2], batch["positions"][:, kind == 2]):
            raise RuntimeError("the positions of a clip's tokens differ from transformers'")
    seen = (batch["segments"][:, None, :] == 0) | (batch["segments"][:, :, None] == batch["segments"][:, None, :])
    mask = torch.where(seen & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril(), 0.0, -1e9)[:, None]
    states = model(
        input_ids=ids, attention_mask=mask, position_ids=batch["positions"], mm_token_type_ids=kind, **inputs
    )  # fmt: skip
    logits: torch.Tensor = states.logits[0]
    return logits
