"""Time of ``evalkit score`` in two installed versions, in one interleaved run on the same predictions.

    python benchmarks/score_versions.py --old /path/to/old/venv/bin/evalkit --new /path/to/new/venv/bin/evalkit

Writes a data root in the official formats: VQAv2 val (214,354 questions about 40,504 images, ten answers each) and
COCO's Karpathy test (5,000 images, five captions each), both synthetic, without image files.  The commands alternate
(old, new, then new, old), so that load on the machine affects both alike.  The printed ratio is the median over rounds
of new / old; the headlines of both are printed, since a newer version may define another one.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from scorers import VQA_ANSWERS, vqa

IMAGES = 40_504
TASKS = {"vqav2": "vqav2", "captions": "coco_caption/test"}


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


def score(evalkit: str, case: str, folder: Path, name: str) -> tuple[float, dict[str, float]]:
    """Run ``evalkit score``; returns wall seconds and the scores.  Raises if the command fails."""
    command = [
        evalkit, "score", "--tasks", TASKS[case], "--data", str(folder / "data"), "--predictions",
        str(folder / f"{case}.jsonl"), "--out", str(folder / "runs"), "--name", name,
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    seconds = time.perf_counter() - began
    (row,) = json.loads((folder / "runs" / name / "scores.json").read_text())["results"]
    return seconds, row["values"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, type=Path, metavar="EVALKIT", help="the command of the old version")
    parser.add_argument("--new", required=True, type=Path, metavar="EVALKIT", help="the command of the new version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=TASKS, help="measure one case")
    settings = parser.parse_args()
    commands = {name: str(getattr(settings, name).absolute()) for name in ("old", "new")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_vqav2(folder / "data", folder / "vqav2.jsonl")
        write_captions(folder / "data", folder / "captions.jsonl")
        for case in [settings.only] if settings.only else TASKS:
            seconds: dict[str, list[float]] = {"old": [], "new": []}
            scores: dict[str, dict[str, float]] = {}
            for number in range(settings.rounds):
                for version in ("old", "new") if number % 2 == 0 else ("new", "old"):
                    took, scores[version] = score(commands[version], case, folder, f"{case}-{version}-{number}")
                    seconds[version].append(took)
            ratio = statistics.median(new / old for old, new in zip(seconds["old"], seconds["new"], strict=True))
            for version, times in seconds.items():
                listed = ", ".join(f"{one:.1f}" for one in times)
                values = ", ".join(f"{name} {value:.2f}" for name, value in list(scores[version].items())[:8])
                print(f"{case}, {version}: {listed} s; {values}")
            print(f"{case}: new / old {ratio:.2f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory of the largest process: {peak:,.0f} MB")


if __name__ == "__main__":
    main()
