"""A console on which texts of models, data and servers are text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from .plain_text import printable


class TextConsole(Console):
    """Prints texts as they are: without markup, emoji codes (``:smile:``) and control characters.

    Styles are given by ``Text`` and ``style``.  ``options`` are those of rich's ``Console``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed, with a replacement character for each control character in them."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield segment if text is segment.text else Segment(text, segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A status line; rich would read markup in a text."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)
