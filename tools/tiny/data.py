"""Write the bundled data root: ``python tools/tiny/data.py --out tasks/tiny``

Folders, file names and keys are those of the official downloads, so the tasks read both in the same way.  Every scene
is held out (``scenes.Scene.held_out``): the tiny checkpoint was not trained on it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import questions as q
from data_captions_text_choice import write_captions, write_docvqa, write_scienceqa, write_textvqa
from data_detection import write_countbenchqa, write_odinw
from data_files import write_coco_image, write_json
from data_tables import write_mmbench, write_mme, write_muirbench, write_pope, write_screenspot
from data_videos import write_charades, write_videomme
from scenes import COLORS, SHAPES, Scene, draw_scene

SHAPE_IDS = {shape: number for number, shape in enumerate(SHAPES, 1)}
# Distinct id ranges: no two benchmarks share an image id.
FIRST_ID = {"vqa val": 1, "vqa train": 501, "refcoco": 1001, "refcoco+": 1301, "refcocog": 1601, "pope": 3001}
QUESTION_TYPES = ("what color is the", "what number is", "how many", "is there a", "what is the", "what")


# --------------------------------------------------------------------------------------------------------------- VQAv2


def _wrong(qa: q.QA, rng: random.Random) -> str:
    """A wrong answer of the same topic, as from a careless annotator."""
    if qa.topic == "color":
        pool = list(COLORS)
    elif qa.topic == "shape":
        pool = list(SHAPES)
    elif qa.topic == "presence":
        pool = ["yes", "no"]
    elif qa.topic == "count":
        pool = [str(n) for n in range(5)]
    else:
        pool = [qa.answer[:-1] + digit for digit in "0123456789"]
    return rng.choice([p for p in pool if p != qa.answer])


def _annotators(qa: q.QA, rng: random.Random) -> list[dict[str, Any]]:
    agreeing = rng.choice((10, 10, 10, 9, 9, 8, 7, 6, 5))
    answers = [qa.answer] * agreeing + [_wrong(qa, rng) for _ in range(10 - agreeing)]
    rng.shuffle(answers)
    return [
        {"answer": a, "answer_confidence": "yes" if a == qa.answer else "maybe", "answer_id": n}
        for n, a in enumerate(answers, 1)
    ]


def _vqa_questions(scene: Scene, rng: random.Random) -> list[q.QA]:
    if scene.sort == "number":
        return [q.QA("reading", rng.choice(q.READING), scene.number, "reading"),
                q.QA("vqa", "What color is the number?", scene.number_color, "color")]  # fmt: skip
    found: dict[str, q.QA] = {}
    while len(found) < 5:
        qa = q.sample_vqa(scene, rng)
        found[qa.question] = qa
    return list(found.values())


def write_vqav2(root: Path, split: str, images: int, rng: random.Random) -> int:
    """One split of VQA v2.0 (questions and ten annotators' answers); returns the number of questions."""
    name = f"{split}2014"
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        image_id = FIRST_ID[f"vqa {split}"] + number
        scene = draw_scene(rng, held_out=True, sort="number" if number % 6 == 5 else "shapes")
        write_coco_image(root, name, image_id, scene, rng)
        for k, qa in enumerate(_vqa_questions(scene, rng)):
            question_id = image_id * 1000 + k
            answers = _annotators(qa, rng)
            questions.append({"image_id": image_id, "question": qa.question, "question_id": question_id})
            annotations.append(
                {
                    "question_type": next(t for t in QUESTION_TYPES if qa.question.lower().startswith(t)),
                    "multiple_choice_answer": Counter(a["answer"] for a in answers).most_common(1)[0][0],
                    "answers": answers,
                    "image_id": image_id,
                    "answer_type": {"presence": "yes/no", "count": "number", "reading": "number"}.get(
                        qa.topic, "other"
                    ),
                    "question_id": question_id,
                }
            )
    info = {"description": "evalkit's synthetic scenes in the format of VQA v2.0", "version": "1"}
    common = {"info": info, "data_subtype": name, "data_type": "mscoco", "license": {"name": "Apache-2.0", "url": ""}}
    write_json(
        root / "vqav2" / f"v2_OpenEnded_mscoco_{name}_questions.json",
        {**common, "task_type": "Open-Ended", "questions": questions},
    )
    write_json(root / "vqav2" / f"v2_mscoco_{name}_annotations.json", {**common, "annotations": annotations})
    return len(questions)


# ------------------------------------------------------------------------------------------------------------- RefCOCO


def write_refer(root: Path, name: str, file: str, images: dict[str, int], rng: random.Random) -> dict[str, int]:
    """``refs(unc).p`` or ``refs(umd).p`` and ``instances.json``; returns the number of sentences per split."""
    refs: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    sentences: Counter[str] = Counter()
    image_id = FIRST_ID[name]
    for split, count in images.items():
        for _ in range(count):
            scene = draw_scene(rng, held_out=True, sort="shapes")
            width, height = write_coco_image(root, "train2014", image_id, scene, rng)
            file_name = f"COCO_train2014_{image_id:012d}.jpg"
            entries.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
            chosen = rng.sample(range(len(scene.things)), min(2, len(scene.things)))
            for number, thing in enumerate(scene.things):
                box = [v * s for v, s in zip(thing.box, (width, height, width, height), strict=True)]
                x1, y1, x2, y2 = (round(v, 2) for v in box)
                xywh = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
                ann_id = image_id * 100 + number
                annotations.append(
                    {
                        "id": ann_id, "image_id": image_id, "category_id": SHAPE_IDS[thing.shape], "iscrowd": 0,
                        "bbox": xywh, "area": round(xywh[2] * xywh[3], 2),
                        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                    }
                )  # fmt: skip
                if number not in chosen:
                    continue
                texts = rng.sample(q.expressions(scene, thing), 2)
                first = sum(sentences.values())
                refs.append(
                    {
                        "sent_ids": [first, first + 1], "ann_id": ann_id, "ref_id": len(refs), "image_id": image_id,
                        "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg", "split": split,
                        "category_id": SHAPE_IDS[thing.shape],
                        "sentences": [
                            {"tokens": text.split(), "raw": text, "sent_id": first + i, "sent": text}
                            for i, text in enumerate(texts)
                        ],
                    }
                )  # fmt: skip
                sentences[split] += len(texts)
            image_id += 1
    categories = [{"id": n, "name": shape, "supercategory": "shape"} for shape, n in SHAPE_IDS.items()]
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(pickle.dumps(refs, protocol=2))
    info = {"description": "evalkit's synthetic scenes in the format of the REFER data sets"}
    write_json(
        folder / "instances.json",
        {"info": info, "images": entries, "annotations": annotations, "categories": categories, "licenses": []},
    )
    return dict(sentences)


def write_data_root(root: Path, seed: int) -> dict[str, Any]:
    """Write the data root; returns the number of samples per split."""
    counts: dict[str, Any] = {}
    for split, images in (("val", 72), ("train", 18)):
        counts[f"vqav2 {split}"] = write_vqav2(root, split, images, random.Random(f"{seed}/vqav2/{split}"))
    each = {"val": 36, "testA": 36, "testB": 36, "train": 18}
    counts["refcoco"] = write_refer(root, "refcoco", "refs(unc).p", each, random.Random(f"{seed}/refcoco"))
    few = {"val": 16, "testA": 16, "testB": 16, "train": 8}
    counts["refcoco+"] = write_refer(root, "refcoco+", "refs(unc).p", few, random.Random(f"{seed}/refcoco+"))
    few = {"val": 16, "test": 24, "train": 8}
    counts["refcocog"] = write_refer(root, "refcocog", "refs(umd).p", few, random.Random(f"{seed}/refcocog"))
    counts["coco_caption"] = write_captions(
        root, {"test": 60, "val": 12, "train": 18}, random.Random(f"{seed}/captions")
    )
    for split, images, first in (("val", 60, 900001), ("train", 18, 800001)):
        counts[f"textvqa {split}"] = write_textvqa(root, split, images, first, random.Random(f"{seed}/textvqa/{split}"))
    for split, images, first in (("val", 40, 1), ("train", 12, 501)):
        counts[f"docvqa {split}"] = write_docvqa(root, split, images, first, random.Random(f"{seed}/docvqa/{split}"))
    counts["scienceqa_img"] = write_scienceqa(root, {"test": 80, "train": 18}, random.Random(f"{seed}/scienceqa"))
    counts["pope"] = write_pope(root, 12, FIRST_ID["pope"], random.Random(f"{seed}/pope"))
    counts["mme"] = write_mme(root, 20, random.Random(f"{seed}/mme"))
    counts["mmbench_en"] = write_mmbench(root, 24, random.Random(f"{seed}/mmbench"))
    counts["muirbench"] = write_muirbench(root, 20, random.Random(f"{seed}/muirbench"))
    counts["screenspot"] = write_screenspot(root, 24, random.Random(f"{seed}/screenspot"))
    counts["countbenchqa"] = write_countbenchqa(root, 24, random.Random(f"{seed}/countbenchqa"))
    counts["odinw13"] = write_odinw(root, 3, random.Random(f"{seed}/odinw"))
    counts["videomme"] = write_videomme(root, 36, random.Random(f"{seed}/videomme"))
    counts["charades_sta"] = write_charades(root, 36, random.Random(f"{seed}/charades_sta"))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(write_data_root(args.out, args.seed), indent=2))


if __name__ == "__main__":
    main()
