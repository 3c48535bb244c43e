"""Train the tiny checkpoint: ``python tools/tiny/train.py --out DIR``

Writes ``DIR/tiny`` (the end of the training) and ``DIR/tiny-early`` (a snapshot of the same run, clearly worse).

The model is transformers' Qwen2.5-VL.  Two things make it trainable on two CPU cores: several questions share one
image's prefix behind a block mask, and several images are packed into one row of tokens.  The forward pass is written
out for this layout.  Before the first step it is compared with transformers' on the same conversation, and training
stops if they differ.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from checkpoint import build_config, build_processor, save, train_tokenizer
from questions import (
    BROAD,
    HARD,
    HARDER,
    PAIR_PROMPTS,
    QA,
    SYSTEM,
    WIDER,
    Mix,
    answer_text,
    pair_questions,
    questions,
    sample_choice,
    sample_vqa,
    user_text,
)
from scenes import draw_scene, image_size, render
from targets import FIELDS, Heads, cell_targets
from torch.utils.data import DataLoader, Dataset

FRAME = (112, 112)
GRID = 8  # patches per side
SLOTS = 16  # visual tokens per image
IGNORE = -100


WIDER_STEPS = 1500


@dataclass(frozen=True)
class Stage:
    """A stage of the training: a cosine from ``peak`` over ``cosine`` steps, truncated where the next stage begins."""

    first: int
    cosine: int
    peak: float
    mix: Mix
    extra: bool = True  # whether there are auxiliary losses


# The second stage was added because the first found only half of the boxes; the third has more multiple choice.
# The fourth, with points, labelled boxes and two images, has not been trained to its end: the bundled weights are those
# before it (``--start-from`` them to try it).
STAGES = (
    Stage(0, 5000, 1.0, BROAD),
    Stage(4250, 2500, 0.5, HARD),
    Stage(6500, 3000, 0.5, HARDER),
    Stage(9500, WIDER_STEPS, 0.3, WIDER, extra=False),
)


def stage_at(step: int) -> Stage:
    return next(stage for stage in reversed(STAGES) if step >= stage.first)


def learning_rate(step: int) -> float:
    """The factor on the peak learning rates at ``step``."""
    stage = stage_at(step)
    warm = min(1.0, (step - stage.first + 1) / 100)
    return warm * stage.peak * (0.5 + 0.5 * math.cos(math.pi * (step - stage.first) / stage.cosine)) + 0.002


def extra_weight(step: int) -> float:
    """The factor on the extra losses: they fall to 0 after four fifths of the stage."""
    stage = stage_at(step)
    return stage.extra * max(0.0, 1.0 - (step - stage.first) / (0.8 * stage.cosine))


@dataclass(frozen=True)
class Shape:
    """The fixed shape of a training batch."""

    images: int = 48
    rows: int = 38
    length: int = 256
    conversations: int = 2  # of four images each


# ---------------------------------------------------------------------------------------------------------------- data


def _weight(qa: QA, token: str) -> float:
    if qa.kind == "grounding":
        return 1.0 if token.strip("Ġ").isdigit() else 0.05
    if qa.kind == "pointing":
        return 1.5 if token.strip("Ġ").isdigit() else 0.2
    if qa.kind == "detection":
        return 1.0 if token.strip("Ġ").isdigit() else 0.4
    if qa.kind in ("reading", "page"):
        return 3.0 if token.isdigit() else 1.0
    if token == "<|im_end|>":
        return 0.5
    return {"vqa": 2.5, "choice": 2.0, "caption": 1.2, "pair": 2.5}[qa.kind]


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Batch ``i`` depends only on the seed and ``i``, not on the number of workers."""

    def __init__(self, processor: Any, shape: Shape, seed: int, steps: int) -> None:
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.image_processor
        self.shape, self.seed, self.steps = shape, seed, steps
        self.image_token = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._ids = lru_cache(maxsize=50_000)(lambda text: self.tokenizer(text)["input_ids"])

    def __len__(self) -> int:
        return self.steps

    def _positions(self, start: int) -> tuple[np.ndarray, int]:
        side = GRID // 2
        rows, columns = np.divmod(np.arange(SLOTS), side)
        return np.stack([np.full(SLOTS, start), start + rows, start + columns]), start + side

    def _turn(self, qa: QA, text: str) -> tuple[list[int], list[int], list[float], int]:
        """Ids, labels and weights of one question, asked as ``text``, and its answer (not of the line end after it).

        The last value is the position of the token just before the first one that depends on the image.
        """
        head = self._ids(f"{text}<|im_end|>\n<|im_start|>assistant\n")
        answer = self._ids(answer_text(qa, FRAME) + "<|im_end|>")
        tokens = self.tokenizer.convert_ids_to_tokens(answer)
        tail = self._ids("\n")
        ids = [*head, *answer, *tail]
        labels = [IGNORE] * len(head) + list(answer) + [IGNORE] * len(tail)
        weights = [0.0] * len(head) + [_weight(qa, t) for t in tokens] + [0.0] * len(tail)
        digits = [i for i, t in enumerate(tokens) if t.isdigit()]
        first = digits[1] if qa.kind == "grounding" else 0  # digits[0] is the 2 of "bbox_2d"
        return ids, labels, weights, len(head) + first - 1

    def _open(self, first: bool) -> tuple[list[int], list[int]]:
        before = self._ids((SYSTEM if first else "") + "<|im_start|>user\n<|vision_start|>")
        return before, self._ids("<|vision_end|>")

    def _group(self, blocks: list[list[QA]], rng: random.Random, budget: int) -> dict[str, Any] | None:
        """One or several images with their questions as a run of tokens; ``None`` when not even the first fits."""
        ids: list[int] = []
        labels: list[int] = []
        weights: list[float] = []
        segments: list[int] = []
        positions: list[np.ndarray] = []
        places: list[tuple[int, tuple[float, float, float, float]]] = []
        at = 0

        def put(new: list[int], segment: int, start: int) -> int:
            ids.extend(new)
            labels.extend([IGNORE] * len(new))
            weights.extend([0.0] * len(new))
            segments.extend([segment] * len(new))
            positions.append(np.broadcast_to(start + np.arange(len(new)), (3, len(new))))
            return start + len(new)

        conversation = len(blocks) > 1
        for number, qas in enumerate(blocks):
            before, after = self._open(first=number == 0)
            at = put(before, 0, at)
            visual, at = self._positions(at)
            ids.extend([self.image_token] * SLOTS)
            labels.extend([IGNORE] * SLOTS)
            weights.extend([0.0] * SLOTS)
            segments.extend([0] * SLOTS)
            positions.append(visual)
            at = put(after, 0, at)
            taken = 0
            for qa in qas:
                turn, turn_labels, turn_weights, before_answer = self._turn(qa, user_text(qa, rng))
                if len(ids) + len(turn) > budget:
                    continue
                taken += 1
                if qa.about is not None:
                    places.append((len(ids) + before_answer, qa.about))
                end = put(turn, 0 if conversation else taken, at)
                labels[-len(turn) :] = turn_labels
                weights[-len(turn) :] = turn_weights
                if conversation:
                    at = end
            if not taken:
                return None
        return {
            "ids": ids, "labels": labels, "weights": weights, "segments": segments,
            "positions": np.concatenate(positions, axis=1),
            "places": places,
        }  # fmt: skip

    def _pair(self, qas: list[QA], rng: random.Random, budget: int) -> dict[str, Any] | None:
        """Two images in one turn, with questions about both as separate continuations; ``None`` if they do not fit."""
        opening, rest = PAIR_PROMPTS[0] if rng.random() < 0.75 else PAIR_PROMPTS[1]
        image = [self.image_token] * SLOTS
        between = self._ids("<|vision_end|> <|vision_start|>")
        before = self._ids(f"{SYSTEM}<|im_start|>user\n{opening}<|vision_start|>")
        after = self._ids("<|vision_end|>")
        ids = [*before, *image, *between, *image, *after]
        first, at = self._positions(len(before))
        second, end = self._positions(at + len(between))
        line = [np.broadcast_to(start + np.arange(n), (3, n)) for start, n in
                ((0, len(before)), (at, len(between)), (end, len(after)))]  # fmt: skip
        positions = [line[0], first, line[1], second, line[2]]
        labels, weights, segments = [IGNORE] * len(ids), [0.0] * len(ids), [0] * len(ids)
        for number, qa in enumerate(qas, 1):
            turn, turn_labels, turn_weights, _ = self._turn(qa, rest.format(q=qa.question))
            ids += turn
            labels += turn_labels
            weights += turn_weights
            segments += [number] * len(turn)
            positions.append(np.broadcast_to(end + len(after) + np.arange(len(turn)), (3, len(turn))))
        if len(ids) > budget:
            return None
        return {
            "ids": ids, "labels": labels, "weights": weights, "segments": segments,
            "positions": np.concatenate(positions, axis=1), "places": [],
        }  # fmt: skip

    def _same_kind(self, rng: random.Random) -> list[tuple[Any, QA]]:
        """Four scenes with one question of one kind each: three examples and the question that follows them."""
        kind = rng.choice(("vqa", "vqa", "caption", "grounding", "reading", "page", "choice"))
        sort = {"reading": "number", "page": "page", "vqa": "shapes", "grounding": "shapes"}.get(kind)
        turns: list[tuple[Any, QA]] = []
        while len(turns) < 4:
            scene = draw_scene(rng, held_out=False, sort=sort)
            if kind == "vqa":
                turns.append((scene, sample_vqa(scene, rng)))
            elif kind == "choice":
                turns.append((scene, sample_choice(scene, rng)))
            else:
                fit = [qa for qa in questions(scene, rng) if qa.kind == kind]
                if fit:
                    turns.append((scene, fit[0]))
        return turns

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self.seed}/train/{index}")
        mix = stage_at(index).mix
        shape = self.shape
        rows: list[list[dict[str, Any]]] = [[] for _ in range(shape.rows)]
        room = [shape.length] * shape.rows
        drawn: list[list[Any]] = [[] for _ in range(shape.rows)]

        def place(blocks: list[list[QA]], scenes: list[Any], row: int) -> bool:
            group = self._group(blocks, rng, room[row])
            if group is None:
                return False
            rows[row].append(group)
            drawn[row].extend(scenes)
            room[row] -= len(group["ids"])
            return True

        images = 0
        for conversation in range(shape.conversations):
            turns = self._same_kind(rng)
            while not place([[qa] for _, qa in turns], [scene for scene, _ in turns], conversation):
                turns = turns[1:]
            images += len(turns)
        for number in range(mix.pairs):
            pair = [draw_scene(rng, held_out=False, sort="shapes") for _ in range(2)]
            qas = pair_questions(pair, rng)
            row = shape.conversations + number
            group = self._pair(qas, rng, room[row]) if qas else None
            if group is not None:
                rows[row].append(group)
                drawn[row].extend(pair)
                room[row] -= len(group["ids"])
                images += 2
        for _ in range(4 * shape.images):  # a crowded batch may end up with an image less
            if images == shape.images:
                break
            scene = draw_scene(rng, held_out=False, sorts=mix.sorts)
            if place([questions(scene, rng, mix)], [scene], max(range(shape.rows), key=room.__getitem__)):
                images += 1
        return self._collate(rows, [scene for row in drawn for scene in row], rng)

    def _collate(self, rows: list[list[dict[str, Any]]], scenes: list[Any], rng: random.Random) -> dict[str, Any]:
        shape = (len(rows), self.shape.length)
        batch: dict[str, Any] = {
            "ids": np.zeros(shape, np.int64),
            "labels": np.full(shape, IGNORE, np.int64),
            "weights": np.zeros(shape, np.float32),
            "segments": np.zeros(shape, np.int64),
            "groups": np.full(shape, -1, np.int64),
        }
        positions = np.zeros((3, *shape), np.int64)
        places: list[tuple[int, int]] = []
        boxes: list[tuple[float, float, float, float]] = []
        for r, groups in enumerate(rows):
            at = 0
            for g, group in enumerate(groups):
                n = len(group["ids"])
                for key in ("ids", "labels", "weights", "segments"):
                    batch[key][r, at : at + n] = group[key]
                batch["groups"][r, at : at + n] = g
                positions[:, r, at : at + n] = group["positions"]
                places += [(r, at + place) for place, _ in group["places"]]
                boxes += [box for _, box in group["places"]]
                at += n
        sizes = [image_size(rng) for _ in scenes]
        images = [render(scene, *size) for scene, size in zip(scenes, sizes, strict=True)]
        pixels = self.image_processor(images, return_tensors="pt")
        if not bool((pixels["image_grid_thw"] == torch.tensor([1, GRID, GRID])).all()):
            raise RuntimeError("a training image did not become an 8 × 8 grid of patches")
        out = {key: torch.from_numpy(value) for key, value in batch.items()}
        out["positions"] = torch.from_numpy(positions)
        out["places"] = torch.tensor(places, dtype=torch.long).view(-1, 2)
        out["place_boxes"] = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
        out["patches"] = pixels["pixel_values"].view(len(scenes), GRID * GRID, -1)
        cells = [cell_targets(scene, *size) for scene, size in zip(scenes, sizes, strict=True)]
        for name in FIELDS:
            out[f"cell_{name}"] = torch.from_numpy(np.stack([c[name] for c in cells]))
        return out


