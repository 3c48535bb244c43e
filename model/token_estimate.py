"""What requests will cost, guessed before any of them is looked at: tokens to compute.

A guess has to be quick, for there may be hundreds of thousands of requests: nothing is tokenized (English has about 3.5
characters a token), no image is opened, and only the shape of a conversation tells what requests have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evalkit.types import ImagePart, Request, Size

CHARACTERS = 3.5  # to a token
USUAL: Size = (640, 480)  # an image of which nothing is known, where nothing is known of any
# A token of an answer is a pass of its own over the weights, for few rows; one of a prompt is a row among thousands.
ANSWERED = 3
# Limits are far above what is answered: 10 tokens for a word, 128 for a caption.
LONGEST = 16


def costs(
    requests: Sequence[Request],
    sizes: Mapping[str, Size],
    *,
    visual: Callable[[Sequence[Size]], Sequence[int]],
    shared: bool,
) -> list[int]:
    """About how many tokens are to be computed for each request.

    Args:
        sizes: of images, by name; one that is not there counts as the mean of those that are.
        visual: how many tokens images of these sizes become, each.
        shared: what requests begin with alike, up to an image, is computed for the first of them only.
    """
    different = list({USUAL, *sizes.values()})
    tokens = dict(zip(different, visual(different), strict=True))
    usual = sum(tokens[size] for size in sizes.values()) / len(sizes) if sizes else tokens[USUAL]

    begun: dict[tuple[object, ...], int] = {}
    found = []
    for request in requests:
        cost, place = 0.0, 0
        texts: list[str] = []
        for message in request.messages:
            texts.append(message.role)
            for part in message.content:
                if not isinstance(part, ImagePart):
                    cost += len(part.text) / CHARACTERS
                    texts.append(part.text)
                    continue
                name = part.image.name
                cost += tokens[sizes[name]] if name in sizes else usual
                if shared:
                    beginning = (place, name, *texts)
                    if beginning in begun:
                        cost = 0.0  # all that stands before has been computed
                    place = begun.setdefault(beginning, len(begun) + 1)
                    texts.clear()
        answers = request.continuations
        cost += (
            sum(map(len, answers)) / CHARACTERS if answers else ANSWERED * min(request.decoding.max_new_tokens, LONGEST)
        )
        found.append(max(1, round(cost)))
    return found
