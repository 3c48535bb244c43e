"""The cost of a run's journal: ``python benchmarks/journal.py [--count 20000] [--folder DIR]``.

Records like those of a VQA run are appended as ``evalkit run`` does, synced every second, and the time is compared
with a run at 1,000 samples per second.  Then the journal is read back, as when a run is resumed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from evalkit.images import PathImage
from evalkit.jobs import Record
from evalkit.results.store.journal import appending, read_journal
from evalkit.types import ImageSize, Prediction, Response, Sample

SAMPLES_A_SECOND = 1000


def records(count: int) -> list[Record]:
    found = []
    for number in range(count):
        sample = Sample(
            str(262148000 + number), (PathImage(f"/data/vlm/coco/val2014/COCO_val2014_{number:012d}.jpg"),), "?",
            ("yes",) * 10, str(number // 5),
        )  # fmt: skip
        response = Response(
            sample.id, "a red double-decker bus", tokens=(1, 2, 3, 4, 5), prompt_tokens=431,
            image_sizes=(ImageSize((640, 480), (644, 476)),), seconds=0.01,
        )  # fmt: skip
        prediction = Prediction("a red double-decker bus")
        found.append(Record(sample, f"{number:016x}", response, prediction, sample.images, (f"{number:016x}",)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    args = parser.parse_args()
    todo = records(args.count)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "vqav2.val.jsonl"
        began = time.perf_counter()
        with appending(path) as journal:
            for record in todo:
                journal.append(record)
        written = time.perf_counter() - began
        began = time.perf_counter()
        answers = read_journal(path, 2)
        read = time.perf_counter() - began
        assert len(answers.lines) == args.count
        share = written / args.count * SAMPLES_A_SECOND
        print(f"{args.count:,} answers, {path.stat().st_size / args.count:.0f} bytes each")
        print(
            f"written: {written / args.count * 1e6:.1f} µs each, {share:.2%} of a run at {SAMPLES_A_SECOND:,} samples/s"
        )
        print(f"read back and checked: {read / args.count * 1e6:.1f} µs each")


if __name__ == "__main__":
    main()
