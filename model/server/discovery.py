"""Model discovery: what a server serves, from its list of models (``GET /models``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint, ServedModel, api_key
from evalkit.errors import UserError
from evalkit.jsonl import read_json

from .http import (
    BadRequest,
    Connection,
    FatalError,
    RateLimited,
    RequestFailed,
    ServerUnavailable,
    on_this_machine,
)
from .prompt_end import prompt_end, root_url

log = logging.getLogger(__name__)

VOLATILE_FIELDS = ("created", "permission", "object")
"""Fields of a model's entry that may change with each request."""
KNOWN_SOFTWARE = {"vllm": ("vLLM", "/version"), "sglang": ("SGLang", "/server_info")}
"""Servers with a complete list of models, by ``owned_by``: name, and the path of their version."""
MAX_NAMES = 8
POLL_SECONDS = 2.0


def discover(model: str | None, endpoint: Endpoint) -> Checkpoint:
    """The model that the server offers as ``model``; if that is None, its only model.

    With ``--patience``, waits for a server that is still starting.  If the model is named, the list of models is not
    needed: without one, the first request tells whether the model is there.

    Raises:
        UserError: no server answers, it rejects the key, or it does not serve the model.
    """
    key = api_key()
    endpoint, listed = _listed(endpoint, key, required=model is None)
    entry, location = _entry(model, listed, endpoint)
    # The loaded checkpoint: vLLM and SGLang report it; others use its folder as the model's name.
    root = entry.get("root") or (location if PurePath(location).is_absolute() else None)
    root = root if isinstance(root, str) else None
    lineage = _lineage(entry, listed or ())
    here = on_this_machine(endpoint.base_url)
    known = _paths(*((root, *lineage) if here else ()), model)
    folder = next((str(p) for p in map(Path, known) if _has_config(p)), None)
    owner = str(entry.get("owned_by") or "")
    served = ServedModel(
        endpoint,
        {k: v for k, v in entry.items() if k not in VOLATILE_FIELDS and isinstance(v, str | int | float)},
        _software(entry, endpoint, key),
        folder,
        same_machine=here and folder is not None and folder == root,
        lineage=lineage,
        prompt_end=prompt_end(Connection(endpoint, key), owner, endpoint.processor or folder),
    )
    name = PurePath(location).name if PurePath(location).is_absolute() else location
    return Checkpoint(name, location, _config(folder), served=served)


