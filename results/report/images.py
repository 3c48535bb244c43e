"""The images of a report: each made once, as a small WebP, of whatever size keeps the report light."""

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
"""Bytes that the images of a report may take, about."""
BUDGET_SINGLE = 45_000_000
"""The same for a single file, which a browser reads as a whole, and where they take a third more."""
BYTES_A_PIXEL = 0.19
"""Measured on photographs of COCO at this quality and effort: 0.17 to 0.20 between 416 and 640 pixels."""
SIDES = (224, 320, 480, 640, 800, 1024)
"""Among them halves of the usual widths, which a JPEG decoder gives in a quarter of the time."""
QUALITY, EFFORT = 70, 0  # more effort: a tenth smaller, and half as long again


@dataclass(frozen=True)
class Made:
    """An image of the report: its own size in pixels, or what is wrong with it; and whether it is another by now."""

    name: str
    size: Size | None
    trouble: str = ""
    changed: bool = False


@dataclass
class Album:
    """The images that a report needs, numbered as they come."""

    references: list[tuple[ImageRef, str | None]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def add(self, image: ImageRef, digest: str | None) -> int:
        """The number of an image; ``digest`` is what the run saw of it."""
        if image.name not in self.numbers:
            self.numbers[image.name] = len(self.references)
            self.references.append((image, digest))
        return self.numbers[image.name]

    def make(self, side: int, put: Callable[[int, bytes], None]) -> list[Made]:
        """Make every image, at most ``side`` pixels wide and high; ``put`` takes each number's WebP.

        Raises:
            OSError: ``put`` does.
        """
        with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
            coming = [pool.submit(small, image, digest, side) for image, digest in self.references]
            found = []
            for number, one in enumerate(coming):
                made, content = one.result()
                coming[number] = None  # type: ignore[call-overload]  # the bytes are not kept
                if content is not None:
                    put(number, content)
                found.append(made)
            return found


def side_for(images: int, budget: int) -> int:
    """The longer side, in pixels, at which this number of 4:3 images takes about ``budget`` bytes."""
    area = budget / max(1, images) / BYTES_A_PIXEL
    return max((side for side in SIDES if side * side * 3 / 4 <= area), default=SIDES[0])


def small(image: ImageRef, digest: str | None, side: int) -> tuple[Made, bytes | None]:
    """An image as WebP, never enlarged, with the pixels that the model was given."""
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
        return Made(name, None, "the image file is missing"), None
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Made(name, None, f"the image cannot be read: {first[:200]}"), None
    return Made(name, size, changed=changed), buffer.getvalue()


def troubles(made: Sequence[Made]) -> list[str]:
    """What a reader must know of the images."""
    found = []
    if bad := [one for one in made if one.trouble]:
        found.append(f"{len(bad):,} of {len(made):,} images cannot be shown ({bad[0].name}: {bad[0].trouble}).")
    if changed := [one for one in made if one.changed]:
        found.append(f"{len(changed):,} of {len(made):,} images differ from those the run used ({changed[0].name}).")
    return found
