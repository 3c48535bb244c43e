"""Try whether a server takes images by their uuids, before it is sent requests."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from itertools import islice
from typing import Any

from PIL import Image

from evalkit.images import RowImage
from evalkit.types import Decoding, ImagePart, ImageRef, Message, Request, TextPart

from .chat_api import ChatAPI
from .errors import BadRequest, FatalError, RateLimited, RequestFailed, ServerUnavailable
from .http import Connection
from .image_uuids import Uuids
from .images import ImageCache
from .probing import Seen
from .transport import Session

MIN_REPEATED = 32
"""Images that repeat an earlier request's: fewer do not pay for the three requests of the probe."""
KEYS = 256
"""Images that are read to see whether they repeat, where a data set has a row for each question."""
NOISE = 0.5
"""Log-probabilities that differ by less may be of equal inputs, one of them computed with the other's cache."""
FIELDS = {"logprobs": True, "top_logprobs": 5}


def pays(requests: Sequence[Request]) -> bool:
    """Whether enough requests have images of earlier ones, judging by names, and by the content of the first images."""
    images = (image for request in requests for image in request.images)
    names = [image.key for image in islice(images, KEYS)]
    names += [image.name for image in images]
    return len(names) - len(set(names)) >= MIN_REPEATED


async def probe(connection: Connection, chat: ChatAPI) -> str | None:
    """Why a server cannot be told images by their uuids; empty if it can be, None if it did not answer.

    An image that it cannot have had must give the same input by its uuid as by its data, and the uuid of another one
    must be refused.
    """
    images = ImageCache()
    shown, other = _image(), _image()
    known: set[str] = set()
    try:
        async with connection.client(1) as session:

            async def ask(image: ImageRef) -> Seen:
                return Seen.of(await _reply(connection, session, chat, image, Uuids(images, known, 0)))

            first = await ask(shown)
            known |= {images.uuid(shown), images.uuid(other)}
            if not first.tokens:
                return "it does not count the tokens of prompts"
            if not _same(first, await ask(shown)):
                return "the prompt of an image's uuid is not that of the image"
            try:
                await ask(other)
            except (BadRequest, RequestFailed) as error:
                if isinstance(error, RequestFailed) and error.transport:
                    raise
                return ""
            return "it answers about images that it does not have"
    except (RateLimited, ServerUnavailable):
        return None
    except (BadRequest, FatalError, RequestFailed) as error:
        if isinstance(error, RequestFailed) and error.transport:
            return None
        return f"it was tried, and refused: {connection.masked(str(error)).rstrip('.')}"


def _same(one: Seen, other: Seen) -> bool:
    return one.tokens == other.tokens and not one.distance(other) > NOISE  # NaN: there are no log-probabilities


async def _reply(connection: Connection, session: Session, chat: ChatAPI, image: ImageRef, uuids: Uuids) -> Any:
    message = Message("user", (ImagePart(image), TextPart("Which colour is largest?")))
    request = Request("probe", (message,), Decoding(max_new_tokens=1))
    return await connection.post(session, "/chat/completions", chat.body(request, uuids, **FIELDS))


def _image() -> ImageRef:
    """A picture that nobody has seen: 64 squares of random colours."""
    out = io.BytesIO()
    Image.frombytes("RGB", (8, 8), secrets.token_bytes(192)).resize((224, 224), Image.Resampling.NEAREST).save(
        out, "PNG"
    )
    return RowImage(f"probe {secrets.token_hex(4)}", [{"image": {"bytes": out.getvalue(), "path": None}}], 0)
