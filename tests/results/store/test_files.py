"""Files of a run folder are written as what they are: no link is followed, no pipe waited for, nothing lost."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.errors import RunFailed, UserError
from evalkit.images import PathImage
from evalkit.jobs import Record
from evalkit.results.store.files import empty_folder, inside, open_regular, write_atomically
from evalkit.results.store.journal import appending, read_journal
from evalkit.results.store.run_choice import FolderSpec, choose
from evalkit.results.store.run_folder import RunFolder
from evalkit.runner.manifest import logging_to
from evalkit.types import Prediction, Response, Sample


def record(number: int) -> Record:
    sample = Sample(f"{number}", (PathImage("a.png"),), "?", ("yes",), "a")
    return Record(sample, "p", Response(sample.id, "yes"), Prediction("yes"), sample.images, (None,))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


def lock(run: Path) -> None:
    with RunFolder(run).locked():
        pass


def log(run: Path) -> None:
    with logging_to(RunFolder(run)):
        logging.getLogger("evalkit").warning("a message")


def append(run: Path) -> None:
    with appending(run / "a.val.jsonl") as journal:
        journal.append(record(0))


WRITERS = {".lock": lock, "log.txt": log, "a.val.jsonl": append}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("target", ["victim", "missing"])
def test_link_is_not_written_through(tmp_path: Path, victim: Path, name: str, target: str) -> None:
    run = tmp_path / "R"
    run.mkdir()
    (run / name).symlink_to(tmp_path / target)
    with pytest.raises(UserError, match="is a symbolic link"):
        WRITERS[name](run)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", WRITERS)
def test_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is not a regular file"):
        WRITERS[name](tmp_path)


def test_link_is_replaced_by_atomic_write(tmp_path: Path, victim: Path) -> None:
    for name in ("scores.json", f".scores.json.{os.getpid()}"):
        (tmp_path / name).symlink_to(victim)
    write_atomically(tmp_path / "scores.json", "new")
    assert (victim.read_text(), (tmp_path / "scores.json").read_text()) == ("precious", "new")
    assert not (tmp_path / "scores.json").is_symlink()


def test_folders_for_output_are_not_links(tmp_path: Path, victim: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "export").symlink_to(elsewhere)
    with pytest.raises(UserError, match="symbolic link"):
        inside(tmp_path, "export", "samples.csv")
    (tmp_path / ".report.building").symlink_to(elsewhere)
    (empty_folder(tmp_path / ".report.building") / "images").mkdir()
    assert list(elsewhere.iterdir()) == []


def test_descriptor_is_one_of_regular_file(tmp_path: Path) -> None:
    descriptor = open_regular(tmp_path / "new", os.O_WRONLY)
    os.write(descriptor, b"x")
    os.close(descriptor)
    with pytest.raises(OSError, match="directory"):
        open_regular(tmp_path, os.O_WRONLY)


# ---------------------------------------------------------------------------------------------------- lost journals


def write_while(path: Path, harm: Callable[[], object]) -> None:
    """Append an answer, do ``harm``, append another."""
    with appending(path) as journal:
        journal.append(record(0))
        harm()
        journal.append(record(1))


def test_journal_that_was_removed_is_written_again_and_run_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.val.jsonl"
    with pytest.raises(RunFailed, match="was removed"):
        write_while(path, path.unlink)
    assert list(read_journal(path, 2).lines) == ["0", "1"]


def test_journal_that_was_replaced_or_truncated_fails_run(tmp_path: Path) -> None:
    path = tmp_path / "a.val.jsonl"

    def replace() -> None:
        path.unlink()
        path.write_text("another")

    with pytest.raises(RunFailed, match="replaced or truncated"):
        write_while(path, replace)
    assert path.read_text() == "another"
    path.unlink()
    with pytest.raises(RunFailed, match="replaced or truncated"):
        write_while(path, lambda: os.truncate(path, 0))


def test_run_whose_folder_was_removed_fails(tmp_path: Path) -> None:
    (tmp_path / "R").mkdir()
    with pytest.raises(RunFailed, match="cannot be written"):
        write_while(tmp_path / "R" / "a.val.jsonl", lambda: shutil.rmtree(tmp_path / "R"))


# ---------------------------------------------------------------------------------------- stopped before the manifest


@pytest.mark.parametrize("name", ["R", None])
def test_folder_with_only_lock_and_log_is_used(tmp_path: Path, name: str | None) -> None:
    spec = FolderSpec("m", {"seed": 0}, {})
    first = choose(tmp_path, spec, name=name, fresh=False).folder
    lock(first.path)
    log(first.path)
    (first.path / ".manifest.json.123").write_text("half")
    assert choose(tmp_path, spec, name=name, fresh=False).folder == first
    assert RunFolder.create(tmp_path, first.path.name) == first
    (first.path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        RunFolder.create(tmp_path, first.path.name)
    with pytest.raises(UserError, match="exists already"):
        choose(tmp_path, spec, name=first.path.name, fresh=False)


def test_lock_on_full_disk_holds_without_name(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked():
        os.truncate(tmp_path / ".lock", 0)  # what a full disk leaves of it
        with pytest.raises(UserError, match="another process is working on this run"), RunFolder(tmp_path).locked():
            pass
