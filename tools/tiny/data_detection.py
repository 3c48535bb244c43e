"""Counting and detection in the bundled data: VLMEvalKit's ``CountBenchQA.tsv``, and ODinW's 13 folders."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import questions as q
from data_files import write_image, write_json
from data_tables import encoded, write_tsv
from scenes import SHAPES, draw_scene

ODINW: Mapping[str, tuple[str, str]] = {
    "AerialMaritimeDrone/large": ("valid/annotations_without_background.json", "valid"),
    "Aquarium/Aquarium Combined.v2-raw-1024.coco": ("valid/annotations_without_background.json", "valid"),
    "CottontailRabbits": ("valid/annotations_without_background.json", "valid"),
    "EgoHands/generic": ("valid/annotations_without_background.json", "valid"),
    "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco": (
        "valid/annotations_without_background.json",
        "valid",
    ),
    "Packages/Raw": ("valid/annotations_without_background.json", "valid"),
    "PascalVOC": ("valid/annotations_without_background.json", "valid"),
    "pistols/export": ("val_annotations_without_background.json", ""),
    "pothole": ("valid/annotations_without_background.json", "valid"),
    "Raccoon/Raccoon.v2-raw.coco": ("valid/annotations_without_background.json", "valid"),
    "ShellfishOpenImages/raw": ("valid/annotations_without_background.json", "valid"),
    "thermalDogsAndPeople": ("valid/annotations_without_background.json", "valid"),
    "VehiclesOpenImages/416x416": ("valid/annotations_without_background.json", "valid"),
}
"""By folder: the annotations and the images below it."""


def write_countbenchqa(root: Path, questions: int, rng: random.Random) -> int:
    """``CountBenchQA.tsv``: how many shapes, or shapes of a kind or colour, an image has."""
    rows: list[dict[str, Any]] = []
    while len(rows) < questions:
        scene = draw_scene(rng, held_out=True, sort="shapes")
        counts = [qa for qa in q.vqa(scene) if qa.topic == "count" and qa.answer != "0"]
        wanted = 1 + len(rows) % 4  # as many of each number
        fit = [qa for qa in counts if qa.answer == str(wanted)]
        if not fit:
            continue
        qa = rng.choice(fit)
        rows.append({
            "index": len(rows), "image": encoded(scene, root, rng), "question": qa.question, "answer": qa.answer,
        })  # fmt: skip
    return write_tsv(root / "countbenchqa" / "CountBenchQA.tsv", rows)


def write_odinw(root: Path, images: int, rng: random.Random) -> int:
    """ODinW's folders with ``images`` each, whose categories are two to four kinds of shapes.

    Every image has at least one of them.
    """
    for number, (folder, (file, below)) in enumerate(ODINW.items()):
        names = sorted(rng.sample(SHAPES, 2 + number % 3), key=SHAPES.index)
        entries: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        while len(entries) < images:
            scene = draw_scene(rng, held_out=True, sort="shapes")
            things = [thing for thing in scene.things if thing.shape in names]
            if not things:
                continue
            name = f"{len(entries):03d}.jpg"
            width, height = write_image(root / "odinw" / folder / below / name, scene, rng)
            entries.append({"id": len(entries), "file_name": name, "width": width, "height": height})
            for thing in things:
                x1, y1, x2, y2 = (round(v * s, 1) for v, s in zip(thing.box, (width, height) * 2, strict=True))
                objects.append({
                    "id": len(objects), "image_id": len(entries) - 1, "category_id": names.index(thing.shape) + 1,
                    "bbox": [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)],
                    "area": round((x2 - x1) * (y2 - y1), 1), "segmentation": [], "iscrowd": 0,
                })  # fmt: skip
        categories = [{"id": place, "name": name, "supercategory": "shape"} for place, name in enumerate(names, 1)]
        content = {"images": entries, "annotations": objects, "categories": categories}
        write_json(root / "odinw" / folder / file, content)
    return images * len(ODINW)
