"""Where a run's settings come from: the command line, else ``evalkit.toml`` or ``pyproject.toml``, else the defaults.

A project's file can come with somebody else's repository, so anything harmful (a server's address, remote code,
pickled weights) is never taken from it; see ``NEVER_FROM_FILES``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.decoding import check_repeats, settings_overrides, unescape
from evalkit.endpoint import check_base_url
from evalkit.engines import ENGINES, check_engine
from evalkit.errors import UserError
from evalkit.option import Option, count_or_share
from evalkit.options import AUTO, NEVER_FROM_FILES, OPTIONS, RunSettings
from evalkit.paths import user_path
from evalkit.ranges import share_of

if TYPE_CHECKING:
    from evalkit.types import Batching

PATHS = (
    "tasks", "model", "data", "subset", "out", "name", "adapter", "processor", "shots_from", "chat_template", "judge",
    "ids",
)  # fmt: skip
"""The settings that are, or may be, names of files or folders."""
DATA, BASE_URL = OPTIONS["data"], OPTIONS["base_url"]


@dataclass(frozen=True)
class Effective:
    """Settings with the source of each: ``command line``, a file's name, ``environment (NAME)`` or ``default``."""

    settings: RunSettings
    sources: Mapping[str, str]


def split_list(values: Sequence[str] | str | None) -> tuple[str, ...]:
    """Split at commas and drop duplicates: ``["a,b", "c"]`` → ``("a", "b", "c")``.

    The comma in the name of an existing file or folder does not split it.
    """
    return tuple(dict.fromkeys(split_paths(values)))


def split_paths(values: Sequence[str] | str | None) -> tuple[str, ...]:
    """As ``split_list``, with duplicates."""
    if values is None:
        return ()
    return tuple(piece for value in ([values] if isinstance(values, str) else values) for piece in _split(value))


def _split(value: str) -> Iterator[str]:
    """The pieces between commas, joined again where that names a file or folder."""
    pieces = value.split(",")
    at = 0
    while at < len(pieces):
        end = next((end for end in range(len(pieces), at + 1, -1) if _exists(",".join(pieces[at:end]))), at + 1)
        if piece := ",".join(pieces[at:end]).strip():
            yield piece
        at = end


def _exists(name: str) -> bool:
    try:
        return Path(name.strip()).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, or an unknown user's home
        return False


