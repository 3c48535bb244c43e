from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit import fingerprint, load_task
from evalkit.annotations import digest_of_annotations
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.task_names import parse_tasks


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evalkit" / "digests.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin", "modeling.py"):
        (folder / name).write_bytes(name.encode() * 1000)
    return folder


def test_checkpoint_is_identified_by_its_files(folder: Path, tmp_path: Path) -> None:
    first = fingerprint.of_checkpoint(folder)
    assert set(first) == {"weights", "config", "processor"}
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("other words")
    assert fingerprint.of_checkpoint(moved) == first
    for name, part in (("model.safetensors", "weights"), ("config.json", "config"), ("tokenizer.json", "processor")):
        before = fingerprint.of_checkpoint(moved)
        with (moved / name).open("ab") as file:
            file.write(b" ")
        after = fingerprint.of_checkpoint(moved)
        assert {key for key in before if before[key] != after[key]} == {part}


@pytest.mark.parametrize("name", ["spiece.vocab", "query_tokenizer/tokenizer.json", "unknown.json", "templates.yaml"])
def test_files_of_unknown_names_count(folder: Path, name: str) -> None:
    first = fingerprint.of_checkpoint(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("a")
    second = fingerprint.of_checkpoint(folder)
    assert {**second, "other files": None} == {**first, "other files": None}
    (folder / name).write_text("b")
    assert fingerprint.of_checkpoint(folder)["other files"] != second["other files"]
    assert fingerprint.of_processor(folder) != ""


@pytest.mark.parametrize(
    "name",
    ["LICENSE", "photo.png", "optimizer.pt", "trainer_state.json", "checkpoint-5/tokenizer.json", "adapter_config.json",
     "adapter_model.safetensors", ".gitattributes", "model.onnx", "part/notes.txt"],
)  # fmt: skip
def test_files_that_are_not_loaded_do_not_count(folder: Path, name: str) -> None:
    first = fingerprint.of_checkpoint(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("a")
    assert fingerprint.of_checkpoint(folder) == first


def sharded(folder: Path, *names: str) -> None:
    (folder / "model.safetensors").unlink(missing_ok=True)
    index = {"weight_map": {f"tensor{number}": name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_weights_in_folders_below_count(folder: Path) -> None:
    sharded(folder, "a.safetensors", "part/b.safetensors")
    (folder / "part").mkdir()
    for name, content in (("a.safetensors", "1"), ("part/b.safetensors", "1"), ("part/unread.safetensors", "1")):
        (folder / name).write_text(content)
    first = fingerprint.of_checkpoint(folder)
    (folder / "part/unread.safetensors").write_text("2")
    assert fingerprint.of_checkpoint(folder) == first
    (folder / "part/b.safetensors").write_text("2")
    assert fingerprint.of_checkpoint(folder)["weights"] != first["weights"]


@pytest.mark.parametrize("name", ["../b.safetensors", "/b.safetensors", "part/../../b.safetensors", "", "a\0b"])
def test_weights_elsewhere_are_refused(folder: Path, name: str) -> None:
    sharded(folder, "a.safetensors", name)
    with pytest.raises(UserError, match="names a file outside the folder"):
        fingerprint.of_checkpoint(folder)


def test_pickles_and_code_count_if_used(folder: Path) -> None:
    plain = fingerprint.of_checkpoint(folder)
    pickled = fingerprint.of_checkpoint(folder, pickled=True)
    assert pickled["weights"] != plain["weights"]
    assert set(fingerprint.of_checkpoint(folder, code=True)) == {*plain, "code"}


def test_digests_are_cached_until_file_changes(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = folder / "model.safetensors"
    monkeypatch.setattr(fingerprint, "SETTLED_SECONDS", 0.05)
    time.sleep(0.1)
    first = fingerprint.of_checkpoint(folder)
    assert str(weights) in json.loads(cache.read_text())
    read: list[Path] = []
    of_file = fingerprint.of_file
    monkeypatch.setattr(fingerprint, "of_file", lambda path: read.append(path) or of_file(path))
    assert fingerprint.of_checkpoint(folder) == first
    assert read == []

    # Overwritten in place with as many bytes, and its time set back: the digest is worked out anew.
    times = weights.stat()
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint.of_checkpoint(folder)["weights"] != first["weights"]
    assert read == [weights]


def test_recent_files_are_not_cached(folder: Path, cache: Path) -> None:
    fingerprint.of_checkpoint(folder)
    assert not cache.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\xff"])
def test_corrupt_cache_is_ignored(folder: Path, cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert fingerprint.of_checkpoint(folder)["weights"]


def test_annotations_digest_does_not_depend_on_location() -> None:
    ((task, split),) = parse_tasks(["vqav2/val"])
    job = load_job(task, split, open_data("tiny"), limit=None, seed=0)
    few = load_job(task, split, open_data("tiny"), limit=3, seed=0)
    assert job.annotations == few.annotations, "the whole split counts, whatever is chosen of it"
    samples = list(job.samples)
    assert fingerprint.of_samples(samples) == job.annotations
    assert fingerprint.of_samples(samples[::-1]) != job.annotations
    assert fingerprint.of_samples(samples[:-1]) != job.annotations


@pytest.mark.parametrize(
    ("name", "key"), [("mme/test", "category"), ("pope/test", "category"), ("mmbench_en/dev", "group")]
)
def test_annotations_include_what_scores_depend_on(name: str, key: str) -> None:
    """A pair, group or category that has changed gives another score, and must not pass for the same annotations."""
    samples = load_task(name, data="tiny")
    changed = [replace(samples[0], meta={**samples[0].meta, key: "other"}), *samples[1:]]
    unrelated = [replace(samples[0], meta={**samples[0].meta, "note": "other"}), *samples[1:]]
    digest = digest_of_annotations(samples.task, samples)
    assert digest_of_annotations(samples.task, changed) != digest
    assert digest_of_annotations(samples.task, unrelated) == digest
