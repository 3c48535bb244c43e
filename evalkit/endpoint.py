"""Models that are asked over HTTP: how a server is reached, and what it says it serves.

The key of a server comes from the environment only (``EVALKIT_API_KEY``).  It stands in none of these values, so that
no manifest, log or message can hold it; whoever talks to the server reads it there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from evalkit.errors import UserError

KEY = "EVALKIT_API_KEY"
ADDRESS = "EVALKIT_BASE_URL"
SENT, STARTED = "sent", "server"
PIXEL_LIMITS = (SENT, STARTED)

CONCURRENCY = 128
TIMEOUT = 600
PATIENCE = 300


@dataclass(frozen=True)
class Endpoint:
    """How a server is reached.

    Attributes:
        base_url: up to and with ``/v1``; no credentials in it, no slash at its end.
        concurrency: the most requests under way at a time.
        timeout: seconds that one request may take.
        patience: seconds for which a server that answers nothing is waited for; None for 300 in the midst of a run, and
            not at all before it.
        processor: a folder with the files of the served checkpoint's processor, where that is not found otherwise.
        pixel_limits: ``sent`` with each request, or the ``server`` was started with them.
    """

    base_url: str
    concurrency: int = CONCURRENCY
    timeout: float = TIMEOUT
    patience: float | None = None
    processor: str | None = None
    pixel_limits: str = SENT


@dataclass(frozen=True)
class Served:
    """A model as a server offers it.

    Attributes:
        says: what the server's list of models says of it, times and permissions left out.
        software: the server's name and version, as far as it tells.
        folder: where the checkpoint's files lie on this machine; None where that is not known.
        same_machine: the server runs here, so what lies in ``folder`` is what it has loaded.
        family: the family that it is asked as.
    """

    endpoint: Endpoint
    says: Mapping[str, Any] = field(default_factory=dict)
    software: str = "a server"
    folder: str | None = None
    same_machine: bool = False
    family: str = "generic"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "base_url": self.endpoint.base_url,
            "software": self.software,
            "says": dict(self.says),
            "folder": self.folder,
        }


def checked_address(address: str, option: str) -> str:
    """``http://host:8000/v1``, as it is used.

    Raises:
        UserError: it is no such address, or holds what must not stand in records: a user, a password, a query.
    """
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if "@" in address or (host and (parts.username or parts.password)):
        raise UserError(f"{option}: an address holds no user and no password; the key comes from ${KEY}.")
    if parts.query or parts.fragment or "?" in address:
        raise UserError(f"{option}: an address holds nothing after a '?'; the key comes from ${KEY}.")
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{option} {address}: give an address such as http://localhost:8000/v1.")
    return address.strip().rstrip("/")


def key_of_environment() -> str | None:
    """The server's key.  Raises ``UserError``, which does not show it, where it cannot be one."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"${KEY} holds no key: it has characters in it that no key has.")
    return key or None
