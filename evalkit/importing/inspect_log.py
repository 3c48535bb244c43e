"""Logs of Inspect (``inspect_ai``), version 2 of their format: one ``.json`` file, or a ``.eval`` archive.

An archive is a zip file with ``header.json`` and ``samples/ID_epoch_N.json``, in recent versions compressed with
Zstandard, which Python's ``zipfile`` reads from 3.14 on (``inspect_ai/log/_recorders/eval.py``).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.archives import CORRUPT
from evalkit.errors import UserError
from evalkit.installation import install_command

from .files import LARGEST_LINE, content_of, json_value
from .foreign import ForeignAnswer, ForeignResults, as_score, as_text, id_fields
from .messages import answer_of, error_of, question_of

INSPECT = "Inspect"
FORMAT = 2
ZSTANDARD = 93
"""The method's number in the zip format."""
HEADER = "header.json"
ATTACHMENT = "attachment://"
"""How a long text begins that is kept elsewhere in its sample."""
MOST_SAMPLES = 1_000_000
_LOCAL_HEADER = 30
_NAME = re.compile(r"[\dT:.+\-]{19,}Z?_(?P<task>.+)_[A-Za-z0-9]{22}")


def is_log(content: Any) -> bool:
    """Whether an object is a log, or the header of one, in any version of the format."""
    return isinstance(content, Mapping) and {"version", "status", "eval"} <= content.keys()


def task_of(path: Path) -> str:
    """The task's name, from the file's."""
    found = _NAME.fullmatch(path.stem)
    return found["task"].replace("-", "_") if found else path.stem


def read_log(path: Path, *, metric: str | None = None) -> ForeignResults:
    """The results in a log.

    Args:
        metric: the scorer whose scores are compared; None for the first.

    Raises:
        UserError: the file is damaged, or has another version of the format.
    """
    content = content_of(path)
    samples: Iterable[tuple[str, Any]]
    if content.startswith(b"PK"):
        log, samples = _open_archive(content, path)
    else:
        log = json_value(content, str(path))
        samples = _listed(log, path)
    del content
    if not is_log(log):
        raise UserError(f"{path} is no log of Inspect: it has no version, status and eval.")
    if log["version"] != FORMAT:
        raise UserError(
            f"{path} is a log of Inspect in version {str(log['version'])[:40]} of the format; version {FORMAT} is "
            "supported."
        )
    run = log["eval"] if isinstance(log["eval"], Mapping) else {}
    packages = run.get("packages")
    dataset = run.get("dataset")
    order = dataset.get("sample_ids") if isinstance(dataset, Mapping) else None
    positions = {str(one): place for place, one in enumerate(order)} if isinstance(order, list) else {}
    answers: list[ForeignAnswer] = []
    scorers: dict[str, None] = {}
    chosen = metric
    for place, sample in samples:
        if not isinstance(sample, Mapping) or "id" not in sample or "output" not in sample:
            raise UserError(f"{path}, {place}: it is no sample of Inspect.")
        scores = sample.get("scores")
        scores = scores if isinstance(scores, Mapping) else {}
        scorers |= dict.fromkeys(map(str, scores))
        chosen = chosen or next(iter(scorers), None)
        answers.append(_answer(sample, place, scores.get(chosen), positions, path))
    if not answers:
        raise UserError(f"{path} has no samples; its status is {str(log['status'])[:40]}.")
    if metric is not None and metric not in scorers:
        raise UserError(f"{path}: --metric {metric}: its scorers are {', '.join(scorers) or 'none'}.")
    notes = []
    if log["status"] != "success":
        notes.append(f"{path.name}: the status of its evaluation is {str(log['status'])[:40]}; it may lack samples.")
    if metric is None and len(scorers) > 1:
        others = [one for one in scorers if one != chosen]
        notes.append(f"{path.name}: compared with its score {chosen}; it also has {', '.join(others)} (--metric).")
    version = as_text(packages.get("inspect_ai")) if isinstance(packages, Mapping) else None
    return ForeignResults(
        INSPECT, version, as_text(run.get("task")) or task_of(path), as_text(run.get("model")), answers, chosen or "",
        _stated(log.get("results")), [path], notes,
    )  # fmt: skip


