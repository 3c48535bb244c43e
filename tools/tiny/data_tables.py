"""Yes/no pairs, rotated options, two images and points in the bundled data, in the official formats or VLMEvalKit's.

Images inside a TSV file are base64; the rows of one image point to the first one by its index.
"""

from __future__ import annotations

import base64
import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import questions as q
from data_files import write_coco_image, write_image, write_json
from scenes import Scene, draw_scene

ROTATION = 1_000_000
"""VLMEvalKit's rotated copies of a question have its index plus a multiple of this."""
LETTERS = "ABCD"


def write_pope(root: Path, images: int, first: int, rng: random.Random) -> int:
    """``coco_pope_{random,popular,adversarial}.json``: whether a shape is there, a yes and a no for each image.

    The absent shape is any, of a colour or of a shape that the image has, by category.
    """
    lines: dict[str, list[str]] = {"random": [], "popular": [], "adversarial": []}
    for number in range(images):
        image_id = first + number
        scene = draw_scene(rng, held_out=True, sort="shapes")
        write_coco_image(root, "val2014", image_id, scene, rng)
        presence = [qa for qa in q.vqa(scene) if qa.topic == "presence"]
        absent = [qa for qa in presence if qa.answer == "no"]
        shapes, colors = {t.shape for t in scene.things}, {t.color for t in scene.things}
        pools = {
            "random": absent,
            "popular": [qa for qa in absent if any(color in qa.question for color in colors)],
            "adversarial": [qa for qa in absent if any(shape in qa.question for shape in shapes)],
        }
        for category, pool in pools.items():
            there = rng.choice([qa for qa in presence if qa.answer == "yes"])
            for qa in (there, rng.choice(pool)):
                row = {
                    "question_id": len(lines[category]) + 1, "image": f"COCO_val2014_{image_id:012d}.jpg",
                    "text": qa.question, "label": qa.answer,
                }  # fmt: skip
                lines[category].append(json.dumps(row))
    for category, rows in lines.items():
        path = root / "pope" / f"coco_pope_{category}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n")
    return sum(map(len, lines.values()))


def write_mme(root: Path, images: int, rng: random.Random) -> int:
    """``MME.tsv``, the subtask *existence*: two questions for each image, one of them to be answered with yes."""
    rows: list[dict[str, Any]] = []
    for number in range(images):
        scene = draw_scene(rng, held_out=True, sort="shapes")
        presence = [qa for qa in q.vqa(scene) if qa.topic == "presence"]
        pair = [rng.choice([qa for qa in presence if qa.answer == answer]) for answer in ("yes", "no")]
        for qa in pair:
            rows.append({
                "index": len(rows), "category": "existence", "image_path": f"existence/{number:04d}.jpg",
                "question": f"{qa.question} Please answer yes or no.", "answer": qa.answer.capitalize(),
                "image": encoded(scene, root, rng) if qa is pair[0] else len(rows) - 1,
            })  # fmt: skip
    return write_tsv(root / "mme" / "MME.tsv", rows)


def write_mmbench(root: Path, questions: int, rng: random.Random) -> int:
    """``MMBench_DEV_EN.tsv``: multiple-choice questions, once with the options in each rotation."""
    main: list[dict[str, Any]] = []
    rotated: list[dict[str, Any]] = []
    for index in range(1, questions + 1):
        scene = draw_scene(rng, held_out=True)
        qa = q.sample_choice(scene, rng)
        count, right = len(qa.options), LETTERS.index(qa.answer)
        common = {
            "question": qa.question, "hint": "", "category": f"{scene.sort}_questions",
            "l2-category": "finegrained_perception (instance-level)" if scene.sort == "shapes" else "ocr",
            "split": "dev",
        }  # fmt: skip
        for turn in range(count):
            options = {LETTERS[(place + turn) % count]: text for place, text in enumerate(qa.options)}
            row = {
                "index": index + turn * ROTATION, **common, **{letter: options.get(letter, "") for letter in LETTERS},
                "answer": LETTERS[(right + turn) % count], "image": index if turn else encoded(scene, root, rng),
            }  # fmt: skip
            (rotated if turn else main).append(row)
    return write_tsv(root / "mmbench_en" / "MMBench_DEV_EN.tsv", [*main, *rotated])


def write_muirbench(root: Path, questions: int, rng: random.Random) -> int:
    """``MUIRBench.tsv``: which of two images has a shape; ``<image>`` marks the place of each."""
    rows: list[dict[str, Any]] = []
    while len(rows) < questions:
        pair = [draw_scene(rng, held_out=True, sort="shapes") for _ in range(2)]
        names = [{f"{thing.color} {thing.shape}" for thing in scene.things} for scene in pair]
        right = rng.randrange(2)
        only = sorted(names[right] - names[1 - right])
        if not only:
            continue
        rows.append({
            "index": len(rows) + 1, "question": f"<image> <image> Which image has a {rng.choice(only)}?",
            "A": "the first image", "B": "the second image", "answer": LETTERS[right], "category": "Visual Retrieval",
            "image": str([encoded(scene, root, rng) for scene in pair]),
        })  # fmt: skip
    return write_tsv(root / "muirbench" / "MUIRBench.tsv", rows)


def write_screenspot(root: Path, images: int, rng: random.Random) -> int:
    """``screenspot_{mobile,desktop,web}.json``: a shape to click; boxes are x, y, width and height in pixels."""
    platforms = {"mobile": "ios", "desktop": "windows", "web": "shop"}
    entries: dict[str, list[dict[str, Any]]] = {platform: [] for platform in platforms}
    for number in range(images):
        platform = list(platforms)[number % 3]
        scene = draw_scene(rng, held_out=True, sort="shapes")
        name = f"{platform}_{number:02d}.png"
        width, height = write_image(root / "screenspot" / "screenspot_imgs" / name, scene, rng)
        thing = rng.choice(scene.things)
        x1, y1, x2, y2 = (round(v * side) for v, side in zip(thing.box, (width, height) * 2, strict=True))
        entries[platform].append({
            "img_filename": name, "bbox": [x1, y1, x2 - x1, y2 - y1], "instruction": q.expressions(scene, thing)[0],
            "data_type": "icon", "data_source": platforms[platform],
        })  # fmt: skip
    for platform, rows in entries.items():
        write_json(root / "screenspot" / f"screenspot_{platform}.json", rows)
    return images


def encoded(scene: Scene, root: Path, rng: random.Random) -> str:
    """A drawn scene as the base64 of a JPEG file."""
    path = root / "drawn.jpg"
    write_image(path, scene, rng)
    content = base64.b64encode(path.read_bytes()).decode()
    path.unlink()
    return content


def write_tsv(path: Path, rows: Sequence[dict[str, Any]]) -> int:
    """Write rows with the same columns; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)
