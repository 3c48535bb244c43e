"""Samples per second of two installed versions of evalkit, in one interleaved run on the same samples and weights.

    python benchmarks/versions.py --old /path/to/old/venv/bin/python --new /path/to/new/venv/bin/python

Each version runs in a separate process with its own interpreter, through its public interface: the ``hf`` backend
opens a saved checkpoint and generates.  Both processes stay alive; rounds alternate (old, new, then new, old), each
with new images (``_mixes.py``) that no cache holds, so that load on the machine affects both equally.  The ratio of a
mix is the median over rounds of new / old; the answers of both are compared token by token.  Weights are random, made
once per mix with its mean answer length (``_random_qwen.py``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def worker() -> None:
    """Open checkpoints and answer questions read from stdin, one JSON object per line."""
    import os

    reply = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up between the replies
    from evalkit import registry, types
    from evalkit.checkpoint import resolve_checkpoint

    try:
        from evalkit.images import PathImage
    except ImportError:  # until 54ec510
        from evalkit.data import PathImage
    image_part = getattr(types, "ImagePart", None) or types.Picture
    text_part = getattr(types, "TextPart", None) or types.Text
    backend: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        if "open" in order:
            factory = registry.backends.get("hf")
            backend = factory.open(resolve_checkpoint(order["open"]), device=order["device"], dtype=order["dtype"])
            print("{}", file=reply)
            continue
        requests = [
            types.Request(
                one["id"],
                (types.Message("user", (image_part(PathImage(one["path"])), text_part(one["text"]))),),
                types.Decoding(one["limit"]),
            )
            for one in order["questions"]
        ]
        began = time.perf_counter()
        responses = list(backend.generate(requests))
        seconds = time.perf_counter() - began
        errors = [response.error for response in responses if response.error]
        if errors:
            raise RuntimeError(errors[0])
        print(json.dumps({"seconds": seconds, "tokens": {r.id: list(r.tokens) for r in responses}}), file=reply)


class Version:
    """One installed version, in a separate process."""

    def __init__(self, python: str) -> None:
        command = [python, "-P", str(Path(__file__).resolve()), "--worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")

    def __call__(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with status {self._process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, metavar="PYTHON", help="interpreter with the older version installed")
    parser.add_argument("--new", required=True, metavar="PYTHON", help="interpreter with the newer version installed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="rounds per mix (default: 6)")
    parser.add_argument("--samples", type=int, metavar="N", help="samples per round, instead of the mix's default")
    parser.add_argument("--only", action="append", metavar="MIX", help="this mix only; repeatable")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there")
    options = parser.parse_args()

    import torch
    from _mixes import MIXES, draw
    from _paths import Generate
    from _random_qwen import make_model, make_processor, set_lengths

    large = options.device != "cpu"
    dtype = torch.bfloat16 if large else torch.float32
    processor = make_processor()
    model = make_model("7b" if large else "small", processor, torch.device(options.device), dtype, seed=0)
    versions = {"old": Version(options.old), "new": Version(options.new)}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for mix in MIXES:
            if options.only and mix.name not in options.only:
                continue
            some = draw(mix, 64, folder, seed="lengths", large=large)[::5][:12]
            inputs = Generate(model, processor, 1).placed(some)
            set_lengths(model, processor.tokenizer, inputs, mix.limit, mix.length)
            checkpoint = folder / mix.name
            model.save_pretrained(checkpoint)
            processor.save_pretrained(checkpoint)
            samples = options.samples or mix.samples[large]
            for version in versions.values():
                version(open=str(checkpoint), device=options.device, dtype=str(dtype).removeprefix("torch."))
            ratios, rates, differing = [], {"old": [], "new": []}, 0
            for number in range(-1, options.rounds):
                queries = draw(mix, samples if number >= 0 else 8, folder, seed=f"round{number}", large=large)
                questions = [{"id": q.id, "path": str(q.path), "text": q.text, "limit": q.limit} for q in queries]
                got = {}
                for name in ("old", "new") if number % 2 else ("new", "old"):
                    got[name] = versions[name](questions=questions)
                if number < 0:
                    continue  # warm-up
                for name in rates:
                    rates[name].append(len(queries) / got[name]["seconds"])
                ratios.append(got["old"]["seconds"] / got["new"]["seconds"])
                differing += sum(got["old"]["tokens"][q.id] != got["new"]["tokens"][q.id] for q in queries)
            figures[mix.name] = {"ratios": ratios, "rates": rates, "differing": differing}
            old, new = (statistics.median(rates[name]) for name in ("old", "new"))
            every = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(
                f"{mix.name:8}  old {old:6.2f}/s  new {new:6.2f}/s  "
                f"new / old {statistics.median(ratios):.3f} (median of {every})  "
                f"{differing} of {samples * options.rounds} answers differ",
                flush=True,
            )
    for version in versions.values():
        version.close()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    worker() if "--worker" in sys.argv else main()