# ------------------------------------------------------------------------------------------------------------- forward


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    # Written out: on CPU, the backward pass of the fused kernel took 40 % of a training step.
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores.float() if bias is None else scores.float() + bias
    return scores.softmax(-1).to(v.dtype) @ v


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


def text_states(model: Any, batch: dict[str, torch.Tensor], visual: torch.Tensor, image_token: int) -> torch.Tensor:
    """Last states (rows, length, hidden) of a packed batch whose images became ``visual`` (N, 16, hidden)."""
    text = model.model.language_model
    config = model.config.text_config
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    rows, length = batch["ids"].shape
    x = text.embed_tokens(batch["ids"])
    dim = x.shape[-1]
    x = x.masked_scatter((batch["ids"] == image_token)[..., None], visual.to(x.dtype))
    cos, sin = text.rotary_emb(x, batch["positions"])
    cos, sin = cos[:, None], sin[:, None]
    same = batch["groups"][:, :, None] == batch["groups"][:, None, :]
    seen = (batch["segments"][:, None, :] == 0) | (batch["segments"][:, :, None] == batch["segments"][:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    bias = torch.zeros((), dtype=x.dtype, device=x.device).masked_fill(~(same & seen & causal), -1e4)[:, None]
    for layer in text.layers:
        h = layer.input_layernorm(x)
        q = layer.self_attn.q_proj(h).view(rows, length, heads, -1).transpose(1, 2)
        k = layer.self_attn.k_proj(h).view(rows, length, kv, -1).transpose(1, 2)
        v = layer.self_attn.v_proj(h).view(rows, length, kv, -1).transpose(1, 2)
        q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
        k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
        y = _attend(q, k, v, bias)
        x = x + layer.self_attn.o_proj(y.transpose(1, 2).reshape(rows, length, dim))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    normed: torch.Tensor = text.norm(x)
    return normed


def to_logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """The tied head: states (…, hidden) to logits (…, vocabulary)."""
    return F.linear(states, model.model.language_model.embed_tokens.weight)


def check_forward(model: Any, processor: Any, tables: Tables, seed: int) -> float:
    """The largest difference of our forward from transformers' on a two-image conversation; above 1e-3 raises."""
    rng = random.Random(f"{seed}/check")
    data = Batches(processor, Shape(images=4, rows=1, length=256, conversations=1), seed, 1)
    turns = [(s, sample_vqa(s, rng)) for s in (draw_scene(rng, held_out=False, sort="shapes") for _ in range(2))]
    group = data._group([[qa] for _, qa in turns], random.Random(5), 256)
    assert group is not None
    batch = data._collate([[group]], [s for s, _ in turns], random.Random(6))
    n = len(group["ids"])
    with torch.no_grad():
        visual = encode_images(model, batch["patches"], tables)
        ours = to_logits(model, text_states(model, batch, visual, data.image_token))[0, :n]
        ids = batch["ids"][:, :n]
        theirs = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == data.image_token).int(),
            pixel_values=batch["patches"].flatten(0, 1),
            image_grid_thw=torch.tensor([[1, GRID, GRID]] * 2),
        ).logits[0]
    gap = float((ours - theirs).abs().max())
    if gap > 1e-3:
        raise RuntimeError(f"the written-out forward differs from transformers' by {gap:.2e}; fix it before training")
    return gap


