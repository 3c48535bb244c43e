"""Writing images and JSON of the bundled data root."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from scenes import Scene, image_size, render


def write_image(path: Path, scene: Scene, rng: random.Random) -> tuple[int, int]:
    """Draw ``scene`` into ``path`` (JPEG or PNG by its suffix); returns its width and height."""
    width, height = image_size(rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = render(scene, width, height)
    if path.suffix == ".jpg":
        image.save(path, quality=85, subsampling=0)
    else:
        image.save(path, optimize=True)
    return width, height


def write_coco_image(root: Path, split: str, image_id: int, scene: Scene, rng: random.Random) -> tuple[int, int]:
    """An image under COCO's 2014 name."""
    return write_image(root / "coco" / split / f"COCO_{split}_{image_id:012d}.jpg", scene, rng)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
