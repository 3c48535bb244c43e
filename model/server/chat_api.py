"""A request in the form of a chat endpoint, and what its reply says.

What every such server knows is always sent.  What only some know (special tokens kept, a repetition penalty of 1, the
ids of the tokens) is sent until a server refuses it by name; then it is left out, and ``left_out`` says so.  Where an
answer would not be what was asked for without it, the run ends instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import SENT
from evalkit.types import Decoding, ImagePart, ImageRef, Message, Request, Response

from .http import Broken, Fatal

NICE: Mapping[str, Any] = {
    "skip_special_tokens": False, "spaces_between_special_tokens": False, "return_token_ids": True,
    "repetition_penalty": 1.0,
}  # fmt: skip
"""Sent where it is taken."""
OPTIONAL = (*NICE, "frequency_penalty", "presence_penalty", "seed", "top_p")
"""May be left out.  Penalties of 0 and a repetition penalty of 1 are there against the server's own defaults."""
NEEDED = {
    "mm_processor_kwargs": (
        "so --min-pixels and --max-pixels cannot be sent; have the server started with them (vLLM: "
        "--mm-processor-kwargs, or --trust-request-mm-kwargs to take them from requests) and give --pixel-limits server"
    ),
    "min_tokens": "and the protocol asks for answers of at least so many tokens",
    "top_k": "so leave --top-k out",
    "stop": "so leave --stop out",
    "logprobs": "so lettered questions cannot be ranked; use --choice generate",
    "top_logprobs": "so lettered questions cannot be ranked; use --choice generate",
    "prompt_logprobs": "so answers of several tokens cannot be ranked; use --choice generate",
    "continue_final_message": "so answers of several tokens cannot be ranked; use --choice generate",
    "temperature": "so its answers would be drawn in a way of its own",
}
"""May not be left out, and what follows."""
FEW = 8
RENAMED = {"max_tokens": "max_completion_tokens"}

ENDED = {"stop", "eos_token", "stop_sequence", "end_turn", "eos"}
CUT_OFF = {"length", "max_tokens"}


class Chat:
    """Writes requests and reads replies.

    Args:
        address: gives an image's ``data:`` address.

    Attributes:
        left_out: what the server does not take, with what it said.
        fingerprints: what the server called its configuration, reply by reply; each once, the first few.
    """

    def __init__(self, checkpoint: Checkpoint, address: Callable[[ImageRef], str]) -> None:
        assert checkpoint.served is not None
        self.model = checkpoint.location
        self.left_out: dict[str, str] = {}
        self.fingerprints: list[str] = []
        self._address = address
        self._renamed: dict[str, str] = {}
        limits = {"min_pixels": checkpoint.min_pixels, "max_pixels": checkpoint.max_pixels}
        asked = {name: value for name, value in limits.items() if value is not None}
        self._pixels = asked if checkpoint.served.endpoint.pixel_limits == SENT else {}

    # ---------------------------------------------------------------------------------------------------- what is sent

    def body(self, request: Request, **more: Any) -> bytes:
        """The request, with ``more`` fields; a field that is None is left out."""
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": self.messages(request.messages),
            **_decoded(request.decoding, request.id),
            **NICE,
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
        """The conversation; a turn without images is a plain text, which every server takes."""
        turns: list[dict[str, Any]] = []
        for message in messages:
            if not any(isinstance(part, ImagePart) for part in message.content):
                text = "".join(part.text for part in message.content if not isinstance(part, ImagePart))
                turns.append({"role": message.role, "content": text})
                continue
            parts: list[dict[str, Any]] = [
                {"type": "image_url", "image_url": {"url": self._address(part.image)}}
                if isinstance(part, ImagePart)
                else {"type": "text", "text": part.text}
                for part in message.content
            ]
            turns.append({"role": message.role, "content": parts})
        return turns

    def adapt(self, body: bytes, said: str, text: str) -> str | None:
        """Leave out, or rename, what the server refused by name.

        Returns:
            what was done, empty where that was known already; None where the server named nothing.

        Raises:
            Fatal: answers would not be what was asked for without it.
        """
        sent = set(json.loads(body))
        named = {name for name in sent if re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z_])", text)}
        for name, other in RENAMED.items():
            if name in named and other in text:
                known = name in self._renamed
                self._renamed[name] = other
                return "" if known else f"it takes {other} in the place of {name}"
        for name, follows in NEEDED.items():
            if name in named and _about(name, text):
                raise Fatal(f"it does not take {name}, {follows} ({said})")
        found = sorted(named & set(OPTIONAL))
        new = [name for name in found if name not in self.left_out]
        self.left_out |= dict.fromkeys(new, said)
        if not found:
            return None
        return f"leaving out what it does not take: {', '.join(new)}" if new else ""

    # ---------------------------------------------------------------------------------------------- what is answered

    def read(self, request: Request, reply: Any) -> Response:
        """What was answered, frames and time left open.

        Raises:
            Broken: the reply is none.
        """
        choice = first_choice(reply)
        fingerprint = reply.get("system_fingerprint")
        if isinstance(fingerprint, str) and fingerprint not in self.fingerprints and len(self.fingerprints) < FEW:
            self.fingerprints.append(fingerprint[:80])
        message = choice["message"]
        text, thoughts = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
        if isinstance(text, list):  # some give parts
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        text = text if isinstance(text, str) else ""
        reason = choice.get("finish_reason")
        cut = reason in CUT_OFF
        if thoughts and isinstance(thoughts, str):  # a server that takes thinking apart: the raw answer had it
            text = f"<think>{thoughts}" + ("" if cut and not text else f"</think>{text}")
        tokens = _tokens(choice, ended=not cut)
        for string in request.decoding.stop:
            text = text.partition(string)[0]
        response = Response(
            request.id, text, tokens, "length" if cut else "stop", prompt_tokens=prompt_tokens(reply)
        )  # fmt: skip
        if not cut and reason not in ENDED and not (reason is None and text):
            said = message.get("refusal") or f"the server ended the answer with {reason!r}"
            return Response(request.id, finish="error", error=str(said)[:300])
        return response