def _lineage(entry: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What a model is: the checkpoint it was loaded from, then its parent's, and so on."""
    by_id = {str(one["id"]): one for one in listed}
    found: list[str] = []
    seen: set[str] = set()
    while entry and str(entry.get("id")) not in seen:
        seen.add(str(entry.get("id")))
        parent = entry.get("parent")
        found += [name for name in (entry.get("root"),) if isinstance(name, str) and name]
        if isinstance(parent, str) and parent not in by_id:
            found.append(parent)
        entry = by_id.get(str(parent), {})
    return tuple(dict.fromkeys(found))


def _listed(
    endpoint: Endpoint, key: str | None, *, required: bool
) -> tuple[Endpoint, list[dict[str, Any]] | None]:  # fmt: skip
    """The server's address, completed by ``/v1`` if needed, and its list of models (None: it has none).

    Args:
        required: whether a server that shows no list is an error.
    """
    until = time.monotonic() + (endpoint.patience or 0)
    candidates = [endpoint]
    if urlsplit(endpoint.base_url).path in ("", "/"):
        candidates.append(replace(endpoint, base_url=f"{endpoint.base_url}/v1"))
    while True:
        missing = 0
        for candidate in candidates:
            try:
                content = Connection(candidate, key).get(f"{candidate.base_url}/models")
                models = content["data"] if isinstance(content, dict) else content
                return candidate, [one for one in models if isinstance(one, dict) and isinstance(one.get("id"), str)]
            except (ServerUnavailable, RateLimited) as error:
                trouble: Exception = error
                break
            except (FatalError, BadRequest) as error:
                trouble = error
                absent = isinstance(error, FatalError) and error.status in (404, 405)
                missing += absent
                if not absent:
                    candidates = [candidate]
                    break
            except RequestFailed as error:
                trouble = error
            except (KeyError, TypeError):
                trouble = RequestFailed("the reply has no list of models")
        if missing == len(candidates) == 1 and endpoint.base_url.endswith("/v1"):
            return endpoint, None  # this server does not list its models
        if not required and not _redirected(trouble) and not isinstance(trouble, ServerUnavailable):
            log.warning(
                "%s: no list of models (%s); the first request tells whether the model is there",
                candidates[-1].base_url,
                trouble,
            )
            return candidates[-1], None
        if not isinstance(trouble, ServerUnavailable | RateLimited) or time.monotonic() >= until:
            raise UserError(_discovery_error(endpoint, trouble)) from None
        time.sleep(POLL_SECONDS)


def _redirected(trouble: Exception) -> bool:
    return isinstance(trouble, FatalError) and trouble.status is not None and 300 <= trouble.status < 400


def _discovery_error(endpoint: Endpoint, trouble: Exception) -> str:
    if isinstance(trouble, ServerUnavailable):
        return (
            f"--base-url {endpoint.base_url}: no server responds ({trouble}); start it, check the address, or give "
            "--patience SECONDS to wait for a server that is starting."
        )
    if isinstance(trouble, FatalError) and trouble.status != 404:
        return f"--base-url {endpoint.base_url}: {trouble}."
    return (
        f"--base-url {endpoint.base_url}: it has no list of models ({trouble}), so it is not an OpenAI-compatible "
        "server; the address usually ends in /v1."
    )


def _entry(
    model: str | None, listed: Sequence[Mapping[str, Any]] | None, endpoint: Endpoint
) -> tuple[Mapping[str, Any], str]:
    """A model's entry in the list, and its name on the server."""
    if not listed:
        if model is None:
            raise UserError(f"--base-url {endpoint.base_url}: it does not list its models; name one with --model.")
        return {}, model
    ids = [str(one["id"]) for one in listed]
    names = ", ".join(ids[:MAX_NAMES]) + (f", … ({len(ids)} in all)" if len(ids) > MAX_NAMES else "")
    if model is None:
        if len(ids) > 1:
            raise UserError(f"--base-url {endpoint.base_url}: it serves {names}; name one with --model.")
        return listed[0], ids[0]
    folder = Path(model).expanduser()
    for one, name in zip(listed, ids, strict=True):
        if name == model:
            return one, name
    if folder.is_dir():  # the checkpoint's folder, whatever its name on the server
        for one, name in zip(listed, ids, strict=True):
            if name == folder.resolve().name or one.get("root") in (model, str(folder.resolve())):
                return one, name
    if any(one.get("owned_by") in KNOWN_SOFTWARE for one in listed):
        raise UserError(f"--model {model}: the server at {endpoint.base_url} does not serve it; it serves {names}.")
    return {}, model  # other servers' lists omit aliases and models that are loaded on demand


def _paths(*given: str | None) -> list[str]:
    return [str(Path(path).expanduser()) for path in given if path is not None]


def _has_config(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:
        return False


def _config(folder: str | None) -> Mapping[str, Any]:
    if folder is None:
        return {}
    try:
        content = read_json(Path(folder) / "config.json", constants=True)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _software(entry: Mapping[str, Any], endpoint: Endpoint, key: str | None) -> str:
    """The server's name and version, as far as it reports them: ``vLLM 0.32.0``."""
    owner = str(entry.get("owned_by") or "")[:40]
    if owner not in KNOWN_SOFTWARE:
        return f"a server ({owner})" if owner else "a server"
    name, where = KNOWN_SOFTWARE[owner]
    connection = Connection(endpoint, key)
    try:
        version = connection.get(f"{root_url(connection)}{where}")["version"]
    except (BadRequest, FatalError, RateLimited, ServerUnavailable, RequestFailed, KeyError, TypeError):
        return name
    return f"{name} {str(version)[:40]}"
