"""Requests of the chat completions API, adapted to the server's replies.

Fields that every server supports are always sent.  Fields that only some support (keeping special tokens, a repetition
penalty of 1, token ids) are sent until a server rejects them by name; then they are left out and recorded in
``left_out``.  If the answers would differ without a field, the run ends instead.

Images and videos make up nearly all of a body.  They are encoded once, as bytes, and joined with the rest of the JSON;
they are neither escaped nor copied piece by piece.  The fields that say how to generate are encoded once as well.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from evalkit.chat_template import SWITCHES, thinking_variables
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import PIXEL_LIMITS_SENT
from evalkit.types import ImagePart, ImageRef, Request, Response, TextPart

from .errors import FatalError
from .image_uuids import Uuids
from .rejection import Rejection
from .replies import Reply, response_of
from .videos import MEDIA_IO, ServerVideos

PREFERRED: Mapping[str, Any] = {
    "skip_special_tokens": False, "spaces_between_special_tokens": False, "return_token_ids": True,
    "repetition_penalty": 1.0,
}  # fmt: skip
"""Sent unless the server rejects them."""
NEUTRAL: Mapping[str, Any] = {"presence_penalty": 0.0, "repetition_penalty": 1.0}
"""Penalties that change nothing.  Others are sent in any case, and a server that rejects one cannot be used."""
OPTIONAL = (*PREFERRED, "frequency_penalty", "presence_penalty", "seed", "top_p", "stream_options")
"""Fields that may be left out.  Neutral penalties are sent to override a server's own defaults."""
REQUIRED = {
    "mm_processor_kwargs": (
        "so --min-pixels and --max-pixels cannot be sent; start the server with them (vLLM: "
        "--mm-processor-kwargs, or --trust-request-mm-kwargs to allow them in requests) and give --pixel-limits server"
    ),
    MEDIA_IO: "by which it is told the times of frames; start vLLM with --trust-request-mm-kwargs",
    "chat_template_kwargs": "so --thinking cannot be sent; leave it out, and start the server as wanted",
    "min_tokens": "and the prompt protocol requires a minimum answer length",
    "top_k": "so leave out --top-k",
    "stop": "so leave out --stop",
    "logprobs": "so multiple-choice options cannot be ranked; use --choice generate",
    "top_logprobs": "so multiple-choice options cannot be ranked; use --choice generate",
    "prompt_logprobs": "so options of several tokens cannot be ranked; use --choice generate",
    "continue_final_message": "so options of several tokens cannot be ranked; use --choice generate",
    "temperature": "so it would sample answers with its own settings; --temperature 1 evaluates it like that",
}
"""Required fields, and the consequence if the server rejects one."""
MAX_FINGERPRINTS = 8
RENAMED = {"max_tokens": "max_completion_tokens"}
STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
"""Sent to endpoints that only answer with a stream of events."""


