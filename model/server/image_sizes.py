"""The sizes to which a server resizes images; servers do not report them, so they are computed here.

Only some families' coordinates depend on them (Qwen2.5-VL's boxes are in pixels of the resized image).  The rule comes
from, in order of preference:

1. the processor's files, in ``--processor`` or in the folder that a server on this machine reports;
2. the family, with the limits of the released processor.

``--min-pixels`` and ``--max-pixels`` replace the limits of either.  The prompt length that a server reports shows
whether it resized the images so (``size_mismatch``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit import registry
from evalkit.checkpoint import Checkpoint, local_processor
from evalkit.errors import UserError
from evalkit.interfaces import Family
from evalkit.model.image_processor_file import FILES, ProcessorFileError, read_image_processor
from evalkit.model.smart_resize import resize
from evalkit.types import ImageSize, Request, Size, TextPart


@dataclass(frozen=True)
class ResizeRule:
    """How a processor resizes images.

    Attributes:
        image_size: returns an image's sizes, given the file's; raises ``ValueError`` if the processor refuses it.
        token_side: the side of a visual token in pixels; None if images are not split into such tokens.
        source: where the rule comes from, for messages.
        known: whether it is the rule of the checkpoint's own processor.
    """

    image_size: Callable[[Size], ImageSize]
    token_side: int | None
    source: str
    known: bool

    def tokens(self, size: Size) -> int:
        """The estimated number of visual tokens of an image."""
        if self.token_side is None:
            return 1 + size[0] * size[1] // 28**2
        try:
            width, height = self.image_size(size).resized
        except ValueError:
            return 1
        return max(1, width * height // self.token_side**2)


def resize_rule(checkpoint: Checkpoint) -> ResizeRule:
    """How the processor of a served checkpoint resizes images.

    Raises:
        UserError: ``--processor`` has no processor, or the pixel limits contradict each other or cannot be applied.
    """
    assert checkpoint.served is not None
    given = checkpoint.served.endpoint.processor
    folder = checkpoint.served.folder if given is None else local_processor(given)
    family = registry.families.get(checkpoint.served.family)
    resizes = getattr(family, "side", None) is not None
    if folder is None:
        return _by_family(checkpoint, family, known=False)
    try:
        found = read_image_processor(Path(folder))
        if found is None:
            raise ProcessorFileError(f"it contains neither {' nor '.join(FILES)} with an image processor")
        if found.of_qwen or resizes:
            side, low, high = found.qwen_resizing()
            return _by_files(checkpoint, str(folder), side, checkpoint.min_pixels or low, checkpoint.max_pixels or high)
    except ProcessorFileError as error:
        if given is not None:
            raise UserError(f"--processor {given}: {error}; give the folder of the served checkpoint.") from error
        return _by_family(checkpoint, family, known=False)
    return _by_family(checkpoint, family, known=True)


def _by_files(checkpoint: Checkpoint, folder: str, side: int, low: int, high: int) -> ResizeRule:
    _check_limits(checkpoint, low, high)
    return ResizeRule(
        lambda size: ImageSize(size, resize(size, side, low, high)),
        side,
        f"{folder}: {low:,} to {high:,} pixels",
        known=True,
    )


def _by_family(checkpoint: Checkpoint, family: Family, *, known: bool) -> ResizeRule:
    least, most = checkpoint.min_pixels, checkpoint.max_pixels
    side = getattr(family, "side", None)
    if side is None:  # the family has no such rule, so its predictions do not depend on it
        if least is not None or most is not None:
            option = "--min-pixels" if most is None else "--max-pixels"
            raise UserError(
                f"{option}: how the processor of {checkpoint.name} resizes images is unknown (family "
                f"{family.name}); give its folder with --processor, or leave out the option."
            )
        return ResizeRule(lambda size: ImageSize(size, size), None, "unchanged sizes", known=known)
    low = int(getattr(family, "min_pixels", 1)) if least is None else least
    high = int(getattr(family, "max_pixels", 1)) if most is None else most
    _check_limits(checkpoint, low, high)
    return ResizeRule(
        lambda size: family.image_size(size, least, most),
        side,
        f"the released processor of {family.name}: {low:,} to {high:,} pixels",
        known=least is not None and most is not None,
    )


def _check_limits(checkpoint: Checkpoint, low: int, high: int) -> None:
    if low > high:
        option = "--min-pixels" if checkpoint.max_pixels is None else "--max-pixels"
        raise UserError(
            f"{option}: the minimum of {low} pixels is above the maximum of {high}; lower --min-pixels or raise "
            "--max-pixels."
        )


TEMPLATE_TOKENS = 400
"""The most tokens that a chat template adds to a conversation: a system prompt, turn markers."""


def size_mismatch(
    request: Request, image_sizes: Sequence[ImageSize], token_side: int | None, prompt_tokens: int
) -> str | None:
    """Why a prompt of ``prompt_tokens`` tokens cannot contain images of these sizes; None if it can."""
    if token_side is None or not image_sizes or not prompt_tokens:
        return None
    visual = sum(image_size.resized[0] * image_size.resized[1] // token_side**2 for image_size in image_sizes)
    texts = [part.text for message in request.messages for part in message.content if isinstance(part, TextPart)]
    most = visual + sum(len(text.encode(errors="replace")) for text in texts)
    most += TEMPLATE_TOKENS + 8 * len(request.messages)
    sizes = ", ".join(f"{w} × {h}" for w, h in (image_size.resized for image_size in image_sizes[-2:]))
    if prompt_tokens < visual:
        return f"it counts {prompt_tokens:,} tokens, but the images alone are {visual:,} ({sizes} pixels)"
    if prompt_tokens > most:
        return f"it counts {prompt_tokens:,} tokens, but at most {most:,} are expected ({sizes} pixels)"
    return None
