"""Questions that mark the places of their images: ``<image 1>`` in MMMU and MMMU-Pro, ``<image>`` in MuirBench."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.types import ImageRef, Kind, Part, Sample

_NUMBERED = re.compile(r"<image (\d{1,2})>")
_PLAIN = "<image>"


@dataclass(frozen=True)
class Marked:
    """A question with its images in their places.

    Attributes:
        content: the question's texts and images in order.
        options: the options; one that is a mark and nothing else is the image.
        marks: the marks of the images, first those of ``content``, then those of ``inside``, then those of ``options``;
            none if there were none and ``content`` is the images followed by the text.
        inside: images of marks inside the texts of options.
    """

    content: tuple[Part, ...]
    options: tuple[Part, ...]
    marks: tuple[str, ...] = ()
    inside: tuple[ImageRef, ...] = ()

    def sample(
        self,
        id: str,
        references: tuple[str, ...],
        *,
        cluster: str = "",
        meta: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
    ) -> Sample:
        """The sample, with ``meta["marks"]``; its own cluster unless another is given."""
        made = Sample.interleaved(
            id,
            self.content,
            references=references,
            cluster=cluster or id,
            options=self.options,
            meta={**(meta or {}), **({"marks": list(self.marks)} if self.marks else {})},
            kind=kind,
        )
        if self.marks:
            return replace(made, images=(*made.images, *self.inside))
        return replace(made, text="".join(part for part in self.content if isinstance(part, str)), content=())


def numbered(question: str, options: Sequence[str], images: Mapping[int, ImageRef], *, required: bool = True) -> Marked:
    """A question whose marks have the numbers of their images; an image may have several marks.

    An option that has a mark among other text keeps it as text, and the prompt has the image in its place.  Images
    without a mark are left out, unless there are no marks at all: then all images come before the question.

    Args:
        images: by number.
        required: whether there must be an image for each mark; if not, a mark without one stays in the text.

    Raises:
        ValueError: there is no image for a mark.
    """
    if not any(_NUMBERED.search(text) for text in (question, *options)):
        return Marked((*images.values(), question), tuple(options))
    found = list(_parts(question, images, required))
    shown = {mark for _, mark in found if mark}
    inside: dict[str, ImageRef] = {}
    whole: list[tuple[Part, str]] = []
    for option in options:
        parts = [(part, mark) for part, mark in _parts(option, images, required) if mark or str(part).strip()]
        if len(parts) == 1 and parts[0][1]:
            whole.append(parts[0])
            continue
        whole.append((option, ""))
        inside.update({mark: part for part, mark in parts if not isinstance(part, str) and mark not in shown})
    marks = [mark for _, mark in found if mark] + list(inside) + [mark for _, mark in whole if mark]
    return Marked(
        tuple(part for part, _ in found if part != ""),
        tuple(part for part, _ in whole),
        tuple(marks),
        tuple(inside.values()),
    )


def _parts(text: str, images: Mapping[int, ImageRef], required: bool) -> Iterator[tuple[Part, str]]:
    """The texts and images of ``text`` in order, each image with its mark and each text with an empty one."""
    begin = 0
    for match in _NUMBERED.finditer(text):
        image = images.get(int(match[1]))
        if image is None:
            if required:
                raise ValueError(f"the text has the mark {match[0]}, and there is no such image")
            continue
        yield text[begin : match.start()], ""
        yield image, match[0]
        begin = match.end()
    yield text[begin:], ""


def in_order(question: str, options: Sequence[str], images: Sequence[ImageRef], *, required: bool = True) -> Marked:
    """A question whose marks are all ``<image>``: the first stands for the first image, and so on, options included.

    Images beyond the marks come before the question.

    Raises:
        ValueError: there are more marks than images.
    """
    count = sum(text.count(_PLAIN) for text in (question, *options))
    if required and count > len(images):
        raise ValueError(f"the texts have {count} marks {_PLAIN}, and there are {len(images)} images")
    pieces, number = [], 0
    for text in (question, *options):
        first, *others = text.split(_PLAIN)
        for other in others:
            number += 1
            first += f"<image {number}>{other}"
        pieces.append(first)
    found = numbered(pieces[0], pieces[1:], dict(enumerate(images, 1)), required=required)
    if not 0 < count < len(images):
        return found
    beyond = tuple(f"<image {number}>" for number in range(count + 1, len(images) + 1))
    return replace(found, content=(*images[count:], *found.content), marks=(*beyond, *found.marks))
