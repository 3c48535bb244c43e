"""Time of ``evalkit compare`` on two runs over VQAv2 val, and of ``evalkit leaderboard`` on fifty runs.

    python benchmarks/compare_speed.py [SAMPLES] [RUNS]

The runs are synthetic: 214,354 questions about 40,504 images, with VQA accuracies.  Each command is a new process.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

IMAGES = 40_504
COMMAND = "from evalkit.cli import main; main()"


def write_run(folder: Path, model: str, samples: int, level: float, *, samples_files: bool) -> None:
    """Write a run folder like ``evalkit run`` does; with per-sample files only if ``samples_files``."""
    rng = np.random.default_rng(len(model))
    folder.mkdir(parents=True)
    manifest = {"schema": 2, "settings": {}, "model": {"name": model}, "cwd": "/", "splits": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    choices = np.array([0.0, 30.0, 60.0, 90.0, 100.0])
    values = choices[np.minimum(4, (rng.random(samples) * level).astype(int))]
    row = {
        "task": "vqav2", "split": "val", "metric": "accuracy", "value": float(values.mean()), "stderr": 0.1,
        "ci95": 0.2, "low": 0.0, "high": 0.0, "interval": "bootstrap", "values": {}, "n": samples, "clusters": IMAGES,
        "unparsed": 0, "errors": 0, "truncated": 0, "limited": False, "signature": f"vqav2:val|v1|vqa|n:{samples}",
        "submission": None,
    }  # fmt: skip
    splits = [row if place == 0 else {**row, "task": f"task{place}", "signature": f"{place}"} for place in range(20)]
    rows = [row] if samples_files else splits
    (folder / "scores.json").write_text(json.dumps({"schema": 2, "model": model, "results": rows}))
    if samples_files:
        lines = [
            json.dumps({"id": str(i), "cluster": str(i * IMAGES // samples), "accuracy": float(values[i])})
            for i in range(samples)
        ]
        (folder / "vqav2.val.scores.jsonl").write_text("\n".join(lines) + "\n")
        answers = [json.dumps({"id": str(i), "text": "yes", "images": [f"/data/{i}.jpg"]}) for i in range(samples)]
        (folder / "vqav2.val.jsonl").write_text("\n".join(answers) + "\n")


def timed(name: str, *arguments: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", COMMAND, *arguments], check=True, capture_output=True, cwd="/")
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{name}: {seconds:.1f} s, at most {peak:,.0f} MB")
    return seconds


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 214_354
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for model, level in (("early", 6.0), ("late", 6.2)):
            write_run(root / "pair" / model, model, samples, level, samples_files=True)
        for place in range(runs):
            write_run(root / "many" / f"run{place}", f"model-{place}", samples, 6.0, samples_files=False)
        timed(f"leaderboard over {runs} runs of 20 tasks", "leaderboard", str(root / "many"))
        pair = [str(root / "pair" / model) for model in ("early", "late")]
        timed(f"compare of two runs of {samples:,} samples", "compare", *pair)
        timed("  with the 20 samples that flipped most", "compare", *pair, "--show-flips", "20")
        timed("  baseline", "baseline", pair[0], "--out", str(root / "baseline.json"))
        timed("  check", "check", pair[1], "--baseline", str(root / "baseline.json"))


if __name__ == "__main__":
    main()
