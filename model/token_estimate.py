"""Estimate of the tokens that requests will compute.

It has to be fast, for there may be hundreds of thousands of requests: nothing is tokenized (English has about 3.5
characters per token), no image is opened, and shared prefixes are found from the messages alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evalkit.types import ImagePart, Request, Size, TextPart

CHARACTERS_PER_TOKEN = 3.5
VIDEO_TOKENS = 4096  # of a video: neither its frames nor their size are known
DEFAULT_SIZE: Size = (640, 480)  # of images, if no size is known
# Cost of an answer's token relative to a prompt's: each decode step reads all weights for few sequences.
DECODE_COST = 3
# Token limits are far above typical answers: 10 tokens for a word, 128 for a caption.
TYPICAL_ANSWER = 16


def estimate_tokens(
    requests: Sequence[Request],
    sizes: Mapping[str, Size],
    *,
    visual: Callable[[Sequence[Size]], Sequence[int]],
    shared: bool,
) -> list[int]:
    """Estimated number of computed tokens per request.

    Args:
        sizes: of images, by name; a missing one counts as the mean of the others.
        visual: returns the number of visual tokens per image size.
        shared: whether a prefix up to an image or a video is computed only for the first request that has it.
    """
    distinct = list({DEFAULT_SIZE, *sizes.values()})
    tokens = dict(zip(distinct, visual(distinct), strict=True))
    usual = sum(tokens[size] for size in sizes.values()) / len(sizes) if sizes else tokens[DEFAULT_SIZE]

    begun: dict[tuple[object, ...], int] = {}
    found = []
    for request in requests:
        cost, place = 0.0, 0
        texts: list[str] = []
        for message in request.messages:
            texts.append(message.role)
            for part in message.content:
                if isinstance(part, TextPart):
                    cost += len(part.text) / CHARACTERS_PER_TOKEN
                    texts.append(part.text)
                    continue
                name = part.image.name if isinstance(part, ImagePart) else part.video.name
                if isinstance(part, ImagePart):
                    cost += tokens[sizes[name]] if name in sizes else usual
                else:
                    cost += VIDEO_TOKENS
                if shared:
                    beginning = (place, name, *texts)
                    if beginning in begun:
                        cost = 0.0  # the prefix is computed already
                    place = begun.setdefault(beginning, len(begun) + 1)
                    texts.clear()
        answers = request.continuations
        cost += (
            sum(map(len, answers)) / CHARACTERS_PER_TOKEN
            if answers
            else DECODE_COST * min(request.decoding.max_new_tokens, TYPICAL_ANSWER)
        )
        found.append(max(1, round(cost)))
    return found
