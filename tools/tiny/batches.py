"""Training batches: conversations about images and clips, packed into rows of tokens.

Questions that share an image or a clip are separate *segments* after it, which do not attend to each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from clip_questions import (
    CHOICE_VIDEO_PROMPTS,
    OPEN_PROMPTS,
    TEMPORAL_PROMPTS,
    ClipQA,
    clip_questions,
    event_cells,
    moment_questions,
    option_lines,
    temporal_questions,
)
from clips import Clip, draw_clip
from frames import FRAME, GRID, clip_patches, drawn_pairs
from mix import Mix
from questions import (
    PAIR_PROMPTS,
    QA,
    SYSTEM,
    answer_text,
    pair_presence,
    pair_questions,
    questions,
    sample_choice,
    sample_vqa,
    user_text,
)
from scenes import Scene, draw_scene, image_size, render
from stages import stage_at
from targets import FIELDS, LATER, cell_targets
from torch.utils.data import Dataset
from turns import IGNORE, Run, Turn


def _weight(kind: str, token: str) -> float:
    digit = token.strip("Ġ").isdigit()
    if kind == "grounding":
        return 1.0 if digit else 0.05
    if kind in ("pointing", "temporal"):
        return 1.5 if digit else 0.2
    if kind == "detection":
        return 1.0 if digit else 0.4
    if kind in ("reading", "page"):
        return 3.0 if token.isdigit() else 1.0
    if token == "<|im_end|>":
        return 0.5
    return {"vqa": 2.5, "choice": 2.0, "caption": 1.2, "pair": 2.5}[kind]


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Batch ``i`` depends only on the seed and ``i``, not on the number of workers.

    With several processes, each has its ``part`` of the batch.
    """

    def __init__(self, processor: Any, seed: int, steps: int, part: int = 0, parts: int = 1) -> None:
        self.part, self.parts = part, parts
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.image_processor
        self.seed, self.steps = seed, steps
        self.image_token = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.video_token = self.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        self._ids = lru_cache(maxsize=50_000)(lambda text: self.tokenizer(text)["input_ids"])

    def __len__(self) -> int:
        return self.steps

    def _turn(self, kind: str, text: str, answer: str) -> Turn:
        """One question, asked as ``text``, and its answer (the line end after it is not learned)."""
        head = self._ids(f"{text}<|im_end|>\n<|im_start|>assistant\n")
        said = self._ids(answer + "<|im_end|>")
        tokens = self.tokenizer.convert_ids_to_tokens(said)
        tail = self._ids("\n")
        labels = [IGNORE] * len(head) + list(said) + [IGNORE] * len(tail)
        weights = [0.0] * len(head) + [_weight(kind, t) for t in tokens] + [0.0] * len(tail)
        digits = [i for i, t in enumerate(tokens) if t.isdigit()]
        first = digits[1] if kind == "grounding" else 0  # digits[0] is the 2 of "bbox_2d"
        starts = [i for i in digits if i == 0 or not (tokens[i - 1].isdigit() or tokens[i - 1] == ".")]
        times = [len(head) + i - 1 for i in starts]
        return Turn([*head, *said, *tail], labels, weights, len(head) + first - 1, times)

    def _opened(self, run: Run, text: str, content: Scene | Clip) -> None:
        run.text(self._ids(f"{text}<|vision_start|>"))
        run.visual(content, self.video_token if isinstance(content, Clip) else self.image_token)
        run.text(self._ids("<|vision_end|>"))

    def images(self, blocks: Sequence[tuple[Scene, Sequence[QA]]], rng: random.Random, budget: int) -> Run | None:
        """Images with their questions; ``None`` when not even the first question of each fits.

        The questions of one image are segments; those of several images are a conversation.
        """
        run = Run()
        conversation = len(blocks) > 1
        for number, (scene, qas) in enumerate(blocks):
            self._opened(run, ("" if number else SYSTEM) + "<|im_start|>user\n", scene)
            taken = 0
            for qa in qas:
                turn = self._turn(qa.kind, user_text(qa, rng), answer_text(qa, FRAME))
                if len(run) + len(turn.ids) > budget:
                    continue
                taken += 1
                if qa.about is not None:
                    run.places.append((len(run) + turn.before, qa.about))
                run.turn(turn, 0 if conversation else taken)
            if not taken:
                return None
        return run

    def pair(self, pair: Sequence[Scene], rng: random.Random, budget: int) -> Run | None:
        """Two images in one turn, with questions about both as segments; ``None`` if none fits."""
        if rng.random() < 0.3:
            qas, (opening, rest) = pair_presence(pair, rng), PAIR_PROMPTS[2]
        else:
            qas = pair_questions(pair, rng)
            opening, rest = PAIR_PROMPTS[0] if rng.random() < 0.75 else PAIR_PROMPTS[1]
        run = Run()
        self._opened(run, f"{SYSTEM}<|im_start|>user\n{opening}", pair[0])
        self._opened(run, " ", pair[1])
        return self._asked(run, [(qa.kind, rest.format(q=qa.question), qa.answer) for qa in qas], budget)

    def clip(self, clip: Clip, rng: random.Random, budget: int, forms: Sequence[float]) -> Run | None:
        """A clip with questions of one form as segments; ``None`` if none fits.  ``forms`` are as of ``Mix``."""
        form = rng.choices(("choice", "vqa", "temporal"), forms)[0]
        prompts = {"choice": CHOICE_VIDEO_PROMPTS, "vqa": OPEN_PROMPTS, "temporal": TEMPORAL_PROMPTS}[form]
        usual = 0.75 if form != "vqa" else 0.15  # short questions, so that a row has many of them
        shared, rest = prompts[0] if rng.random() < usual else prompts[-1] if form == "vqa" else rng.choice(prompts[1:])
        qas: list[ClipQA] = temporal_questions(clip) if form == "temporal" else clip_questions(clip, rng)
        if form == "vqa":
            qas = qas + moment_questions(clip, rng)
            rng.shuffle(qas)
        decisive = [event_cells(clip, qa) for qa in qas]
        asked = [
            (form, rest.format(q=qa.question, options=option_lines(qa.options) if form == "choice" else ""),
             f"{qa.answer} ({qa.letter})" if form == "choice" else qa.answer)
            for qa in qas
        ]  # fmt: skip
        run = Run()
        self._opened(run, f"{SYSTEM}<|im_start|>user\n", clip)
        first = run.ids.index(self.video_token)
        run.text(self._ids(shared))
        return self._asked(run, asked, budget, [[[first + cell for cell in cells] for cells in c] for c in decisive])

    def _asked(
        self, run: Run, asked: Sequence[tuple[str, str, str]], budget: int, decisive: Sequence[Sequence[list[int]]] = ()
    ) -> Run | None:
        """The questions as segments; ``decisive`` are the tokens that show each time in the answer of each."""
        taken = 0
        for number, (kind, text, answer) in enumerate(asked):
            turn = self._turn(kind, text, answer)
            if len(run) + len(turn.ids) <= budget:
                taken += 1
                if decisive and len(decisive[number]) == len(turn.times):
                    at = len(run)
                    run.attention_targets += [
                        (at + t, c) for t, c in zip(turn.times, decisive[number], strict=True) if c
                    ]
                run.turn(turn, taken)
        return run if taken else None

    def _same_kind(self, rng: random.Random) -> list[tuple[Scene, list[QA]]]:
        """Four scenes with one question of one kind each: three examples and the question that follows them."""
        kind = rng.choice(("vqa", "vqa", "caption", "grounding", "reading", "page", "choice"))
        sort = {"reading": "number", "page": "page", "vqa": "shapes", "grounding": "shapes"}.get(kind)
        turns: list[tuple[Scene, list[QA]]] = []
        while len(turns) < 4:
            scene = draw_scene(rng, held_out=False, sort=sort)
            if kind == "vqa":
                turns.append((scene, [sample_vqa(scene, rng)]))
            elif kind == "choice":
                turns.append((scene, [sample_choice(scene, rng)]))
            else:
                fit = [qa for qa in questions(scene, rng) if qa.kind == kind]
                if fit:
                    turns.append((scene, fit[:1]))
        return turns

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self.seed}/train/{index}" + (f"/{self.part}" if self.parts > 1 else ""))
        stage = stage_at(index)
        mix, shape = stage.mix.part(self.part, self.parts), stage.shape.part(self.part, self.parts)
        rows: list[list[Run]] = [[] for _ in range(shape.rows)]
        room = [shape.length] * shape.rows
        images = 0
        for run in self._fixed(mix, shape.conversations, rng, shape.length):
            row = max(range(shape.rows), key=room.__getitem__)
            if len(run) <= room[row]:
                rows[row].append(run)
                room[row] -= len(run)
                images += sum(isinstance(content, Scene) for content in run.drawn)
        for _ in range(4 * shape.images):  # a crowded batch may end up with an image less
            if images >= shape.images:
                break
            scene = draw_scene(rng, held_out=False, sorts=mix.sorts)
            row = max(range(shape.rows), key=room.__getitem__)
            found = self.images([(scene, questions(scene, rng, mix))], rng, room[row])
            if found is not None:
                rows[row].append(found)
                room[row] -= len(found)
                images += 1
        return self.collate(rows, shape.length, rng)

    def _fixed(self, mix: Mix, conversations: int, rng: random.Random, length: int) -> Iterator[Run]:
        """What every batch has: conversations, clips and pairs of images."""
        for _ in range(conversations):
            turns = self._same_kind(rng)
            while (run := self.images(turns, rng, length)) is None:
                turns = turns[1:]
            yield run
        for _ in range(mix.clips):
            clip = draw_clip(rng, held_out=False, busy=rng.random() < mix.busy)
            run = self.clip(clip, rng, length, mix.forms)
            if run is not None:
                yield run
        for _ in range(mix.pairs):
            run = self.pair([draw_scene(rng, held_out=False, sort="shapes") for _ in range(2)], rng, length)
            if run is not None:
                yield run

    def collate(self, rows: Sequence[Sequence[Run]], length: int, rng: random.Random) -> dict[str, torch.Tensor]:
        """Tensors of packed rows, with patches (steps, 64, 1176) and targets of every image and pair of frames."""
        shape = (len(rows), length)
        batch: dict[str, Any] = {
            "ids": np.zeros(shape, np.int64), "labels": np.full(shape, IGNORE, np.int64),
            "weights": np.zeros(shape, np.float32), "segments": np.zeros(shape, np.int64),
            "groups": np.full(shape, -1, np.int64), "positions": np.zeros((3, *shape), np.int64),
        }  # fmt: skip
        places: list[tuple[int, int]] = []
        attending: list[tuple[int, int]] = []
        attended: list[np.ndarray] = []
        boxes: list[tuple[float, float, float, float]] = []
        for r, runs in enumerate(rows):
            at = 0
            for g, run in enumerate(runs):
                end = at + len(run)
                for key in ("ids", "labels", "weights", "segments"):
                    batch[key][r, at:end] = getattr(run, key)
                batch["groups"][r, at:end] = g
                batch["positions"][:, r, at:end] = np.concatenate(run.positions, axis=1)
                places += [(r, at + place) for place, _ in run.places]
                boxes += [box for _, box in run.places]
                for place, tokens in run.attention_targets:
                    attending.append((r, at + place))
                    attended.append(np.isin(np.arange(length), np.array(tokens) + at))
                at = end
        out = {key: torch.from_numpy(value) for key, value in batch.items()}
        out["places"] = torch.tensor(places, dtype=torch.long).view(-1, 2)
        out["attending"] = torch.tensor(attending, dtype=torch.long).view(-1, 2)
        out["attended"] = torch.from_numpy(np.array(attended, bool).reshape(-1, length))
        out["place_boxes"] = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
        out.update(self._drawn([content for runs in rows for run in runs for content in run.drawn], rng))
        return out

    def _drawn(self, drawn: Sequence[Scene | Clip], rng: random.Random) -> dict[str, torch.Tensor]:
        patches: list[torch.Tensor] = []
        cells: list[dict[str, np.ndarray]] = []
        numbers: list[int] = []  # of pairs of frames in their clips
        for content in drawn:
            if isinstance(content, Clip):
                patches.append(clip_patches(content, self.image_processor, rng))
                began = len(numbers)
                for first, second in drawn_pairs(content):
                    later = cell_targets(second, *FRAME)
                    numbers.append(len(numbers) - began)
                    cells.append(cell_targets(first, *FRAME) | {f"later_{name}": later[name] for name in LATER})
                continue
            size = image_size(rng)
            pixels = self.image_processor(render(content, *size), return_tensors="pt")
            if pixels["image_grid_thw"].tolist() != [[1, GRID, GRID]]:
                raise RuntimeError("a training image did not become an 8 × 8 grid of patches")
            patches.append(pixels["pixel_values"].view(1, GRID * GRID, -1))
            numbers.append(IGNORE)
            target = cell_targets(content, *size)
            cells.append(target | {f"later_{name}": target[name] for name in LATER})
        names = (*FIELDS, *(f"later_{name}" for name in LATER))
        out = {f"cell_{name}": torch.from_numpy(np.stack([c[name] for c in cells])) for name in names}
        return out | {"patches": torch.cat(patches), "numbers": torch.tensor(numbers)}
