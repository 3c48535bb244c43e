"""Time and memory of ``evalkit score`` in two installed versions, in one interleaved run on the same predictions.

    python benchmarks/score_versions.py --old /path/to/old/venv/bin/evalkit --new /path/to/new/venv/bin/evalkit

Writes a data root in the official formats: VQAv2 val (214,354 questions about 40,504 images, ten answers each) and
COCO's Karpathy test (5,000 images, five captions each), both without image files, and your own file of 1,000,000 short
questions about 10,000 images (one pixel each) with one answer; all synthetic.  The commands alternate (old, new, then
new, old), so that load on the machine affects both alike.  Printed are wall seconds, seconds of CPU time (user and
system) and the peak resident memory of each command; the ratios are medians over rounds of new / old.  The headlines of
both are printed, since a newer version may define another one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from scorers import VQA_ANSWERS, vqa

IMAGES = 40_504
OWN_QUESTIONS = 1_000_000
OWN_IMAGES = 10_000
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "grey")


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of wall time, seconds of CPU time, peak resident memory in MB."""

    wall: float
    cpu: float
    memory: float


def write_vqav2(root: Path, predictions: Path) -> None:
    """Write VQAv2 val in its official format, and predictions."""
    questions, annotations = [], []
    with predictions.open("w") as file:
        for number, one in enumerate(vqa(VQA_ANSWERS)):
            sample = one.sample
            key = {"image_id": number % IMAGES + 1, "question_id": (number % IMAGES + 1) * 1000 + number // IMAGES}
            answers = [
                {"answer": text, "answer_id": place, "answer_confidence": "yes"}
                for place, text in enumerate(sample.references, 1)
            ]
            kind = {"answer_type": sample.meta["answer_type"], "question_type": "what is"}
            questions.append({**key, "question": "What is this?"})
            annotations.append({**key, **kind, "answers": answers, "multiple_choice_answer": sample.references[0]})
            file.write(json.dumps({"id": str(key["question_id"]), "text": one.prediction.value}) + "\n")
    folder = root / "vqav2"
    folder.mkdir(parents=True)
    (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": questions}))
    (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": annotations}))


def write_captions(root: Path, predictions: Path) -> None:
    """Write Karpathy's test split in its format, and predictions."""
    from caption_speed import captions

    entries: list[dict[str, Any]] = []
    with predictions.open("w") as file:
        for number, one in enumerate(captions(5_000, 5), 1):
            name = f"COCO_val2014_{number:012d}.jpg"
            sentences = [{"raw": text, "tokens": text.lower().rstrip(".").split()} for text in one.sample.references]
            entries.append(
                {"filepath": "val2014", "filename": name, "cocoid": number, "split": "test", "sentences": sentences}
            )
            file.write(json.dumps({"id": str(number), "text": one.prediction.value}) + "\n")
    (root / "coco" / "val2014").mkdir(parents=True)
    (root / "coco" / "dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))


def write_own(root: Path, predictions: Path) -> None:
    """Write a custom task file, and predictions, of which five of seven are right."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(OWN_IMAGES):  # earlier versions want them even where no box is scored
        Image.new("L", (1, 1)).save(root / "images" / f"{number:07d}.png")
    with (root / "own.jsonl").open("w") as questions, predictions.open("w") as answers:
        for number in range(OWN_QUESTIONS):
            row = {
                "id": str(number), "image": f"images/{number % OWN_IMAGES:07d}.png",
                "question": f"What color is object {number}?", "answers": [COLOURS[number % 7]],
            }  # fmt: skip
            questions.write(json.dumps(row) + "\n")
            text = COLOURS[number % 7 if number % 7 < 5 else 0]
            answers.write(json.dumps({"id": str(number), "text": text}) + "\n")


WRITERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "vqav2": ("vqav2", write_vqav2),
    "captions": ("coco_caption/test", write_captions),
    "own": ("data/own.jsonl", write_own),
}
"""By case: the value of ``--tasks``, and what writes the files."""


def score(evalkit: str, case: str, folder: Path, name: str) -> tuple[Cost, dict[str, float]]:
    """Run ``evalkit score``; returns what it took, and the scores.  Raises if the command fails."""
    command = [
        evalkit, "score", "--tasks", WRITERS[case][0], "--data", str(folder / "data"), "--predictions",
        str(folder / f"{case}.jsonl"), "--out", str(folder / "runs"), "--name", name,
    ]  # fmt: skip
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}: {said.read().decode()}")
    (row,) = json.loads((folder / "runs" / name / "scores.json").read_text())["results"]
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), row["values"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, type=Path, metavar="EVALKIT", help="the command of the old version")
    parser.add_argument("--new", required=True, type=Path, metavar="EVALKIT", help="the command of the new version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=WRITERS, help="measure one case")
    settings = parser.parse_args()
    commands = {name: str(getattr(settings, name).absolute()) for name in ("old", "new")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for case in [settings.only] if settings.only else WRITERS:
            WRITERS[case][1](folder / "data", folder / f"{case}.jsonl")
            costs: dict[str, list[Cost]] = {"old": [], "new": []}
            scores: dict[str, dict[str, float]] = {}
            for number in range(settings.rounds):
                for version in ("old", "new") if number % 2 == 0 else ("new", "old"):
                    took, scores[version] = score(commands[version], case, folder, f"{case}-{version}-{number}")
                    costs[version].append(took)
            report(case, costs, scores)


def report(case: str, costs: dict[str, list[Cost]], scores: dict[str, dict[str, float]]) -> None:
    """Print what each version took, its scores, and the ratios."""
    for version, found in costs.items():
        values = ", ".join(f"{name} {value:.2f}" for name, value in list(scores[version].items())[:8])
        took = "; ".join(f"{one.wall:.1f} s, CPU {one.cpu:.1f} s, {one.memory:,.0f} MB" for one in found)
        print(f"{case}, {version}: {took}; {values}")
    pairs = list(zip(costs["old"], costs["new"], strict=True))
    ratios = [
        f"{what} {statistics.median(getattr(new, what) / getattr(old, what) for old, new in pairs):.2f}"
        for what in ("wall", "cpu", "memory")
    ]
    print(f"{case}: new / old {', '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
