"""Bases of families that state boxes in integers relative to the image, from 0 to a largest one."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.coordinates import Numbers, PointNumbers, box_numbers
from evalkit.errors import UserError
from evalkit.types import ImageSize, Message, PromptSpec, PromptTemplate, Sample, Shot

from ._chat import Chat, rounded
from ._prompts import OFFICIAL, PROTOCOLS, render


class ScaledChat(Chat):
    """A family of chat models whose coordinates are integers from 0 to ``largest``, whatever the image's size."""

    coordinates = "integers from 0 to 1000, thousandths of the image"
    largest = 1000

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return self.largest, self.largest

    def integers(self, box: Numbers) -> tuple[int, int, int, int]:
        """The nearest integers in range to a box in the family's units."""
        return rounded(box, (self.largest, self.largest))


class MarkedChat(ScaledChat):
    """A family whose answers have the expression and then boxes, each between marks: ``<ref>…</ref><box>[[…]]</box>``.

    Attributes:
        expression_marks, box_marks: before and after each.
    """

    expression_marks = ("<ref>", "</ref>")
    box_marks = ("<box>", "</box>")

    def numbers(self, spec: PromptSpec, answer: str) -> Numbers | None:
        """The first box after its mark, or after the expression, which may have brackets of its own."""
        mark = self.box_marks[0] if self.box_marks[0] in answer else self.expression_marks[1]
        return box_numbers(answer.partition(mark)[2] or answer)

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        (before, after), (opening, closing) = self.expression_marks, self.box_marks
        return f"{before}{expression}{after}{opening}[[{', '.join(map(str, self.integers(box)))}]]{closing}"


class PrefixModel(ScaledChat):
    """A family of models that continue an image and a prefix: no turns, no few-shot examples, one image.

    Other harnesses' protocols are refused: their sentences are none of the prefixes that the models were trained on.
    Points are the centres of boxes.
    """

    several_images = False

    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """The image and a prefix."""
        self.check_images(sample, shots)
        return (Message("plain", render(self.template(spec), sample)),)

    def template(self, spec: PromptSpec) -> PromptTemplate:
        if spec.protocol in PROTOCOLS and spec.protocol != OFFICIAL:
            raise UserError(
                f"{spec.protocol} has no prompt for {spec.task} and the family {self.name}, whose prompts are "
                "prefixes; use --protocol official."
            )
        return super().template(spec)

    def point_numbers(self, spec: PromptSpec, answer: str) -> PointNumbers | None:
        """The point that the rule reads from the box that the tokens stand for."""
        box = self.numbers(spec, answer)
        return None if box is None else spec.point_rule.read("({},{}),({},{})".format(*box))