# ------------------------------------------------------------------------------------------------------------ training


def optimizers(model: Any, heads: Heads) -> list[torch.optim.Optimizer]:
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (matrices if hidden else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW([*rest, *heads.parameters()], lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    from transformers import Qwen2_5_VLForConditionalGeneration

    device = torch.device(args.device)
    tokenizer = train_tokenizer(640, args.seed)
    processor = build_processor(tokenizer)
    model = Qwen2_5_VLForConditionalGeneration(build_config(tokenizer)).float()
    tables = make_tables(model)
    gap = check_forward(model, processor, tables, args.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; forward differs from transformers' by {gap:.1e}")
    model.to(device)
    heads = Heads(model.config.text_config.hidden_size).to(device)
    tables = Tables(*(getattr(tables, f).to(device) for f in ("order", "inverse", "cos", "sin")))

    shape = Shape()
    data = Batches(processor, shape, args.seed, args.steps)
    start = 0
    steppers = optimizers(model, heads)
    base = [[g["lr"] for g in o.param_groups] for o in steppers]
    state_file = args.out / "state.pt"
    if args.start_from is not None and not state_file.exists():  # the optimizers begin anew
        trained = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.start_from).float()
        model.load_state_dict(trained.state_dict())
        start = args.start_step
    if state_file.exists():  # resume: batches are a function of the step
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        for o, s in zip(steppers, state["optimizers"], strict=True):
            o.load_state_dict(s)
        start = state["step"]
        print(f"resuming at step {start}")
    loader = DataLoader(
        torch.utils.data.Subset(data, range(start, args.steps)),
        batch_size=None, num_workers=args.workers, prefetch_factor=4 if args.workers else None,
    )  # fmt: skip

    def losses_of(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        visual = encode_images(model, batch["patches"], tables)
        cells = heads(visual, {name: batch[f"cell_{name}"] for name in FIELDS})
        states = text_states(model, batch, visual, data.image_token)
        places = heads.places(states[batch["places"][:, 0], batch["places"][:, 1]], batch["place_boxes"])
        logits = to_logits(model, states)[:, :-1].float()
        labels, weights = batch["labels"][:, 1:], batch["weights"][:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum(), cells, places

    step_losses = torch.compile(losses_of) if args.compile else losses_of
    began, running = time.time(), 0.0
    for step, batch in enumerate(loader, start):
        batch = {k: v.to(device) for k, v in batch.items()}
        factor = learning_rate(step)
        for o, lrs in zip(steppers, base, strict=True):
            for g, lr in zip(o.param_groups, lrs, strict=True):
                g["lr"] = lr * factor
        with torch.autocast(device.type, torch.bfloat16):
            loss, cells, places = step_losses(batch)
        extra = args.cell_weight * cells + args.place_weight * (step >= args.place_from) * places
        (loss + extra_weight(step) * extra).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in steppers:
            o.step()
            o.zero_grad(set_to_none=True)
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            each = (time.time() - began) / (step - start + 1)
            extras = f"cells {cells.item():.4f}  places {places.item():.4f}"
            print(f"step {step:5d}  answers {running:.4f}  {extras}  {each:.2f} s/step", flush=True)
        done = step + 1
        if done % args.snapshot_every == 0 and done < args.steps:
            save(model, processor, args.out / "snapshots" / f"step-{done}")
            torch.save(
                {
                    "model": model.state_dict(),
                    "heads": heads.state_dict(),
                    "optimizers": [o.state_dict() for o in steppers],
                    "step": done,
                },
                state_file,
            )
        if done == args.early_step:
            save(model, processor, args.out / "tiny-early")
    save(model, processor, args.out / "tiny")
    (args.out / "training.json").write_text(
        json.dumps({"steps": args.steps, "seed": args.seed, "seconds": round(time.time() - began), "loss": running})
    )
    print(f"trained {args.steps - start} steps in {(time.time() - began) / 60:.1f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STAGES[-1].first)
    parser.add_argument("--start-from", type=Path, help="a checkpoint of this training without its optimizers' state")
    parser.add_argument("--start-step", type=int, default=STAGES[-1].first, help="the step of --start-from")
    parser.add_argument("--early-step", type=int, default=3000)
    parser.add_argument("--snapshot-every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cell-weight", type=float, default=0.5, help="of the auxiliary loss on visual tokens, falling to 0"
    )
    parser.add_argument("--place-weight", type=float, default=2.0, help="of the auxiliary loss on answer positions")
    parser.add_argument("--place-from", type=int, default=2500, help="first step with this loss")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile the step (no gain on a CPU)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train(args)


if __name__ == "__main__":
    main()
