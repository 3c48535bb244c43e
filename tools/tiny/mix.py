"""Mixes of training questions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scenes import SORTS


@dataclass(frozen=True)
class Mix:
    """Questions per training image: numbers of boxes, points and questions; probabilities of a caption, of multiple
    choice, of boxes of all shapes of some kinds.  ``pairs`` of images with questions about both and ``clips`` are per
    batch; ``busy`` is the share of clips in which something happens to every shape; ``forms`` are the probabilities
    that a clip is asked by multiple choice, in short questions, or for spans of time.
    """

    sorts: tuple[float, float, float] = SORTS
    caption: float = 0.8
    vqa: int = 3
    grounding: int = 2
    choice: float = 0.3
    pointing: int = 0
    detection: float = 0.0
    pairs: int = 0
    clips: int = 0
    busy: float = 0.0
    forms: tuple[float, float, float] = (0.30, 0.45, 0.25)

    def part(self, number: int, of: int) -> Mix:
        """The mix of a process's part of the batch."""
        return replace(self, pairs=part(self.pairs, number, of), clips=part(self.clips, number, of))


def part(count: int, number: int, of: int) -> int:
    """How many of ``count`` are in part ``number`` of ``of``."""
    return count * (number + 1) // of - count * number // of


BROAD = Mix()
# Learned last: finding one thing among several, small print, and option letters.
HARD = Mix(sorts=(0.52, 0.12, 0.36), caption=0.3, vqa=2, grounding=2, choice=0.5)
HARDER = Mix(sorts=(0.60, 0.14, 0.26), caption=0.3, vqa=2, grounding=3, choice=0.8)
# Points, boxes of all shapes of some kinds, two images, and clips.
WIDER = Mix(
    sorts=(0.56, 0.22, 0.22), caption=0.3, vqa=2, grounding=2, choice=0.8, pointing=1, detection=0.5, pairs=1, clips=5
)
# First what the times of frames are, from many short questions about clips in which much happens.
BUSY = replace(WIDER, clips=6, busy=0.8, forms=(0.06, 0.89, 0.05))
# Then which letter stands before what is known.
CHOOSING = replace(WIDER, clips=7, busy=0.7, forms=(0.65, 0.15, 0.20), choice=0.9)
# Last, mostly images again, so that nothing is forgotten that was known before.
SETTLED = replace(
    WIDER, sorts=(0.58, 0.22, 0.20), caption=0.4, clips=5, grounding=3, choice=0.9, busy=0.5, forms=(0.45, 0.30, 0.25)
)
# Then images, with few clips.
IMAGES = replace(SETTLED, sorts=(0.54, 0.24, 0.22), vqa=4, clips=2, pairs=1)
# Then what happens in clips, of which there had been few beside images.
CLIPS = replace(WIDER, caption=0.4, clips=9, pairs=1, busy=0.4, forms=(0.6, 0.2, 0.2))
# Then simpler clips, in which little else happens.
PLAIN_CLIPS = replace(CLIPS, busy=0.1, forms=(0.65, 0.25, 0.10))
# Last, images and clips alike.
BALANCED = replace(PLAIN_CLIPS, caption=0.6, vqa=3, choice=0.9, clips=6, busy=0.2, forms=(0.62, 0.28, 0.10))
# Then mostly images, many of them to be read.
READING = replace(IMAGES, sorts=(0.46, 0.30, 0.24), clips=5, busy=0.2, forms=(0.70, 0.20, 0.10))
# When something happens, which had been guessed.
SPANS = replace(READING, sorts=(0.56, 0.24, 0.20), clips=14, busy=0.2, forms=(0.15, 0.25, 0.60))
# Then mostly images again.
SPANS_AND_IMAGES = replace(READING, clips=9, busy=0.2, forms=(0.42, 0.10, 0.48))
ALL_KINDS = replace(SPANS_AND_IMAGES, sorts=(0.44, 0.32, 0.24), caption=0.6, clips=6)
