"""Requests and replies of the chat completions API.

Fields that every server supports are always sent.  Fields that only some support (keeping special tokens, a repetition
penalty of 1, token ids) are sent until a server rejects them by name; then they are left out and recorded in
``left_out``.  If the answers would differ without a field, the run ends instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import PIXEL_LIMITS_SENT
from evalkit.types import Decoding, ImagePart, ImageRef, Message, Request, Response

from .http import FatalError, RequestFailed

PREFERRED: Mapping[str, Any] = {
    "skip_special_tokens": False, "spaces_between_special_tokens": False, "return_token_ids": True,
    "repetition_penalty": 1.0,
}  # fmt: skip
"""Sent unless the server rejects them."""
OPTIONAL = (*PREFERRED, "frequency_penalty", "presence_penalty", "seed", "top_p")
"""Fields that may be left out.  Neutral penalties are sent to override a server's own defaults."""
REQUIRED = {
    "mm_processor_kwargs": (
        "so --min-pixels and --max-pixels cannot be sent; start the server with them (vLLM: "
        "--mm-processor-kwargs, or --trust-request-mm-kwargs to allow them in requests) and give --pixel-limits server"
    ),
    "min_tokens": "and the prompt protocol requires a minimum answer length",
    "top_k": "so leave out --top-k",
    "stop": "so leave out --stop",
    "logprobs": "so multiple-choice options cannot be ranked; use --choice generate",
    "top_logprobs": "so multiple-choice options cannot be ranked; use --choice generate",
    "prompt_logprobs": "so options of several tokens cannot be ranked; use --choice generate",
    "continue_final_message": "so options of several tokens cannot be ranked; use --choice generate",
    "temperature": "so it would sample answers with its own settings",
}
"""Required fields, and the consequence if the server rejects one."""
MAX_FINGERPRINTS = 8
RENAMED = {"max_tokens": "max_completion_tokens"}

FINISHED_REASONS = {"stop", "eos_token", "stop_sequence", "end_turn", "eos"}
TRUNCATED_REASONS = {"length", "max_tokens"}


