"""Files of video benchmarks that were changed at random: refused in a sentence, or read; never another exception."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from evalkit.archives import archive_members
from evalkit.errors import UserError
from evalkit.types import Sample

from ...mutations import Mutation, binary, json_value, text
from .roots import archived, clip, loaded
from .test_charades_sta import LINES
from .test_formats import TASKS
from .test_videomme import ROWS, SUBTITLES, table

MUTATIONS: dict[str, Mutation] = {".json": json_value, ".jsonl": text, ".csv": text, ".txt": text, ".parquet": binary, ".srt": text}  # fmt: skip
TIMES = 25


def videomme(root: Path) -> None:
    table(root / "videomme" / "videomme" / "test-00000-of-00001.parquet", ROWS)
    clip(root / "videomme" / "data" / "vid1.mp4")
    (root / "videomme" / "subtitle").mkdir()
    (root / "videomme" / "subtitle" / "vid1.srt").write_text(SUBTITLES)


def charades_sta(root: Path) -> None:
    clip(root / "charades_sta" / "Charades_v1_480" / "3MSZA.mp4")
    (root / "charades_sta" / "charades_sta_test.txt").write_text(LINES)


ROOTS = {name: make for name, (make, _, _) in TASKS.items()} | {"videomme_subtitles": videomme, "charades_sta": charades_sta}  # fmt: skip


def asked(root: Path, name: str) -> list[Sample] | str:
    """The samples as they are asked, or the sentence that refuses the files."""
    try:
        job = loaded(root, name)
    except UserError as error:
        return str(error)
    return [job.task.asked(sample, "official", "fps=2") for sample in job.samples]


@pytest.mark.parametrize("name", ROOTS)
def test_annotations(name: str, tmp_path: Path) -> None:
    ROOTS[name](tmp_path)
    random = Random(name)
    files = [path for path in sorted(tmp_path.rglob("*")) if path.suffix in MUTATIONS]
    for path in files[:3]:
        content = path.read_bytes()
        for _ in range(TIMES):
            path.write_bytes(MUTATIONS[path.suffix](content, random))
            found = asked(tmp_path, name)
            assert isinstance(found, list) or ("\n" not in found and 0 < len(found) < 1000)
        path.write_bytes(content)
    assert isinstance(asked(tmp_path, name), list)


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = clip(tmp_path / "3MSZA.mp4").read_bytes()
    (tmp_path / "charades_sta").mkdir()
    (tmp_path / "charades_sta" / "charades_sta_test.txt").write_text(LINES)
    path = archived(tmp_path / "charades_sta" / "videos.zip", videos__3MSZA_DOT_mp4=content)
    good, random = path.read_bytes(), Random(3)
    read = 0
    for number in range(60):
        changed = bytearray(good)
        for _ in range(random.randint(1, 4)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        path.write_bytes(changed[: random.randrange(len(changed))] if number % 5 == 0 else changed)
        archive_members.cache_clear()
        with suppress(OSError, ValueError):
            read += loaded(tmp_path, "charades_sta").samples[0].videos[0].info().frames == 10
    assert read < 60
    path.write_bytes(good)
    archive_members.cache_clear()
    assert loaded(tmp_path, "charades_sta").samples[0].videos[0].info().frames == 10
