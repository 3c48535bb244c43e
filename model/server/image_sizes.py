"""The sizes at which a server's model sees images: it does not say them, so they are worked out here.

Only the coordinates of some families depend on it (Qwen2.5-VL's boxes are pixels of the resized image).  Whose rule
is followed, from the best known to the least:

1. the processor's files, from ``--processor`` or from the folder that a server on this machine says it has loaded;
2. the rule of the family, with the limits of the released processor.

``--min-pixels`` and ``--max-pixels`` take the place of either's limits.  What a server counts as the length of a prompt
shows whether it saw the images so (``disagreement``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.model.smart_resize import resize
from evalkit.types import ImageSize, Request, Size, TextPart

FILES = ("processor_config.json", "preprocessor_config.json")
RESIZES = ("Qwen2VLImageProcessor", "Qwen3VLImageProcessor", "Qwen2_5_VLImageProcessor")
"""Processors that resize by number of pixels, by the rule of ``_resizing``."""


@dataclass(frozen=True)
class Framing:
    """How images are seen.

    Attributes:
        image_size: gives an image's sizes from that of the file; raises ``ValueError`` where the processor refuses it.
        side: the pixels in a visual token's side; None where images are not cut so.
        source: where the rule comes from, in words.
        known: the rule is that of the checkpoint's own processor.
    """

    image_size: Callable[[Size], ImageSize]
    side: int | None
    source: str
    known: bool

    def tokens(self, size: Size) -> int:
        """About how many tokens an image becomes."""
        if self.side is None:
            return 1 + size[0] * size[1] // 28**2
        try:
            width, height = self.image_size(size).resized
        except ValueError:
            return 1
        return max(1, width * height // self.side**2)


def framing(checkpoint: Checkpoint) -> Framing:
    """How the model that ``checkpoint`` names sees images.

    Raises:
        UserError: ``--processor`` has no processor's files, or the limits make no sense with it.
    """
    assert checkpoint.served is not None
    given = checkpoint.served.endpoint.processor
    folder = given or checkpoint.served.folder
    content = None if folder is None else _read(Path(folder).expanduser(), required=given is not None)
    least, most = checkpoint.min_pixels, checkpoint.max_pixels
    if content is not None and content.get("image_processor_type", "").removesuffix("Fast") in RESIZES:
        size = content.get("size") or {}
        low = least or content.get("min_pixels") or size.get("shortest_edge")
        high = most or content.get("max_pixels") or size.get("longest_edge")
        side = content.get("patch_size", 0) * content.get("merge_size", 0)
        if all(isinstance(number, int) and number > 0 for number in (low, high, side)):
            return _by_files(checkpoint, str(folder), side, int(low or 0), int(high or 0))
    return _by_family(checkpoint, known=content is not None)


def _by_files(checkpoint: Checkpoint, folder: str, side: int, low: int, high: int) -> Framing:
    _check_limits(checkpoint, low, high)
    return Framing(
        lambda size: ImageSize(size, resize(size, side, low, high)),
        side,
        f"{folder}: {low:,} to {high:,} pixels",
        known=True,
    )


def _by_family(checkpoint: Checkpoint, *, known: bool) -> Framing:
    assert checkpoint.served is not None
    least, most = checkpoint.min_pixels, checkpoint.max_pixels
    family = registry.families.get(checkpoint.served.family)
    side = getattr(family, "side", None)
    if side is None:  # the family knows no such rule, so nothing that it reads depends on it
        if least is not None or most is not None:
            option = "--min-pixels" if most is None else "--max-pixels"
            raise UserError(
                f"{option}: how the processor of {checkpoint.name} resizes is not known (family {family.name}); "
                "give its folder with --processor, or leave the option out."
            )
        return Framing(lambda size: ImageSize(size, size), None, "as they are", known=known)
    low = int(getattr(family, "min_pixels", 1)) if least is None else least
    high = int(getattr(family, "max_pixels", 1)) if most is None else most
    _check_limits(checkpoint, low, high)
    return Framing(
        lambda size: family.image_size(size, least, most),
        side,
        f"the released processor of {family.name}: {low:,} to {high:,} pixels",
        known=least is not None and most is not None,
    )


def _read(folder: Path, *, required: bool) -> dict[str, Any] | None:
    """The image processor's settings in ``folder``."""
    trouble = f"none of {', '.join(FILES)} is there"
    for name in FILES:
        try:
            content = json.loads((folder / name).read_bytes())
            content = content.get("image_processor", content)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            trouble = f"{name} cannot be read ({error})"
            continue
        if isinstance(content, dict) and isinstance(content.get("image_processor_type"), str):
            return content
        trouble = f"{name} names no image_processor_type"
    if required:
        raise UserError(f"--processor {folder}: {trouble}; give the folder of the served checkpoint.")
    return None


def _check_limits(checkpoint: Checkpoint, low: int, high: int) -> None:
    if low > high:
        option = "--min-pixels" if checkpoint.max_pixels is None else "--max-pixels"
        raise UserError(
            f"{option}: images cannot have between {low} and {high} pixels; give --min-pixels and --max-pixels in "
            "that order."
        )


OVERHEAD = 400
"""Tokens that a chat template may add to a conversation: a system prompt, marks of turns."""


def disagreement(request: Request, image_sizes: Sequence[ImageSize], side: int | None, counted: int) -> str | None:
    """Why a server cannot have seen a request's images at these sizes, by the length that it counted; else None."""
    if side is None or not image_sizes or not counted:
        return None
    visual = sum(image_size.resized[0] * image_size.resized[1] // side**2 for image_size in image_sizes)
    texts = [part.text for message in request.messages for part in message.content if isinstance(part, TextPart)]
    most = visual + sum(len(text.encode(errors="replace")) for text in texts) + OVERHEAD + 8 * len(request.messages)
    sizes = ", ".join(f"{w} × {h}" for w, h in (image_size.resized for image_size in image_sizes[-2:]))
    if counted < visual:
        return f"it counts {counted:,} tokens, and the images alone would be {visual:,} ({sizes} pixels)"
    if counted > most:
        return f"it counts {counted:,} tokens, and should count at most {most:,} ({sizes} pixels)"
    return None
