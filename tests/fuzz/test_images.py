"""Images that were changed at random: a failed sample, or pixels whose change the journal shows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from ..mutations import binary
from .accepted import other_image
from .harness import BOTH, Evalkit, Failures, called, share_of

SHARE = 420
"""Changed images of 5,000 changes."""
FORMATS = (
    "a.png",
    "palette.png",
    "alpha.png",
    "deep.png",
    "b.jpg",
    "c.webp",
    "d.gif",
    "e.bmp",
    "f.tiff",
    "g.ppm",
    "h.jp2",
    "exif.jpg",
)


def write_images(folder: Path) -> None:
    """Small images of noise and areas in every format that is opened."""
    noise = np.random.default_rng(7).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    noise[10:30, 10:40] = (200, 30, 30)
    rgb = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in FORMATS:
        image: Image.Image = rgb
        options: dict[str, Any] = {}
        match name:
            case "palette.png" | "d.gif":
                image = rgb.quantize(16)
            case "alpha.png":
                image = rgb.copy()
                image.putalpha(128)
            case "deep.png":
                image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
            case "exif.jpg":
                options = {"exif": exif}
        image.save(folder / name, **options)


def pixels(body: Any) -> str:
    """A digest of the pixels that a request shows."""
    (url,) = (part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        rgb = image.convert("RGB")
    return hashlib.sha256(rgb.tobytes() + repr(rgb.size).encode()).hexdigest()[:12]


@BOTH
def test_changed_images_fail_or_are_other_images(
    evalkit: Evalkit, http_server: Any, tmp_path: Path, total: int
) -> None:
    """The server answers with a digest of the pixels that it is shown, so any change of them is another answer."""
    made = tmp_path / "made"
    made.mkdir()
    write_images(made)
    rows = [{"id": name, "image": name, "question": "What?", "answers": ["x"]} for name in FORMATS]
    (made / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def reply(_: int, body: Any) -> tuple[int, dict[str, Any]]:
        message = {"role": "assistant", "content": pixels(body)}
        return 200, {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9},
        }

    http_server.replace = reply
    command = (
        "run", "-t", "mine.jsonl", "--backend", "server", "--base-url", http_server.url, "--family", "generic",
        "--allow-missing", "--name",
    )  # fmt: skip
    done = called(evalkit, *command, "R", cwd=made)
    assert done.returncode == 0, done.stderr
    failures = Failures()
    for number in range(max(1, share_of(SHARE, total) // len(FORMATS))):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        for name in FORMATS:
            (folder / name).write_bytes(binary((made / name).read_bytes(), Random(f"{name} {number}")))
        with failures.collecting(f"images {number}", folder) as ended:
            ended.append(called(evalkit, *command, "N", cwd=folder))
            other_image(made, folder)
            ended.append(called(evalkit, "report", "runs/R", cwd=folder))  # of answers to the unchanged images
            ended.append(called(evalkit, "report", "runs/N", cwd=folder))
    failures.show()
