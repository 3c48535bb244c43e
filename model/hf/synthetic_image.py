"""Generated images, for checks that need no data."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from evalkit.types import ImageRef


@dataclass(frozen=True)
class SyntheticImage(ImageRef):
    """An image with a different gradient in each channel; ``rotated`` gives another one of the same size."""

    name: str
    width: int
    height: int
    rotated: bool = False

    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def load(self) -> Image.Image:
        linear = Image.linear_gradient("L").resize((self.width, self.height))
        radial = Image.radial_gradient("L").resize((self.width, self.height))
        image = Image.merge("RGB", (linear, linear.rotate(180), radial))
        return image.rotate(180) if self.rotated else image

    def digest(self) -> str:
        return self.name