def _answer(
    sample: Mapping[str, Any], place: str, score: Any, positions: Mapping[str, int], path: Path
) -> ForeignAnswer:
    error = error_of(sample.get("error"))
    output = sample["output"]
    text = answer_of(output)
    if text is not None and text.startswith(ATTACHMENT) and isinstance(kept := sample.get("attachments"), Mapping):
        text = as_text(kept.get(text.removeprefix(ATTACHMENT)))
    if text is None and error is None:
        error = (error_of(output.get("error")) if isinstance(output, Mapping) else None) or "there is no output"
    value = score.get("value") if isinstance(score, Mapping) else None
    epoch, target = sample.get("epoch", 1), sample.get("target")
    if type(epoch) is not int or not 0 < epoch <= MOST_SAMPLES:
        raise UserError(f"{path}, {place}: its epoch is {str(epoch)[:40]!r}.")
    if isinstance(target, list) and target:
        target = target[0]
    return ForeignAnswer(
        place,
        text or "",
        {**id_fields(sample.get("metadata")), **id_fields({"id": sample["id"]})},
        position=positions.get(str(sample["id"])),
        prompt=question_of(sample.get("input")),
        repeat=epoch,
        score=as_score(value),
        extracted=as_text(score.get("answer")) if isinstance(score, Mapping) else None,
        target=as_text(target),
        error=error,
    )


def _stated(results: Any) -> dict[str, Any]:
    """The metrics of each scorer, ``scorer/metric``."""
    found: dict[str, Any] = {}
    scores = results.get("scores") if isinstance(results, Mapping) else None
    for one in scores if isinstance(scores, list) else []:
        metrics = one.get("metrics") if isinstance(one, Mapping) else None
        for name, metric in metrics.items() if isinstance(metrics, Mapping) else ():
            value = as_score(metric.get("value")) if isinstance(metric, Mapping) else None
            if value is not None:
                found[f"{one.get('name')}/{name}"[:200]] = value
    return found


def _listed(log: Any, path: Path) -> Iterable[tuple[str, Any]]:
    samples = log.get("samples") if isinstance(log, Mapping) else None
    if samples is not None and not isinstance(samples, list):
        raise UserError(f"{path}: its samples are no list.")
    return [(f"sample {number}", sample) for number, sample in enumerate(samples or [], start=1)]


# ------------------------------------------------------------------------------------------------------------ archives


def _open_archive(content: bytes, path: Path) -> tuple[Any, Iterator[tuple[str, Any]]]:
    """The header of an archive, and its samples, read one at a time."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = {info.filename: info for info in archive.infolist()}
    except CORRUPT as error:
        raise UserError(f"{path}: not a complete archive ({error}).") from error
    if HEADER not in members:
        raise UserError(
            f"{path} has no {HEADER}: it is no log of Inspect, or that evaluation did not end ('inspect log convert' "
            "may repair it)."
        )
    names = [name for name in members if name.startswith("samples/") and name.endswith(".json")]
    if len(names) > MOST_SAMPLES:
        raise UserError(f"{path} has {len(names):,} samples; at most {MOST_SAMPLES:,} are read.")
    header = json_value(_member(archive, members[HEADER], content, path), f"{path}, {HEADER}")

    def samples() -> Iterator[tuple[str, Any]]:
        for name in names:
            yield name, json_value(_member(archive, members[name], content, path), f"{path}, {name}")

    return header, samples()


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: bytes, path: Path) -> bytes:
    """A file in an archive, of at most ``LARGEST_LINE`` bytes.  Raises ``UserError``."""
    place = f"{path}, {info.filename}"
    if info.file_size > LARGEST_LINE:
        raise UserError(f"{place}: it has {info.file_size:,} bytes; at most {LARGEST_LINE:,} are read.")
    try:
        if info.compress_type == ZSTANDARD:
            found = _decompressed(info, content, path)
        else:
            with archive.open(info) as file:
                found = file.read(info.file_size + 1)
    except (*CORRUPT, OSError, IndexError) as error:
        raise UserError(f"{place}: it cannot be read ({error}); the archive is damaged.") from error
    if len(found) != info.file_size or zlib.crc32(found) != info.CRC:
        raise UserError(f"{place}: its checksum is wrong; the archive is damaged.")
    return found


def _decompressed(info: zipfile.ZipInfo, content: bytes, path: Path) -> bytes:
    """A file that is compressed with Zstandard, up to the size that the archive states and one byte more."""
    try:
        import zstandard
    except ImportError as error:
        raise UserError(
            f"{path} is compressed with Zstandard, which the package zstandard reads; install it with: "
            f"{install_command('inspect')}; or convert the log with 'inspect log convert --to json'."
        ) from error
    at = info.header_offset
    names = int.from_bytes(content[at + 26 : at + 28], "little") + int.from_bytes(content[at + 28 : at + 30], "little")
    start = at + _LOCAL_HEADER + names
    compressed = content[start : start + info.compress_size]
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_LINE)
        return decompressor.stream_reader(compressed, read_across_frames=True).read(info.file_size + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
