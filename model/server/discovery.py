"""Finding out what a server serves, before anything is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint, Served, key_of_environment
from evalkit.errors import UserError

from .http import Away, Broken, Busy, Connection, Fatal, Refused, on_this_machine

CHANGING = ("created", "permission", "object")
"""What a list of models says otherwise each time."""
EXACT = {"vllm": ("vLLM", "/version"), "sglang": ("SGLang", "/server_info")}
"""Servers whose list of models is all they have, by ``owned_by``: their names, and where they tell their version."""
SHOWN = 8
LOOK_EVERY = 2.0


def reach(model: str | None, endpoint: Endpoint) -> Checkpoint:
    """What the server offers under the name ``model``; without a name, the only model that it has.

    Where ``--patience`` is given, a server that is still starting is waited for.

    Raises:
        UserError: nothing answers there, it does not take the key, or has no such model.
    """
    key = key_of_environment()
    endpoint, listed = _listed(endpoint, key)
    entry, location = _entry(model, listed, endpoint)
    # What it has loaded: vLLM and SGLang say it, others call a model by its folder.
    root = entry.get("root") or (location if PurePath(location).is_absolute() else None)
    root = root if isinstance(root, str) else None
    here = on_this_machine(endpoint.base_url)
    folder = next((str(p) for p in map(Path, _paths(root if here else None, model)) if _has_config(p)), None)
    served = Served(
        endpoint,
        {name: value for name, value in entry.items() if name not in CHANGING and isinstance(value, str | int | float)},
        _software(entry, endpoint, key),
        folder,
        same_machine=here and folder is not None and folder == root,
    )
    name = PurePath(location).name if PurePath(location).is_absolute() else location
    return Checkpoint(name, location, _config(folder), served=served)


def _listed(endpoint: Endpoint, key: str | None) -> tuple[Endpoint, list[dict[str, Any]] | None]:
    """The server's list of models (None where it has none), and its address, with the ``/v1`` that was left out."""
    until = time.monotonic() + (endpoint.patience or 0)
    candidates = [endpoint]
    if urlsplit(endpoint.base_url).path in ("", "/"):
        candidates.append(replace(endpoint, base_url=f"{endpoint.base_url}/v1"))
    while True:
        absent = 0
        for candidate in candidates:
            try:
                content = Connection(candidate, key).get(f"{candidate.base_url}/models")
                models = content["data"] if isinstance(content, dict) else content
                return candidate, [one for one in models if isinstance(one, dict) and isinstance(one.get("id"), str)]
            except (Away, Busy) as error:
                trouble: Exception = error
                break
            except (Fatal, Refused) as error:
                trouble = error
                absent += str(error).startswith(("404", "405"))
                if not absent:
                    break
            except (Broken, KeyError, TypeError) as error:
                trouble = error
        if absent == len(candidates) and candidates[-1].base_url.endswith("/v1") and len(candidates) == 1:
            return endpoint, None  # a server without such a list
        if not isinstance(trouble, Away | Busy) or time.monotonic() >= until:
            raise UserError(_nothing(endpoint, trouble)) from None
        time.sleep(LOOK_EVERY)


def _nothing(endpoint: Endpoint, trouble: Exception) -> str:
    if isinstance(trouble, Away):
        return (
            f"--base-url {endpoint.base_url}: no server answers there ({trouble}); start it, check the address, or "
            "give --patience SECONDS to wait for one that is starting."
        )
    if isinstance(trouble, Fatal) and not str(trouble).startswith("404"):
        return f"--base-url {endpoint.base_url}: {trouble}."
    return (
        f"--base-url {endpoint.base_url}: there is no list of models ({trouble}), so it is no OpenAI-compatible "
        "server; the address usually ends in /v1."
    )


def _entry(
    model: str | None, listed: Sequence[Mapping[str, Any]] | None, endpoint: Endpoint
) -> tuple[Mapping[str, Any], str]:
    """What the list says of a model, and what the server calls it."""
    if not listed:
        if model is None:
            raise UserError(f"--base-url {endpoint.base_url}: it does not list its models; name one with --model.")
        return {}, model
    ids = [str(one["id"]) for one in listed]
    names = ", ".join(ids[:SHOWN]) + (f", … ({len(ids)} in all)" if len(ids) > SHOWN else "")
    if model is None:
        if len(ids) > 1:
            raise UserError(f"--base-url {endpoint.base_url}: it serves {names}; name one with --model.")
        return listed[0], ids[0]
    folder = Path(model).expanduser()
    for one, name in zip(listed, ids, strict=True):
        if name == model:
            return one, name
    if folder.is_dir():  # the checkpoint's folder, whatever the server calls it
        for one, name in zip(listed, ids, strict=True):
            if name == folder.resolve().name or one.get("root") in (model, str(folder.resolve())):
                return one, name
    if any(one.get("owned_by") in EXACT for one in listed):
        raise UserError(f"--model {model}: the server at {endpoint.base_url} does not serve it; it serves {names}.")
    return {}, model  # lists elsewhere leave out aliases, and what is loaded on demand


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
        content = json.loads((Path(folder) / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _software(entry: Mapping[str, Any], endpoint: Endpoint, key: str | None) -> str:
    """``vLLM 0.32.0``, as far as it tells."""
    owner = str(entry.get("owned_by") or "")[:40]
    if owner not in EXACT:
        return f"a server ({owner})" if owner else "a server"
    name, where = EXACT[owner]
    parts = urlsplit(endpoint.base_url)
    root = urlunsplit(parts._replace(path=parts.path.removesuffix("/v1")))
    try:
        version = Connection(endpoint, key).get(f"{root}{where}")["version"]
    except (Refused, Fatal, Busy, Away, Broken, KeyError, TypeError):
        return name
    return f"{name} {str(version)[:40]}"
