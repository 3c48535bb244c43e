"""Model discovery, from a server's list of models (``GET /models``)."""

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
from evalkit.paths import user_path

from .errors import SERVER_ERRORS, BadRequest, FatalError, RateLimited, RequestFailed, ServerUnavailable
from .http import Connection, on_this_machine
from .model_list import ListedModel, parse_list
from .prompt_end import prompt_end, root_url, switches

log = logging.getLogger(__name__)

KNOWN_SOFTWARE = {"vllm": ("vLLM", "/version"), "sglang": ("SGLang", "/server_info")}
"""Servers with a complete list of models, by ``owned_by``: name, and the path of their version."""
MAX_NAMES = 8
POLL_SECONDS = 2.0


def discover(model: str | None, endpoint: Endpoint) -> Checkpoint:
    """The model that the server offers as ``model``; if that is None, its only model.

    With ``--patience``, waits for a server that is still starting.  If the model is named, the list of models is not
    needed: without one, the first request shows whether the server has the model.

    Raises:
        UserError: no server answers, it rejects the key, or it does not serve the model.
    """
    key = api_key(endpoint)
    endpoint, listed = _listed(endpoint, key, required=model is None)
    entry, location = _entry(model, listed, endpoint)
    lineage = _lineage(entry, listed or ())
    here = on_this_machine(endpoint.base_url)
    reported = [path for path in (entry.folder, *lineage) if path is not None] if here else []
    given = [] if model is None else [str(user_path(model, "--model"))]
    folder = next((path for path in (*reported, *given) if _has_config(Path(path))), None)
    served = ServedModel(
        endpoint,
        entry.recorded,
        software(entry.owner, endpoint, key),
        folder,
        same_machine=here and folder is not None and folder == entry.folder,
        lineage=lineage,
        prompt_end=prompt_end(Connection(endpoint, key), entry.owner, endpoint.processor or folder),
        switches=switches(endpoint.processor or folder),
    )
    name = PurePath(location).name if PurePath(location).is_absolute() else location
    return Checkpoint(name or location, location, _config(folder), served=served)


def _lineage(entry: ListedModel, listed: Sequence[ListedModel]) -> tuple[str, ...]:
    """What a model is: the checkpoint it was loaded from, then its parent's, and so on."""
    by_id = {one.id: one for one in listed}
    found: list[str] = []
    seen: set[str] = set()
    following: ListedModel | None = entry
    while following is not None and following.id and following.id not in seen:
        seen.add(following.id)
        if following.root:
            found.append(following.root)
        if following.parent and following.parent not in by_id:
            found.append(following.parent)
        following = by_id.get(following.parent)
    return tuple(dict.fromkeys(found))


def _listed(
    endpoint: Endpoint, key: str | None, *, required: bool
) -> tuple[Endpoint, list[ListedModel] | None]:  # fmt: skip
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
                models, odd = parse_list(Connection(candidate, key).get(f"{candidate.base_url}/models"))
                if odd and required:
                    raise UserError(
                        f"--base-url {candidate.base_url}: it lists a model whose name is unusable ({odd[0]}); "
                        "name one with --model."
                    )
                return candidate, models
            except (ServerUnavailable, RateLimited) as error:
                trouble: Exception = error
                break
            except (FatalError, BadRequest) as error:
                trouble = error
                not_found = isinstance(error, FatalError) and error.status in (404, 405)
                missing += not_found
                if not not_found:
                    candidates = [candidate]
                    break
            except RequestFailed as error:
                trouble = error
        if missing == len(candidates) == 1 and endpoint.base_url.endswith("/v1"):
            return endpoint, None  # this server does not list its models
        if not required and not _redirected(trouble) and not isinstance(trouble, ServerUnavailable):
            log.warning(
                "%s: no list of models (%s); the first request will show whether the server has the model",
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
    model: str | None, listed: Sequence[ListedModel] | None, endpoint: Endpoint
) -> tuple[ListedModel, str]:  # fmt: skip
    """A model's entry in the list, and its name on the server."""
    if not listed:
        if model is None:
            raise UserError(f"--base-url {endpoint.base_url}: it does not list its models; name one with --model.")
        return ListedModel(), model
    ids = [one.id for one in listed]
    names = ", ".join(ids[:MAX_NAMES]) + (f", … ({len(ids)} in all)" if len(ids) > MAX_NAMES else "")
    if model is None:
        if len(ids) > 1:
            raise UserError(f"--base-url {endpoint.base_url}: it serves {names}; name one with --model.")
        return listed[0], ids[0]
    folder = user_path(model, "--model")
    for one in listed:
        if one.id == model:
            return one, model
    if folder.is_dir():  # the checkpoint's folder, whatever its name on the server
        for one in listed:
            if one.id == folder.resolve().name or one.root in (model, str(folder.resolve())):
                return one, one.id
    if any(one.owner in KNOWN_SOFTWARE for one in listed):
        raise UserError(f"--model {model}: the server at {endpoint.base_url} does not serve it; it serves {names}.")
    return ListedModel(), model  # other servers' lists omit aliases and models that are loaded on demand


def _has_config(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # no file can have this name
        return False


def _config(folder: str | None) -> Mapping[str, Any]:
    if folder is None:
        return {}
    try:
        content = read_json(Path(folder) / "config.json", constants=True)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def software(owner: str, endpoint: Endpoint, key: str | None) -> str:
    """The server's name and version, as far as it reports them: ``vLLM 0.32.0``.

    Args:
        owner: ``owned_by`` in its list of models.
    """
    if owner not in KNOWN_SOFTWARE:
        return f"a server ({owner})" if owner else "a server"
    name, where = KNOWN_SOFTWARE[owner]
    connection = Connection(endpoint, key)
    try:
        reply = connection.get(f"{root_url(connection)}{where}")
    except SERVER_ERRORS:
        return name
    version = reply.get("version") if isinstance(reply, dict) else None
    return f"{name} {version[:40]}" if isinstance(version, str) and version.isprintable() else name