def _about(name: str, text: str) -> bool:
    """Whether a refusal that has ``name`` in it is of the field, not of its value or of another one.

    ``stop``, ``temperature``: plain words, which sentences about other things have too.
    """
    if name not in ("stop", "temperature"):
        return True
    return re.search(rf"['\"`]{name}['\"`]|parameter=?\s*{name}|{name} is not|field\W+{name}", text) is not None


def _decoded(decoding: Decoding, name: str) -> dict[str, Any]:
    """How an answer is generated, as an endpoint is told; each request draws from a stream of its own."""
    found: dict[str, Any] = {
        "max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature, "top_p": decoding.top_p,
        "frequency_penalty": 0.0, "presence_penalty": 0.0,
    }  # fmt: skip
    if decoding.temperature > 0:
        drawn = hashlib.blake2b(f"{decoding.seed}/{name}".encode(errors="surrogatepass"), digest_size=4).digest()
        found["seed"] = int.from_bytes(drawn, "big") >> 1
        if decoding.top_k:
            found["top_k"] = decoding.top_k
    if decoding.min_new_tokens:
        found["min_tokens"] = decoding.min_new_tokens
    if decoding.stop:
        found["stop"] = list(decoding.stop)
    return found


def first_choice(reply: Any) -> dict[str, Any]:
    """The answer inside a reply.  Raises ``Broken``."""
    try:
        choice = reply["choices"][0]
        assert isinstance(choice, dict)
        assert isinstance(choice["message"], dict)
    except (KeyError, IndexError, TypeError, AssertionError):
        raise Broken(f"a reply without choices ({str(reply)[:80]!r})") from None
    return choice


def prompt_tokens(reply: Any) -> int:
    """The length of the prompt, where the server says it; else 0."""
    usage = reply.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else 0


def _tokens(choice: Mapping[str, Any], *, ended: bool) -> tuple[int, ...]:
    """The answer's tokens where the server gives them, without the one that ended the turn."""
    found = choice.get("token_ids")
    if not isinstance(found, list) or not all(isinstance(token, int) for token in found):
        return ()
    by_string = isinstance(choice.get("stop_reason"), str)
    return tuple(found[:-1] if ended and found and not by_string else found)
