"""A run's settings: from the command line, else ``evalkit.toml`` or ``pyproject.toml``, else the defaults.

A project's file can come with somebody else's repository, so what could do harm (a server's address, remote code,
pickled weights) is never taken from it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evalkit.decoding import changes, unescaped
from evalkit.endpoint import (
    BASE_URL_VARIABLE,
    CONCURRENCY,
    PIXEL_LIMITS,
    PIXEL_LIMITS_SENT,
    TIMEOUT,
    Endpoint,
    check_base_url,
)
from evalkit.errors import UserError
from evalkit.types import Batching, Cluster

PROTOCOLS = ("official", "lmms-eval", "vlmevalkit")
CHOICES = ("generate", "loglikelihood")
EXECUTORS = ("local", "ray")
SELECTIONS = ("random", "fixed", "similar")
AUTO = "auto"
NEVER_FROM_FILES = ("base_url", "server", "trust_remote_code", "allow_pickled_weights", "api_key", "address")


@dataclass(frozen=True)
class RunSettings:
    """Everything ``evalkit run`` can be told.

    ``None`` means the default in ``data``, everything in ``limit``, the protocol's way in ``choice``, and what suits
    the device in ``batch_size`` (where it is called ``auto``) and ``max_batch_tokens``.
    """

    tasks: tuple[str, ...] = ()
    model: tuple[str, ...] = ("tiny",)
    split: tuple[str, ...] = ()
    data: str | None = None
    limit: int | None = None
    batch_size: int | None = None
    max_batch_tokens: int | None = None
    exact: bool = False
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "hf"
    out: str = "runs"
    name: str | None = None
    seed: int = 0
    kind: str | None = None
    allow_missing: bool = False
    max_errors: int = 100
    fresh: bool = False
    trust_remote_code: bool = False
    allow_pickled_weights: bool = False
    family: str | None = None
    protocol: str = "official"
    choice: str | None = None
    shots: tuple[str, ...] = ("0",)
    shots_by: str = "random"
    shots_from: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    adapter: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    num_beams: int = 1
    stop: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    base_url: str | None = None
    concurrency: int = CONCURRENCY
    timeout: int = TIMEOUT
    patience: int | None = None
    processor: str | None = None
    pixel_limits: str = PIXEL_LIMITS_SENT

    @property
    def endpoint(self) -> Endpoint | None:
        """The server that is asked, where one is named."""
        if self.base_url is None:
            return None
        return Endpoint(
            self.base_url, self.concurrency, self.timeout, self.patience, self.processor, self.pixel_limits
        )  # fmt: skip

    executor: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None

    @property
    def batching(self) -> Batching:
        """How requests are put together."""
        return Batching(self.batch_size, self.max_batch_tokens, self.exact)

    @property
    def cluster(self) -> Cluster | None:
        """Where Ray finds workers, where it is to."""
        if self.executor != "ray":
            return None
        return Cluster(self.address, self.workers, self.gpus_per_worker)

    @property
    def decoding(self) -> dict[str, Any]:
        """What of the protocols' decoding is changed.  Raises ``UserError`` for what is impossible."""
        return changes(
            temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, num_beams=self.num_beams,
            stop=self.stop, max_new_tokens=self.max_new_tokens, seed=self.seed, options=True,
        )  # fmt: skip


LISTS = ("tasks", "model", "split", "shots")
# Texts in which a comma is a comma.
TEXTS = ("stop",)
_INTEGERS = (
    "limit", "workers", "max_batch_tokens", "seed", "max_errors", "min_pixels", "max_pixels", "top_k", "num_beams",
    "max_new_tokens", "concurrency", "timeout", "patience",
)  # fmt: skip
_NUMBERS = ("gpus_per_worker", "temperature", "top_p")
_YES_OR_NO = ("allow_missing", "exact", "fresh")


@dataclass(frozen=True)
class Effective:
    """Settings with where each came from (``command line``, a file's name, ``environment`` or ``default``)."""

    settings: RunSettings
    sources: Mapping[str, str]


def split_list(values: Sequence[str] | str | None) -> tuple[str, ...]:
    """Every list takes commas and repetition: ``["a,b", "c"]`` → ``("a", "b", "c")``, repeated names once."""
    if values is None:
        return ()
    pieces = [values] if isinstance(values, str) else values
    return tuple(dict.fromkeys(p.strip() for v in pieces for p in v.split(",") if p.strip()))


