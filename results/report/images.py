"""The images of a report: each once, as a WebP of a size that keeps the report small."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath

from evalkit.images import EncodedImage
from evalkit.types import ImageRef, Size

BUDGET = 95_000_000
"""Approximate limit of the images of a report, in bytes."""
BUDGET_SINGLE = 45_000_000
"""The same for a single file: browsers load it completely, and base64 adds a third."""
BYTES_A_PIXEL = 0.19
"""Measured on COCO photographs at this quality and effort: 0.17 to 0.20 for sides of 416 to 640 pixels."""
SIDES = (224, 320, 480, 640, 800, 1024)
"""Includes halves of common widths, which JPEG decoders produce in a quarter of the time."""
QUALITY, EFFORT = 70, 0  # of WebP; more effort makes files a tenth smaller and takes half as long again


@dataclass(frozen=True)
class ReportImage:
    """An image of the report: its original size in pixels, or its problem, and whether it has changed since the run."""

    name: str
    size: Size | None
    problem: str = ""
    changed: bool = False


@dataclass
class Album:
    """The images that a report needs, numbered in the order of first use."""

    references: list[tuple[ImageRef, str | None]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def add(self, image: ImageRef, digest: str | None) -> int:
        """The number of an image; ``digest`` is that of its pixels in the run."""
        if image.name not in self.numbers:
            self.numbers[image.name] = len(self.references)
            self.references.append((image, digest))
        return self.numbers[image.name]

    def make(self, side: int, store: Callable[[int, bytes], None]) -> list[ReportImage]:
        """Make every image, at most ``side`` pixels wide and high; ``store`` is called with each number and its WebP.

        Raises:
            OSError: from ``store``.
        """
        with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
            coming = [pool.submit(small, image, digest, side) for image, digest in self.references]
            found = []
            for number, one in enumerate(coming):
                made, content = one.result()
                coming[number] = None  # type: ignore[call-overload]  # the bytes are not kept
                if content is not None:
                    store(number, content)
                found.append(made)
            return found


def side_for(images: int, budget: int) -> int:
    """The longer side, in pixels, at which this number of 4:3 images takes about ``budget`` bytes."""
    area = budget / max(1, images) / BYTES_A_PIXEL
    return max((side for side in SIDES if side * side * 3 / 4 <= area), default=SIDES[0])


def small(image: ImageRef, digest: str | None, side: int) -> tuple[ReportImage, bytes | None]:
    """An image as WebP, reduced to ``side`` if larger, as the model was given it (oriented, on white)."""
    from PIL import Image

    name = "/".join(PurePath(image.name).parts[-2:])
    try:
        changed = digest is not None and image.digest() != digest
        if isinstance(image, EncodedImage):
            pixels, size = image.reduced(side)
        else:
            pixels = image.load()
            size = pixels.size
        pixels.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        buffer = io.BytesIO()
        pixels.save(buffer, "WEBP", quality=QUALITY, method=EFFORT)
    except FileNotFoundError:
        return ReportImage(name, None, "the image file is missing"), None
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return ReportImage(name, None, f"the image cannot be read: {first[:200]}"), None
    return ReportImage(name, size, changed=changed), buffer.getvalue()


def image_notes(made: Sequence[ReportImage]) -> list[str]:
    """Notes on images that are missing, unreadable or changed."""
    found = []
    if bad := [one for one in made if one.problem]:
        found.append(f"{len(bad):,} of {len(made):,} images cannot be shown ({bad[0].name}: {bad[0].problem}).")
    if changed := [one for one in made if one.changed]:
        found.append(f"{len(changed):,} of {len(made):,} images differ from those the run used ({changed[0].name}).")
    return found
