"""The parquet files of one split in a local copy of a hub data set: complete, and of one generation.

The hub's names are ``SPLIT-00000-of-00002.parquet``, in older data sets with a hash behind, or ``SPLIT.parquet``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import UserError

_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?:-[0-9a-f]{8,})?")
EXAMPLES = 4


def split_files(folder: Path, split: str, config: str | None, *, task: str) -> list[Path]:
    """The files of ``split`` below ``folder``, in order; with ``config``, only those below a folder of that name.

    Raises:
        UserError: there are none, shards are missing, or there are several generations or copies of the split.
    """
    below = [
        path for path in sorted(folder.rglob("*.parquet")) if config is None or config in path.relative_to(folder).parts
    ]
    single = [path for path in below if path.stem == split]
    matches = [(path, match) for path in below if (match := _SHARD.fullmatch(path.stem))]
    shards = [(path, int(m["number"]), int(m["total"])) for path, m in matches if m["split"] == split]
    named = {path for path, _ in matches}
    unclear = [path for path in below if path not in named and path.name.startswith(f"{split}-")]
    where = f"{folder}/{config}" if config else str(folder)
    if unclear:
        raise UserError(
            f"{task}: the name of {unclear[0]} does not tell which shard of how many it is; expected "
            f"{split}-00000-of-00002.parquet and so on, as on the hub."
        )
    if not single and not shards:
        raise UserError(f"{task}: no parquet files of split {split} under {where} (looked for {split}-*.parquet).")
    generations = [[path] for path in single]
    for total in sorted({total for _, _, total in shards}):
        generations += _copies([(path, number) for path, number, of in shards if of == total])
    if len(generations) > 1:
        first = " and ".join(str(files[0].relative_to(folder)) for files in generations[:2])
        raise UserError(
            f"{task}: {where} has split {split} in {len(generations)} generations or copies ({first}); its questions "
            "would count several times. Keep the files of one."
        )
    (files,) = generations
    _check_complete(shards, split, where, task)
    return files


def _copies(shards: Sequence[tuple[Path, int]]) -> list[list[Path]]:
    """Shards of one total by copy: a number that occurs again begins another one."""
    copies: list[dict[int, Path]] = []
    for path, number in shards:
        copy = next((copy for copy in copies if number not in copy), None)
        if copy is None:
            copies.append({number: path})
        else:
            copy[number] = path
    return [[copy[number] for number in sorted(copy)] for copy in copies]


def _check_complete(shards: Sequence[tuple[Path, int, int]], split: str, where: str, task: str) -> None:
    if not shards:
        return
    total = shards[0][2]
    missing = sorted(set(range(total)) - {number for _, number, _ in shards})
    if missing or len(shards) != total:
        names = [f"{split}-{number:05}-of-{total:05}.parquet" for number in missing[:EXAMPLES]]
        more = ", …" if len(missing) > EXAMPLES else ""
        raise UserError(
            f"{task}: {len(missing)} of the {total} shards of split {split} are missing under {where} "
            f"({', '.join(names)}{more}); complete the download."
        )