class ChatAPI:
    """Builds request bodies and parses replies.

    Args:
        data_url: returns an image's ``data:`` URL in ASCII.
        videos: prepared the requests' videos; None if they have none.

    Attributes:
        left_out: fields that the server rejects, with its message.
        fingerprints: the first distinct ``system_fingerprint`` values of its replies.
        streams: whether replies are requested as a stream of events.
        prompt_end: the end of rendered prompts, if known before the run.
        last_prompt: the last tokens of a prompt, if the server reports them.
    """

    def __init__(
        self, checkpoint: Checkpoint, data_url: Callable[[ImageRef], bytes], videos: ServerVideos | None = None
    ) -> None:
        assert checkpoint.served is not None
        self.model = checkpoint.location
        self.left_out: dict[str, str] = {}
        self.fingerprints: list[str] = []
        self.streams = False
        self.prompt_end = checkpoint.served.prompt_end
        self.last_prompt: Sequence[int] = ()
        self._data_url = data_url
        self._mark = f"media-{secrets.token_hex(16)}"  # stands for a URL, and occurs in no text
        self._videos = videos or ServerVideos(None, timed=True)
        self._switches = checkpoint.served.switches
        self._renamed: dict[str, str] = {}
        self._common_fields: dict[tuple[object, ...], str] = {}
        limits = {"min_pixels": checkpoint.min_pixels, "max_pixels": checkpoint.max_pixels}
        given = {name: value for name, value in limits.items() if value is not None}
        self._pixels = given if checkpoint.served.endpoint.pixel_limits == PIXEL_LIMITS_SENT else {}

    def named(self, model: str) -> ChatAPI:
        """The same API of a server that offers the model under another name; what either learns, both know."""
        found = copy(self)
        found.model = model
        return found

    # ---------------------------------------------------------------------------------------------------------- request

    def body(self, request: Request, uuids: Uuids | None = None, /, **more: Any) -> bytes:
        """The JSON body of a request, with ``more`` fields; fields that are None are left out.

        Args:
            uuids: says which images are sent without their data, and is told which are sent; None: all, without uuids.
        """
        media: list[bytes] = []
        conversation = json.dumps(self._messages(request, media, uuids))
        text = f'{{"model": {json.dumps(self.model)}, "messages": {conversation}, {self._other_fields(request, more)}}}'
        first, *others = text.encode().split(self._mark.encode())
        return b"".join((first, *(piece for pair in zip(media, others, strict=True) for piece in pair)))

    def _other_fields(self, request: Request, more: Mapping[str, Any]) -> str:
        """The JSON of all fields but the model and the conversation; that of nearly all requests of a run is equal."""
        images = bool(self._pixels and request.images)
        adapted = self.streams, len(self.left_out), len(self._renamed)
        key = request.decoding, bool(request.continuations), request.thinking, images, adapted
        common = not more and not request.videos and request.decoding.temperature == 0  # each request has its own seed
        if common and (known := self._common_fields.get(key)) is not None:
            return known
        fields: dict[str, Any] = {
            **PREFERRED,
            **_sampling_fields(request),
            **(STREAM if self.streams else {}),
            **self._thinking(request),
            **({"mm_processor_kwargs": self._pixels} if images else {}),
            **self._videos.fields(request),
            **more,
        }
        kept = {
            self._renamed.get(name, name): value
            for name, value in fields.items()
            if value is not None and (name not in self.left_out or value != NEUTRAL.get(name, value))
        }
        found = json.dumps(kept)[1:-1]
        if common:
            self._common_fields[key] = found
        return found

    def _thinking(self, request: Request) -> dict[str, Any]:
        """The field that tells the chat template to think, or not; every switch, if the template is not known."""
        names = tuple(SWITCHES) if self._switches is None else self._switches
        variables = thinking_variables(names, request.thinking)
        return {"chat_template_kwargs": variables} if variables else {}

    def _messages(self, request: Request, media: list[bytes], uuids: Uuids | None) -> list[dict[str, Any]]:
        """The conversation, with a mark for each URL; a turn of text only is a plain string, as every server supports.

        Args:
            media: the URLs are appended to it, in order.
        """
        turns: list[dict[str, Any]] = []
        for message in request.messages:
            if all(isinstance(part, TextPart) for part in message.content):
                turns.append({"role": message.role, "content": message.text()})
                continue
            parts: list[dict[str, Any]] = []
            for part in message.content:
                if isinstance(part, TextPart):
                    parts.append({"type": "text", "text": part.text})
                    continue
                kind = "image_url" if isinstance(part, ImagePart) else "video_url"
                named: dict[str, Any] = {}
                if uuids is not None and isinstance(part, ImagePart):
                    named["uuid"], alone = uuids.of(part.image)
                    if alone:
                        parts.append({"type": kind, kind: None, **named})
                        continue
                media.append(self._data_url(part.image) if isinstance(part, ImagePart) else self._videos.url(request))
                parts.append({"type": kind, kind: {"url": self._mark}, **named})
            turns.append({"role": message.role, "content": parts})
        return turns

    def adapt(self, body: bytes, message: str, rejection: Rejection) -> str | None:
        """Leave out or rename the fields that the server rejected by name.

        Args:
            body: of the rejected request.
            message: the server's message, for users.

        Returns:
            a description of the change, empty if it was made before; None if no field is to blame.

        Raises:
            FatalError: answers would differ without the field.
        """
        fields = json.loads(body)
        sent = set(fields)
        if rejection.stream_only and "stream" not in sent:
            known, self.streams = self.streams, True
            return "" if known else "the server only answers with a stream of events, so one is requested"
        for name, other in RENAMED.items():
            if name in sent and rejection.renamed.get(name) == other:
                known = name in self._renamed
                self._renamed[name] = other
                return "" if known else f"the server expects {other} instead of {name}"
        for name, consequence in REQUIRED.items():
            if name in sent & rejection.fields:
                raise FatalError(f"the server does not support {name}, {consequence} ({message})")
        for name, neutral in NEUTRAL.items():
            if name in sent & rejection.fields and fields[name] != neutral:
                option = f"--{name.replace('_', '-')}"
                raise FatalError(f"the server does not support {name}, so leave out {option} ({message})")
        rejected = sorted(sent & rejection.fields & set(OPTIONAL))
        new = [name for name in rejected if name not in self.left_out]
        self.left_out |= dict.fromkeys(new, message)
        if not rejected:
            return None
        return f"leaving out fields that the server does not support: {', '.join(new)}" if new else ""

    def parse(self, request: Request, reply: Any) -> Response:
        """The response in a reply, without image sizes and time.

        Raises:
            RequestFailed: the reply contains no answer.
        """
        found = Reply.parse(reply)
        new = found.fingerprint and found.fingerprint not in self.fingerprints
        if new and len(self.fingerprints) < MAX_FINGERPRINTS:
            self.fingerprints.append(found.fingerprint)
        self.last_prompt = found.last_prompt or self.last_prompt
        return response_of(request, found, self.prompt_end)


def _sampling_fields(request: Request) -> dict[str, Any]:
    """The fields that say how to generate an answer; each request has its own seed."""
    decoding = request.decoding
    if request.continuations:  # they are ranked by the model's own probabilities
        decoding = replace(decoding, **NEUTRAL)
    fields: dict[str, Any] = {
        "max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature, "top_p": decoding.top_p,
        "frequency_penalty": 0.0, "presence_penalty": decoding.presence_penalty,
        "repetition_penalty": decoding.repetition_penalty,
    }  # fmt: skip
    if decoding.temperature > 0:
        digest = hashlib.blake2b(f"{decoding.seed}/{request.id}".encode(errors="surrogatepass"), digest_size=4).digest()
        fields["seed"] = int.from_bytes(digest, "big") >> 1
        if decoding.top_k:
            fields["top_k"] = decoding.top_k
    if decoding.min_new_tokens:
        fields["min_tokens"] = decoding.min_new_tokens
    if decoding.stop:
        fields["stop"] = list(decoding.stop)
    return fields