class ChatAPI:
    """Builds request bodies and parses replies.

    Args:
        data_url: returns an image's ``data:`` URL.

    Attributes:
        left_out: fields that the server rejects, with its message.
        fingerprints: the first distinct ``system_fingerprint`` values of its replies.
    """

    def __init__(self, checkpoint: Checkpoint, data_url: Callable[[ImageRef], str]) -> None:
        assert checkpoint.served is not None
        self.model = checkpoint.location
        self.left_out: dict[str, str] = {}
        self.fingerprints: list[str] = []
        self._data_url = data_url
        self._renamed: dict[str, str] = {}
        limits = {"min_pixels": checkpoint.min_pixels, "max_pixels": checkpoint.max_pixels}
        given = {name: value for name, value in limits.items() if value is not None}
        self._pixels = given if checkpoint.served.endpoint.pixel_limits == PIXEL_LIMITS_SENT else {}

    # ---------------------------------------------------------------------------------------------------------- request

    def body(self, request: Request, **more: Any) -> bytes:
        """The JSON body of a request, with ``more`` fields; fields that are None are left out."""
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": self.messages(request.messages),
            **_sampling_fields(request.decoding, request.id),
            **PREFERRED,
            **({"mm_processor_kwargs": self._pixels} if self._pixels and request.images else {}),
            **more,
        }
        kept = {
            self._renamed.get(name, name): value
            for name, value in fields.items()
            if name not in self.left_out and value is not None
        }
        return json.dumps(kept).encode()

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The conversation; a turn without images is a plain string, which every server supports."""
        turns: list[dict[str, Any]] = []
        for message in messages:
            if not any(isinstance(part, ImagePart) for part in message.content):
                text = "".join(part.text for part in message.content if not isinstance(part, ImagePart))
                turns.append({"role": message.role, "content": text})
                continue
            parts: list[dict[str, Any]] = [
                {"type": "image_url", "image_url": {"url": self._data_url(part.image)}}
                if isinstance(part, ImagePart)
                else {"type": "text", "text": part.text}
                for part in message.content
            ]
            turns.append({"role": message.role, "content": parts})
        return turns

    def adapt(self, body: bytes, message: str, text: str) -> str | None:
        """Leave out or rename the fields that the server rejected by name.

        Args:
            body: of the rejected request.
            message: the server's message, for users.
            text: the server's full message.

        Returns:
            a description of the change, empty if it was made before; None if the message names no field.

        Raises:
            FatalError: answers would differ without the field.
        """
        sent = set(json.loads(body))
        named = {name for name in sent if re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z_])", text)}
        for name, other in RENAMED.items():
            if name in named and other in text:
                known = name in self._renamed
                self._renamed[name] = other
                return "" if known else f"the server expects {other} instead of {name}"
        for name, consequence in REQUIRED.items():
            if name in named and _is_about_field(name, text):
                raise FatalError(f"the server does not support {name}, {consequence} ({message})")
        rejected = sorted(named & set(OPTIONAL))
        new = [name for name in rejected if name not in self.left_out]
        self.left_out |= dict.fromkeys(new, message)
        if not rejected:
            return None
        return f"leaving out fields that the server does not support: {', '.join(new)}" if new else ""

    # ------------------------------------------------------------------------------------------------------------ reply

    def parse(self, request: Request, reply: Any) -> Response:
        """The response in a reply, without image sizes and time.

        Raises:
            RequestFailed: the reply contains no answer.
        """
        choice = first_choice(reply)
        fingerprint = reply.get("system_fingerprint")
        new = isinstance(fingerprint, str) and fingerprint not in self.fingerprints
        if new and len(self.fingerprints) < MAX_FINGERPRINTS:
            self.fingerprints.append(fingerprint[:80])
        message = choice["message"]
        text, reasoning = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
        if isinstance(text, list):  # some servers return parts
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        text = text if isinstance(text, str) else ""
        reason = choice.get("finish_reason")
        truncated = reason in TRUNCATED_REASONS
        if reasoning and isinstance(reasoning, str):  # put it back where the model generated it
            text = f"<think>{reasoning}" + ("" if truncated and not text else f"</think>{text}")
        tokens = _tokens(choice, ended=not truncated)
        for string in request.decoding.stop:
            text = text.partition(string)[0]
        response = Response(
            request.id, text, tokens, "length" if truncated else "stop", prompt_tokens=prompt_tokens(reply)
        )  # fmt: skip
        if not truncated and reason not in FINISHED_REASONS and not (reason is None and text):
            error = message.get("refusal") or f"the server ended the answer with {reason!r}"
            return Response(request.id, finish="error", error=str(error)[:300])
        return response


def _is_about_field(name: str, text: str) -> bool:
    """Whether an error message that contains ``name`` rejects the field of that name.

    ``stop`` and ``temperature`` are ordinary words, which messages about other things contain, too.
    """
    if name not in ("stop", "temperature"):
        return True
    return re.search(rf"['\"`]{name}['\"`]|parameter=?\s*{name}|{name} is not|field\W+{name}", text) is not None


def _sampling_fields(decoding: Decoding, request_id: str) -> dict[str, Any]:
    """The fields that say how to generate an answer; each request has its own seed."""
    fields: dict[str, Any] = {
        "max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature, "top_p": decoding.top_p,
        "frequency_penalty": 0.0, "presence_penalty": 0.0,
    }  # fmt: skip
    if decoding.temperature > 0:
        digest = hashlib.blake2b(f"{decoding.seed}/{request_id}".encode(errors="surrogatepass"), digest_size=4).digest()
        fields["seed"] = int.from_bytes(digest, "big") >> 1
        if decoding.top_k:
            fields["top_k"] = decoding.top_k
    if decoding.min_new_tokens:
        fields["min_tokens"] = decoding.min_new_tokens
    if decoding.stop:
        fields["stop"] = list(decoding.stop)
    return fields


def first_choice(reply: Any) -> dict[str, Any]:
    """The first choice of a reply.  Raises ``RequestFailed`` if there is none."""
    try:
        choice = reply["choices"][0]
        assert isinstance(choice, dict)
        assert isinstance(choice["message"], dict)
    except (KeyError, IndexError, TypeError, AssertionError):
        raise RequestFailed(f"the reply has no choices ({str(reply)[:80]!r})") from None
    return choice


def prompt_tokens(reply: Any) -> int:
    """The prompt's length in tokens; 0 if the server does not report it."""
    usage = reply.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else 0


def _tokens(choice: Mapping[str, Any], *, ended: bool) -> tuple[int, ...]:
    """The answer's token ids without the one that ended the turn; empty if the server does not return them."""
    tokens = choice.get("token_ids")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return ()
    by_string = isinstance(choice.get("stop_reason"), str)
    return tuple(tokens[:-1] if ended and tokens and not by_string else tokens)