def find_file(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest ``evalkit.toml``, or ``pyproject.toml`` with a ``[tool.evalkit]``, in ``start`` or above it."""
    for folder in (start, *start.parents):
        for name in ("evalkit.toml", "pyproject.toml"):
            path = folder / name
            if not path.is_file():
                continue
            try:
                content = tomllib.loads(path.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                if name == "pyproject.toml":
                    continue  # somebody else's problem, unless it is about evalkit, which cannot be told
                raise UserError(f"{path} is not valid TOML: {error}.") from error
            table = content if name == "evalkit.toml" else content.get("tool", {}).get("evalkit")
            if table is not None:
                return path, table
    return None


def _checked(key: str, value: Any, path: Path) -> Any:
    if key in NEVER_FROM_FILES:
        raise UserError(f"{path}: {key} is never taken from a file; give it on the command line.")
    if key not in {f.name for f in fields(RunSettings)}:
        known = ", ".join(f.name for f in fields(RunSettings))
        raise UserError(f"{path}: there is no setting {key!r}; there are {known}.")
    if key == "shots" and isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    if key in LISTS or key in TEXTS:
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            return split_list(value) if key in LISTS else (value,) if isinstance(value, str) else tuple(value)
        raise UserError(f"{path}: {key} must be a string or a list of strings.")
    if key == "batch_size":
        return _batch_size(value, f"{path}: batch_size =")
    if key in _YES_OR_NO:
        if isinstance(value, bool):
            return value
        raise UserError(f"{path}: {key} must be true or false, not {value!r}.")
    if key in _NUMBERS:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise UserError(f"{path}: {key} must be a number, not {value!r}.")
    wanted = int if key in _INTEGERS else str
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise UserError(f"{path}: {key} must be {'an integer' if wanted is int else 'a string'}, not {value!r}.")
    return value


def _batch_size(value: Any, named: str) -> int | None:
    """A number of samples; None for ``auto``.  ``named`` is what the setting is called where it stands."""
    if value == AUTO:
        return None
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{named} {value}: give {AUTO}, or a number of samples, 1 or more.")
    return value


def batching(size: int | None, tokens: int | None, exact: bool) -> Batching:
    """How requests are put together, as ``evalkit.evaluate`` is told.

    Raises:
        UserError: numbers below 1, or a size together with ``exact``.
    """
    for name, value, what in (("batch_size", size, "samples"), ("max_batch_tokens", tokens, "tokens")):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"{name}={value!r}: give a number of {what}, 1 or more, or None for what suits the device.")
    if exact and (size not in (None, 1) or tokens is not None):
        name, value = ("batch_size", size) if size not in (None, 1) else ("max_batch_tokens", tokens)
        raise UserError(f"exact=True answers one sample at a time: leave {name}={value} out.")
    return Batching(size, tokens, exact)


def effective(given: Mapping[str, Any], start: Path) -> Effective:
    """Join the layers; ``given`` holds what the command line named (``None`` or an empty list: not named).

    Raises:
        UserError: an unknown, misplaced or impossible setting.
    """
    values: dict[str, Any] = {}
    sources = {f.name: "default" for f in fields(RunSettings)}
    found = find_file(start)
    if found is not None:
        path, table = found
        for key, value in table.items():
            key = key.replace("-", "_")
            values[key] = _checked(key, value, path)
            sources[key] = path.name
    for key, value in given.items():
        value = split_list(value) if key in LISTS else unescaped(value or ()) if key in TEXTS else value
        if value is not None and value != ():
            values[key] = _batch_size(value, "--batch-size") if key == "batch_size" else value
            sources[key] = "command line"
    if values.get("base_url") is not None:
        values["base_url"] = check_base_url(values["base_url"], "--base-url")
    elif os.environ.get(BASE_URL_VARIABLE) and values.get("backend", RunSettings.backend) != RunSettings.backend:
        values["base_url"] = check_base_url(os.environ[BASE_URL_VARIABLE], f"${BASE_URL_VARIABLE}")
        sources["base_url"] = f"environment ({BASE_URL_VARIABLE})"
    settings = RunSettings(**values)
    _check(settings)
    return Effective(settings, sources)


def _check(s: RunSettings) -> None:
    if s.limit is not None and s.limit < 1:
        raise UserError(f"--limit {s.limit}: give at least 1, or leave it out for the whole split.")
    if s.max_batch_tokens is not None and s.max_batch_tokens < 1:
        raise UserError(f"--max-batch-tokens {s.max_batch_tokens}: give at least 1.")
    if s.exact and s.batch_size not in (None, 1):
        raise UserError(f"--exact answers one sample at a time: leave --batch-size {s.batch_size} out.")
    if s.exact and s.max_batch_tokens is not None:
        raise UserError(f"--exact answers one sample at a time: leave --max-batch-tokens {s.max_batch_tokens} out.")
    _ = s.decoding
    for shots in s.shots:
        if not (shots.isascii() and shots.isdigit()):
            raise UserError(f"--shots {shots}: give a number of exemplars, 0 or more.")
    for name, pixels in (("--min-pixels", s.min_pixels), ("--max-pixels", s.max_pixels)):
        if pixels is not None and pixels < 1:
            raise UserError(f"{name} {pixels}: give at least 1.")
    if s.min_pixels is not None and s.max_pixels is not None and s.min_pixels > s.max_pixels:
        raise UserError(f"--min-pixels {s.min_pixels} is more than --max-pixels {s.max_pixels}.")
    for name, value, known in (
        ("--protocol", s.protocol, PROTOCOLS),
        ("--choice", s.choice or CHOICES[0], CHOICES),
        ("--shots-by", s.shots_by, SELECTIONS),
        ("--executor", s.executor, EXECUTORS),
        ("--pixel-limits", s.pixel_limits, PIXEL_LIMITS),
    ):
        if value not in known:
            raise UserError(f"{name} {value}: unknown; use {' or '.join((', '.join(known[:-1]), known[-1]))}.")
    if s.name is not None and len(s.shots) > 1:
        raise UserError(f"--name {s.name}: {len(s.shots)} numbers of shots make as many runs; leave --name out.")
    for name, number, least in (
        ("--concurrency", s.concurrency, 1), ("--timeout", s.timeout, 1), ("--patience", s.patience, 0),
    ):  # fmt: skip
        if number is not None and number < least:
            raise UserError(f"{name} {number}: give {least} or more.")
    if s.base_url is not None and s.backend == RunSettings.backend:
        raise UserError(f"--base-url: the backend {s.backend} runs in this process; give --backend server too.")
    _check_workers(s)
    if s.max_errors < 0:
        raise UserError(f"--max-errors {s.max_errors}: give 0 or more.")
    if s.name is not None and len(s.model) > 1:
        raise UserError(
            f"--name {s.name}: {len(s.model)} models make {len(s.model)} runs; leave --name out, or give one model."
        )
    if s.name is not None and (not s.name.strip(". ") or "/" in s.name or os.sep in s.name):
        raise UserError(f"--name {s.name!r}: give a plain folder name; --out says where it goes.")


def _check_workers(s: RunSettings) -> None:
    given = {"--address": s.address, "--workers": s.workers, "--gpus-per-worker": s.gpus_per_worker}
    for name, value in given.items():
        if value is not None and s.executor != "ray":
            raise UserError(
                f"{name} {value}: it is about the workers of --executor ray; the devices of this machine are named by "
                "--device, as in cuda:0,cuda:1."
            )
    if s.workers is not None and s.workers < 1:
        raise UserError(f"--workers {s.workers}: give at least 1.")
    each = s.gpus_per_worker
    if each is not None and not (each >= 0 and (each <= 1 or each == int(each))):
        raise UserError(f"--gpus-per-worker {each:g}: give a whole number, or a share of one GPU such as 0.5.")
    if s.executor == "ray" and s.device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"--device {s.device}: under --executor ray, Ray gives each worker its GPUs; leave --device out "
            "(--gpus-per-worker says how many)."
        )
    if s.executor == "ray" and s.device == "cpu" and each:
        raise UserError(f"--device cpu: --gpus-per-worker {each:g} asks for GPUs; leave one of them out.")


def default_data(bundled_model: bool) -> tuple[str, str]:
    """What ``--data`` is when nobody says: (value, source)."""
    if bundled_model:
        return "tiny", "default for a bundled model"
    if os.environ.get("EVALKIT_DATA"):
        return os.environ["EVALKIT_DATA"], "environment (EVALKIT_DATA)"
    return "hub", "default"
