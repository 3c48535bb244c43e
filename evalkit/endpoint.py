"""Models behind an HTTP server: its address and options, and the model that it serves.

The API key comes from the environment only (``EVALKIT_API_KEY``) and is read where requests are sent.  None of these
values contains it, so that it cannot end up in a manifest, log or message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from evalkit.engines import Engine
from evalkit.errors import UserError

KEY_VARIABLE = "EVALKIT_API_KEY"
JUDGE_KEY_VARIABLE = "EVALKIT_JUDGE_API_KEY"
BASE_URL_VARIABLE = "EVALKIT_BASE_URL"
PIXEL_LIMITS_SENT = "sent"
PIXEL_LIMITS = (PIXEL_LIMITS_SENT, "server")

CONCURRENCY = 128
TIMEOUT = 600
PATIENCE = 300


@dataclass(frozen=True)
class Endpoint:
    """A server, and how to send requests to it.

    Attributes:
        base_url: up to and including ``/v1``, without credentials and trailing slash.
        concurrency: the maximum number of concurrent requests.
        timeout: seconds that one request may take.
        patience: seconds to wait for a server that does not respond; None: 300 during a run, 0 before it.
        processor: the folder of the served checkpoint's processor, if it cannot be found automatically.
        pixel_limits: ``sent`` with each request, or ``server``: the server was started with them.
        keys: the environment variables that may have its key, the first of them that is set; not the key.
    """

    base_url: str
    concurrency: int = CONCURRENCY
    timeout: float = TIMEOUT
    patience: float | None = None
    processor: str | None = None
    pixel_limits: str = PIXEL_LIMITS_SENT
    keys: tuple[str, ...] = (KEY_VARIABLE,)


@dataclass(frozen=True)
class ServedModel:
    """A model that a server offers.

    Attributes:
        says: its entry in the server's list of models, without times and permissions.
        software: the server's name and version, as far as it reports them.
        folder: the checkpoint's folder on this machine; None if unknown.
        same_machine: whether the server runs on this machine, so that ``folder`` holds what it has loaded.
        family: the model family whose prompts are used.
        family_guessed: whether the family was guessed from the name under which the model is served.
        lineage: what the server says that the model is: the checkpoint it has loaded, and for an adapter, then that of
            its base model.
        prompt_end: the end of the prompts that the server renders, where reasoning may be opened; empty if unknown.
        switches: the variables by which its chat template is told to think (``evalkit.chat_template.SWITCHES``); None
            if the template is not known.
        engine: what evalkit starts to serve it; None for a server that runs already.
    """

    endpoint: Endpoint
    says: Mapping[str, Any] = field(default_factory=dict)
    software: str = "a server"
    folder: str | None = None
    same_machine: bool = False
    family: str = "generic"
    family_guessed: bool = False
    lineage: tuple[str, ...] = ()
    prompt_end: str = ""
    switches: tuple[str, ...] | None = None
    engine: Engine | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry in the manifest."""
        if self.engine is not None:
            return {"engine": self.engine.to_dict(), "software": self.software, "folder": self.folder}
        return {
            "base_url": self.endpoint.base_url,
            "software": self.software,
            "says": dict(self.says),
            "folder": self.folder,
        }


def check_base_url(address: str, option: str) -> str:
    """The address without spaces around it and trailing slashes.

    Raises:
        UserError: it is not an HTTP address, or contains what must not be recorded: a user, a password, a query.
    """
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if "@" in address or (host and (parts.username or parts.password)):
        raise UserError(f"{option}: the address must not contain a user or password; set the key in ${KEY_VARIABLE}.")
    if parts.query or parts.fragment or "?" in address:
        raise UserError(f"{option}: the address must not contain a query ('?'); set the key in ${KEY_VARIABLE}.")
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{option} {address}: give an address such as http://localhost:8000/v1.")
    return address.strip().rstrip("/")


def api_key(endpoint: Endpoint) -> str | None:
    """The server's API key from the environment.  Raises ``UserError``, without showing it, if it cannot be a key."""
    for variable in endpoint.keys:
        key = os.environ.get(variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"${variable} is not a valid key: it contains spaces or special characters.")
        if key:
            return key
    return None