def find_file(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest ``evalkit.toml``, or ``pyproject.toml`` with a ``[tool.evalkit]``, in ``start`` or above it.

    Raises:
        UserError: it cannot be read, or is no valid TOML.
    """
    for folder in (start, *start.parents):
        for name in ("evalkit.toml", "pyproject.toml"):
            path = folder / name
            if path.is_file() and (table := _settings_in(path)) is not None:
                return path, table
    return None


def _settings_in(path: Path) -> dict[str, Any] | None:
    """The settings in a file; None if a ``pyproject.toml`` has none."""
    own, raw = path.name == "evalkit.toml", b""
    try:
        raw = path.read_bytes()
        content = tomllib.loads(raw.decode())
    except (ValueError, RecursionError, OSError) as error:  # a number of thousands of digits, deep nesting
        if not own and b"tool.evalkit" not in raw:
            return None  # it may have nothing to do with evalkit
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path} is not valid TOML: {reason}.") from error
    if own:
        return content
    tools = content.get("tool")
    table = tools.get("evalkit") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UserError(f"{path}: tool.evalkit is {table!r}; expected a table of settings, [tool.evalkit].")
    return table


def effective(given: Mapping[str, Any], start: Path) -> Effective:
    """Combine command line, settings file, environment and defaults, and check the result.

    Args:
        given: the command line's values by name; None or empty: not given.
        start: folder from which on a settings file is looked for, upwards.

    Raises:
        UserError: an unknown, forbidden or impossible setting.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(OPTIONS, "default")
    found = find_file(start)
    if found is not None:
        path, table = found
        for key, value in table.items():
            option = _file_option(key.replace("-", "_"), path)
            values[option.name] = _file_value(option, value, path)
            sources[option.name] = path.name
    for key, value in given.items():
        option = OPTIONS[key]
        value = _command_line_value(option, value)
        if value is not None:
            values[key] = None if option.kind == "auto" and value == AUTO else value
            sources[key] = "command line"
    if (preset := values.get("preset")) is not None:
        from evalkit.presets import find_preset  # imports the families

        for name, value in find_preset(preset, f"--preset {preset}").values.items():
            if sources[name] == "default":
                values[name], sources[name] = value, f"preset {preset}"
    address = os.environ.get(str(BASE_URL.environment))
    if values.get(BASE_URL.name) is not None:
        values[BASE_URL.name] = check_base_url(values[BASE_URL.name], BASE_URL.flag)
    elif address and values.get("backend", RunSettings.backend) != RunSettings.backend:
        values[BASE_URL.name] = check_base_url(address, f"${BASE_URL.environment}")
        sources[BASE_URL.name] = f"environment ({BASE_URL.environment})"
    if values.get("judge_base_url") is not None:
        values["judge_base_url"] = check_base_url(values["judge_base_url"], OPTIONS["judge_base_url"].flag)
    settings = RunSettings(**values)
    _check(settings)
    return Effective(settings, sources)


def default_data(bundled_model: bool) -> tuple[str, str]:
    """The default of ``--data``, as (value, source)."""
    if bundled_model:
        return "tiny", "default for a bundled model"
    if os.environ.get(str(DATA.environment)):
        return os.environ[str(DATA.environment)], f"environment ({DATA.environment})"
    return "hub", "default"


def batching(size: int | None, tokens: int | None, exact: bool) -> Batching:
    """How requests are batched, from the arguments of ``evalkit.evaluate``.

    Raises:
        UserError: numbers below 1, or a size together with ``exact``.
    """
    for name, value in (("batch_size", size), ("max_batch_tokens", tokens)):
        if advice := OPTIONS[name].advice(value):
            raise UserError(f"{name}={value!r}: {advice}, or None to adapt to the device.")
    if exact and (size not in (None, 1) or tokens is not None):
        name, value = ("batch_size", size) if size not in (None, 1) else ("max_batch_tokens", tokens)
        raise UserError(f"exact=True runs one sample at a time: drop {name}={value}.")
    from evalkit.types import Batching  # Help reads settings, but needs none of these values.

    return Batching(size, tokens, exact)


# -------------------------------------------------------------------------------------------------------------- values


def _file_option(key: str, path: Path) -> Option:
    if key in NEVER_FROM_FILES:
        raise UserError(f"{path}: {key} is never taken from a file; give it on the command line.")
    if key not in OPTIONS:
        near = get_close_matches(key, OPTIONS, n=2, cutoff=0.7)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid settings: {', '.join(OPTIONS)}."
        raise UserError(f"{path}: unknown setting {key!r}; {hint}")
    return OPTIONS[key]


def _file_value(option: Option, value: Any, path: Path) -> Any:
    """A value of a settings file in the type of its option."""
    if option.name == "shots" and isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    if option.kind in ("list", "texts"):
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            if option.kind == "list":
                return split_list(value)
            return (value,) if isinstance(value, str) else tuple(value)
        raise UserError(f"{path}: {option.name} must be a string or a list of strings.")
    if option.kind == "auto":
        return _auto_or_count(value, f"{path}: {option.name} =", option)
    if option.kind == "share" and isinstance(value, str) and share_of(value) is not None:
        return value
    if option.kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{path}: {option.name} must be a finite number.") from None
    expected, what = {
        "flag": (bool, "true or false"), "number": (float, "a number"), "integer": (int, "an integer"),
        "string": (str, "a string"), "share": (int, "an integer or a percentage such as 5%"),
    }[option.kind]  # fmt: skip
    if not isinstance(value, expected) or (isinstance(value, bool) and option.kind != "flag"):
        raise UserError(f"{path}: {option.name} must be {what}, not {value!r}.")
    return value


def _command_line_value(option: Option, value: Any) -> Any:
    """A value of the command line in the type of its option; None if it was not given."""
    if option.kind == "list":
        return split_list(value) or None
    if option.kind == "texts":
        return unescape(value or ()) or None
    if option.kind == "auto" and value is not None:
        return _auto_or_count(value, option.flag, option) or AUTO
    if option.kind == "share" and value is not None:
        return count_or_share(value, option.flag, option)
    return value


def _auto_or_count(value: Any, named: str, option: Option) -> int | None:
    """A count; None for ``auto``.  ``named`` is how messages refer to the setting."""
    if value == AUTO:
        return None
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        value = int(value)
    if advice := option.advice(value):
        raise UserError(f"{named} {value}: {advice}, or {AUTO}.")
    return value  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------------------------------------- checks


def _check(s: RunSettings) -> None:
    """Raise ``UserError`` for values out of range and for settings that exclude each other."""
    for option in OPTIONS.values():
        _check_range(option, getattr(s, option.name))
    for name in PATHS:
        value = getattr(s, name)
        for given in (value,) if isinstance(value, str) else value or ():
            user_path(given.removeprefix("hub:"), OPTIONS[name].flag)
    if s.exact and s.batch_size not in (None, 1):
        raise UserError(f"--exact runs one sample at a time: drop --batch-size {s.batch_size}.")
    if s.exact and s.max_batch_tokens is not None:
        raise UserError(f"--exact runs one sample at a time: drop --max-batch-tokens {s.max_batch_tokens}.")
    for name in ("limit", "where", "ids"):
        if s.subset is not None and getattr(s, name) is not None:
            raise UserError(f"--{name} {getattr(s, name)}: --subset {s.subset} says which samples are run; drop one.")
    settings_overrides(s)  # raises for an impossible one
    if any(value is not None for value in (s.video_sampling, s.fps, s.max_frames, s.max_video_tokens)):
        from evalkit.video.sampling import sampling_name  # help reads settings, but needs none of the rules

        sampling_name(s.video_sampling, s.fps, s.max_frames, s.max_video_tokens)
    check_repeats(s.repeats, s.temperature, options=True)
    for shots in s.shots:
        if not (shots.isascii() and shots.isdigit()):
            raise UserError(f"--shots {shots}: give a number of examples, 0 or more.")
    if s.min_pixels is not None and s.max_pixels is not None and s.min_pixels > s.max_pixels:
        raise UserError(f"--min-pixels {s.min_pixels} is more than --max-pixels {s.max_pixels}.")
    if s.base_url is not None and s.backend == RunSettings.backend:
        raise UserError(f"--base-url: the backend {s.backend} runs in this process; add --backend server.")
    _check_cluster(s)
    check_engine(s.backend, s.engine_python, s.engine_command, s.engine_arg)
    _check_name(s)


def _check_range(option: Option, value: Any) -> None:
    if advice := option.advice(value):
        raise UserError(f"{option.flag} {value}: {advice}.")
    if option.choices and value is not None and value not in option.choices:
        *most, last = option.choices
        raise UserError(f"{option.flag} {value}: unknown; use {', '.join(most)} or {last}.")


def _check_name(s: RunSettings) -> None:
    if s.name is None:
        return
    if len(s.shots) > 1:
        raise UserError(f"--name {s.name}: {len(s.shots)} numbers of shots make {len(s.shots)} runs; drop --name.")
    if len(s.model) > 1:
        raise UserError(f"--name {s.name}: {len(s.model)} models make {len(s.model)} runs; drop --name.")
    if not s.name.strip(". ") or "/" in s.name or os.sep in s.name:
        raise UserError(f"--name {s.name!r}: give a plain folder name; --out is the folder above it.")


def _check_cluster(s: RunSettings) -> None:
    for name in ("address", "workers", "gpus_per_worker"):
        value = getattr(s, name)
        per_server = name == "gpus_per_worker" and s.backend in ENGINES
        if value is not None and s.executor != "ray" and not per_server:
            raise UserError(
                f"{OPTIONS[name].flag} {value}: only for --executor ray; choose this machine's devices with --device, "
                "such as cuda:0,cuda:1."
            )
    each = s.gpus_per_worker
    if each is not None and each > 1 and each != int(each):
        raise UserError(f"--gpus-per-worker {each:g}: give a whole number, or a fraction of one GPU such as 0.5.")
    if s.executor == "ray" and s.device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"--device {s.device}: with --executor ray, Ray assigns the GPUs; drop --device "
            "(--gpus-per-worker sets how many)."
        )
    if s.executor == "ray" and s.device == "cpu" and each:
        raise UserError(f"--device cpu: --gpus-per-worker {each:g} asks for GPUs; drop one of the two.")
