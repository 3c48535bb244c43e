"""The bundled data of captioning, TextVQA, DocVQA and ScienceQA in their official formats."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import questions as q
from data_files import write_coco_image, write_image, write_json
from scenes import Scene, draw_scene

FIRST_CAPTION_ID = 2001


def references(scene: Scene) -> list[str]:
    """Five captions of a scene, the first in the wording that the tiny checkpoint is trained on."""
    full = q.caption(scene)
    plain = full[0].lower() + full[1:-1]
    return [
        full,
        f"There is {plain} in the picture.",
        f"A picture of {plain}.",
        f"An image that shows {plain}.",
        f"We can see {plain} here.",
    ]


def write_captions(root: Path, images: dict[str, int], rng: random.Random) -> dict[str, int]:
    """Karpathy's ``dataset_coco.json`` and COCO's ``captions_val2014.json`` for the same images."""
    entries: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for split, count in images.items():
        for _ in range(count):
            image_id, imgid = FIRST_CAPTION_ID + len(entries), len(entries)
            scene = draw_scene(rng, held_out=True, sort="shapes")
            width, height = write_coco_image(root, "val2014", image_id, scene, rng)
            name = f"COCO_val2014_{image_id:012d}.jpg"
            sentences = []
            for number, raw in enumerate(references(scene)):
                sentid = imgid * 5 + number
                tokens = raw.lower().replace(",", "").rstrip(".").split()
                sentences.append({"tokens": tokens, "raw": raw, "imgid": imgid, "sentid": sentid})
                annotations.append({"image_id": image_id, "id": sentid, "caption": raw})
            entries.append(
                {
                    "filepath": "val2014", "filename": name, "imgid": imgid, "cocoid": image_id, "split": split,
                    "sentids": [s["sentid"] for s in sentences], "sentences": sentences,
                }
            )  # fmt: skip
            records.append({"id": image_id, "file_name": name, "width": width, "height": height})
    write_json(root / "coco" / "dataset_coco.json", {"images": entries, "dataset": "coco"})
    info = {"description": "evalkit's synthetic scenes in the format of COCO captions"}
    write_json(
        root / "coco" / "annotations" / "captions_val2014.json",
        {"info": info, "images": records, "licenses": [], "annotations": annotations},
    )
    return dict(Counter(e["split"] for e in entries))


def write_textvqa(root: Path, split: str, images: int, first: int, rng: random.Random) -> int:
    """``TextVQA_0.5.1_SPLIT.json``: numbers to read, ten answers each, some of them misread."""
    rows = []
    for number in range(images):
        scene = draw_scene(rng, held_out=True, sort="number")
        image_id = f"{first + number:016x}"
        width, height = write_image(root / "textvqa" / "train_images" / f"{image_id}.jpg", scene, rng)
        answers = [scene.number] * rng.choice((10, 10, 9, 8)) + [scene.number[:-1]] * 2
        answers = answers[:10]
        rng.shuffle(answers)
        question = rng.choice(q.READING)
        rows.append(
            {
                "question": question, "image_id": image_id, "question_id": first + number, "answers": answers,
                "image_width": width, "image_height": height, "image_classes": ["Number"],
                "question_tokens": question.lower().rstrip("?").split(), "set_name": split,
            }
        )  # fmt: skip
    content = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": rows}
    write_json(root / "textvqa" / f"TextVQA_0.5.1_{split}.json", content)
    return len(rows)


def write_docvqa(root: Path, split: str, pages: int, first: int, rng: random.Random) -> int:
    """``SPLIT_v1.0_withQT.json`` and its pages: one question for each labelled value."""
    rows: list[dict[str, Any]] = []
    for number in range(pages):
        scene = draw_scene(rng, held_out=True, sort="page")
        document = f"tiny{first + number:04d}"
        write_image(root / "docvqa" / "documents" / f"{document}_1.png", scene, rng)
        for label, value in scene.rows:
            rows.append(
                {
                    "questionId": first * 100 + len(rows), "question": f"What is the {label}?",
                    "question_types": ["form"], "image": f"documents/{document}_1.png",
                    "docId": first + number, "ucsf_document_id": document, "ucsf_document_page_no": "1",
                    "answers": [value], "data_split": split,
                }
            )  # fmt: skip
    content = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": split, "data": rows}
    write_json(root / "docvqa" / f"{split}_v1.0_withQT.json", content)
    return len(rows)


def write_scienceqa(root: Path, images: dict[str, int], rng: random.Random) -> dict[str, int]:
    """``problems.json`` and ``pid_splits.json``: multiple-choice questions about every sort of scene."""
    problems: dict[str, Any] = {}
    splits: dict[str, list[str]] = {split: [] for split in images}
    for split, count in images.items():
        for _ in range(count):
            pid = str(len(problems) + 1)
            scene = draw_scene(rng, held_out=True)
            qa = q.sample_choice(scene, rng)
            write_image(root / "scienceqa" / "images" / split / pid / "image.png", scene, rng)
            problems[pid] = {
                "question": qa.question, "choices": list(qa.options), "answer": "ABCD".index(qa.answer), "hint": "",
                "image": "image.png", "task": "closed choice", "grade": "grade2", "subject": "natural science",
                "topic": scene.sort, "category": "Pictures", "skill": "Look", "lecture": "", "solution": "",
                "split": split,
            }  # fmt: skip
            splits[split].append(pid)
    write_json(root / "scienceqa" / "problems.json", problems)
    write_json(root / "scienceqa" / "pid_splits.json", splits)
    return {split: len(pids) for split, pids in splits.items()}
