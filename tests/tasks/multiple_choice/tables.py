"""Small files in VLMEvalKit's format, for tests of the benchmarks that have it."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.jobs import Job, load_job
from evalkit.types import ImagePart, Sample


def png(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (20, 10), color).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [base64.b64encode(png(color)).decode() for color in (0, 90, 180)]
MMBENCH = {
    "index": "4", "question": "Which one?", "hint": "Red is warm.", "A": "red", "B": "blue", "C": "", "D": "",
    "answer": "A", "category": "ocr", "l2-category": "logic_reasoning", "split": "dev", "image": IMAGES[0],
}  # fmt: skip
FILES: dict[str, tuple[str, dict[str, str]]] = {
    "mmstar": ("MMStar", {"index": "0", "question": "Which one?", "answer": "B", "category": "math", "l2_category": "geometry", "bench": "x", "A": "red", "B": "blue", "C": "green", "D": "None"}),
    "mmbench_en": ("MMBench_DEV_EN", MMBENCH),
    "mmbench_cn": ("MMBench_DEV_CN", MMBENCH),
    "mmbench_en_v11": ("MMBench_DEV_EN_V11", MMBENCH),
    "mmbench_cn_v11": ("MMBench_DEV_CN_V11", MMBENCH),
    "ccbench": ("CCBench", {"index": "0", "question": "图中所示建筑名称为？", "A": "天坛", "B": "故宫", "C": "黄鹤楼", "D": "少林寺", "answer": "A", "category": "scenery_building", "source": "x"}),
    "seedbench_img": ("SEEDBench_IMG", {"index": "101669", "question": "How many?", "A": "One", "B": "Two", "C": "Three", "D": "None", "answer": "A", "category": "Instances Counting"}),
    "seedbench2_plus": ("SEEDBench2_Plus", {"index": "7", "question": "Which one?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "A", "category": "Chart"}),
    "realworldqa": ("RealWorldQA", {"index": "0", "question": "Which way?", "A": "Left", "B": "Straight", "C": "Right", "D": "", "answer": "C"}),
    "vstar": ("VStarBench", {"index": "0", "question": "Which colour?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "direct_attributes"}),
    "hrbench4k": ("hr_bench_4k", {"index": "0", "question": "Which colour?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "single", "cycle_category": "0"}),
    "hrbench8k": ("HRBench8K", {"index": "0", "question": "Which colour?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "single", "cycle_category": "0"}),
    "ai2d_no_mask": ("AI2D_TEST_NO_MASK", {"index": "0", "question": "What lives?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "foodWeb"}),
    "scienceqa_img": ("ScienceQA_TEST", {"index": "1", "question": "Which one?", "hint": "Red is warm.", "A": "red", "B": "blue", "C": "", "D": "", "answer": "B", "subject": "natural science", "category": "Maps"}),
}  # fmt: skip


def write(root: Path, name: str, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (root / f"{name}.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def load(root: Path, task: str, split: str = "", *, images: bool = True) -> Job:
    found = registry.tasks.get(task)
    data = open_data(str(root), images_required=images)
    return load_job(found, split or found.default_splits[0], data, limit=None, seed=0)


def one(root: Path, task: str, **changes: str) -> Sample:
    name, row = FILES[task]
    write(root, name, [{"image": IMAGES[0], **row, **changes}])
    (sample,) = load(root, task).samples
    return sample


def prompt(task: str, sample: Sample, protocol: str, family: str = "qwen2.5-vl") -> str:
    found = registry.tasks.get(task)
    (message,) = registry.families.get(family).prompt(found.prompt_spec(protocol).of(sample), sample)
    return "".join("<image>" if isinstance(part, ImagePart) else part.text for part in message.content)
