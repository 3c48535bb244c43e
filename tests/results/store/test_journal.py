from __future__ import annotations

import json
import os
import random
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.errors import RunFailed, UserError
from evalkit.images import PathImage
from evalkit.jobs import Record
from evalkit.results.store.journal import JournalAnswers, appending, encode, read_journal, rewrite_journal, seal
from evalkit.results.store.manifest import Manifest, SplitRecord
from evalkit.results.store.run_choice import FolderSpec, RunChoice, choose
from evalkit.results.store.run_folder import RunFolder
from evalkit.types import FrameSelection, ImageSize, Prediction, Response, Sample, VideoInput
from evalkit.video import VideoFile

SELECTION = FrameSelection((0, 5, 9, 14), (0.0, 0.2083, 0.375, 0.5833), (112, 84), 6.857143)
SEEN = VideoInput("/data/clip.mp4", SELECTION, "qwen2.5-report", "PyAV 18.1.0")
TEXTS = (
    "two red dogs",
    '"sum": "00000000", "seconds": 0.0}',
    "línea\nand\u2028more",
    "",
    "狗\x00\x1b[31m",
    '{"id": "7"}',
    "\\",
)


def record(number: int, text: str) -> Record:
    sample = Sample(f"{number}", (PathImage(f"/data/{number}.jpg"),), "?", ("yes",), str(number // 3))
    response = Response(
        sample.id, text, tokens=(1, 2), finish=("stop", "length")[number % 2], prompt_tokens=9,
        image_sizes=(ImageSize((640, 480), (644, 476)),), seconds=0.25,
    )  # fmt: skip
    return Record(sample, f"{number:016x}", response, Prediction(text or None), sample.images, (f"{number:016x}",))


RECORDS = [record(n, TEXTS[n % len(TEXTS)]) for n in range(30)]


def written(path: Path, records: list[Record] = RECORDS) -> Path:
    with appending(path) as journal:
        for one in records:
            journal.append(one)
    return path


def plain(answers: JournalAnswers) -> dict[str, object]:
    """What was read, without what is not compared between runs, and without the tokens, which are not kept."""
    return {
        key: (line.prompt, line.digests, replace(line.response, seconds=0.0)) for key, line in answers.lines.items()
    }


def expected(records: list[Record] = RECORDS) -> dict[str, object]:
    return {
        r.sample.id: (
            r.prompt_digest,
            r.digests,
            replace(r.response, tokens=(), counted=r.response.new_tokens, seconds=0.0),
        )
        for r in records
    }


def test_round_trip(tmp_path: Path) -> None:
    answers = read_journal(written(tmp_path / "j"), 2)
    assert plain(answers) == expected()
    assert (answers.truncated, answers.corrupt, answers.rejected) == (False, (), ())
    assert {line.response.seconds for line in answers.lines.values()} == {0.25}
    assert [json.loads(line)["text"] for line in (tmp_path / "j").read_bytes().splitlines()] == [
        r.response.text for r in RECORDS
    ]


def test_lone_surrogates_and_nan_do_not_stop_a_run(tmp_path: Path) -> None:
    odd = replace(record(1, "\ud800 x"), prediction=Prediction((1.0, float("nan"), float("inf"), 4.0)))
    line = json.loads(encode(odd))
    assert (line["answer"], line["text"]) == ([1.0, None, None, 4.0], "? x")
    assert read_journal(written(tmp_path / "j", [odd]), 2).lines["1"].response.text == "? x"


@pytest.mark.parametrize("seed", range(4))
def test_mutated_journals_are_read_exactly_or_refused_line_by_line(tmp_path: Path, seed: int) -> None:
    """2,000 of them: nothing that is read differs from what was written, and mending leaves a journal without damage."""
    draw = random.Random(seed)
    whole = written(tmp_path / "j").read_bytes()
    right = expected()
    refused = 0
    for number in range(500):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 3, 20))):
            if not content:
                break
            at, length = draw.randrange(len(content)), draw.choice((1, 1, 2, 40))
            match draw.randrange(5):
                case 0:
                    content[at] ^= 1 << draw.randrange(8)
                case 1:
                    del content[at : at + length]
                case 2:
                    content[at:at] = bytes(draw.randrange(256) for _ in range(length))
                case 3:
                    content[at:at] = content[draw.randrange(len(content)) :][:length]
                case 4 if number % 5 == 0:
                    del content[at:]
        path = tmp_path / "mutated.jsonl"
        path.write_bytes(content)
        answers = read_journal(path, 2)
        assert plain(answers).items() <= right.items()
        assert len(answers.rejected) == len(answers.corrupt) + answers.truncated
        refused += len(answers.rejected)
        rewrite_journal(path, answers, ())
        again = read_journal(path, 2)
        assert plain(again) == plain(answers)
        assert not again.rejected
        written(path, [record(99, "after")])
        assert len(read_journal(path, 2).lines) == len(answers.lines) + 1
        path.with_name("mutated.jsonl.rejected").unlink(missing_ok=True)
    assert refused > 400


def test_repair_keeps_removed_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    untouched = path.stat().st_mtime_ns
    rewrite_journal(path, read_journal(path, 2), ())
    assert path.stat().st_mtime_ns == untouched
    assert not (tmp_path / "j.rejected").exists()
    lines = path.read_bytes().splitlines(keepends=True)
    corrupt = lines[4].replace(b"id", b"di", 1)
    path.write_bytes(b"".join([*lines[:4], corrupt, *lines[5:]]) + lines[2][:20])
    answers = read_journal(path, 2)
    assert answers.truncated
    assert answers.corrupt == ((5, "its checksum is wrong"),)
    rewrite_journal(path, answers, {"7", "absent"})
    assert read_journal(path, 2).lines.keys() == {r.sample.id for r in RECORDS} - {"4", "7"}
    assert (tmp_path / "j.rejected").read_bytes() == corrupt + lines[2][:20] + b"\n" + lines[7]


def test_sample_answered_again_counts_once(tmp_path: Path) -> None:
    path = written(tmp_path / "j", [record(1, "old"), record(2, "x"), record(1, "new")])
    answers = read_journal(path, 2)
    assert [line.response.text for line in answers.lines.values()] == ["new", "x"]
    rewrite_journal(path, answers, ())
    assert path.read_bytes().count(b"\n") == 2


def test_full_disk_is_reported(tmp_path: Path) -> None:
    """As a full disk does; the half-written line is left out when read back."""
    path = tmp_path / "j"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(RunFailed, match="j cannot be written .*; earlier results are kept"):
            written(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    answers = read_journal(path, 2)
    assert 1 <= len(answers.lines) < 5
    assert plain(answers).items() <= expected().items()


def test_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with pytest.raises(RunFailed, match="cannot be written"), appending(tmp_path / "j"):
        pass
    with pytest.raises(UserError, match="cannot be read"):
        read_journal(tmp_path / "absent", 2)


# --------------------------------------------------------------------------------------------------------------- folders


PARTS = {"weights": "a" * 32, "seed": 0}
SPLITS = {"vqav2/val": {"version": 1, "annotations": "b" * 32}}


def made(out: Path, spec: FolderSpec, name: str | None = None) -> RunFolder:
    """The folder of a new run, with a manifest."""
    folder = choose(out, spec, name=name, fresh=False).folder
    splits = {key: SplitRecord(reference=key, parts=parts) for key, parts in spec.splits.items()}
    model = {"name": spec.model, "location": spec.location}
    folder.write_manifest(Manifest(settings={}, cwd=".", model=model, parts=dict(spec.parts), splits=splits))
    return folder


def test_run_is_resumed_by_its_identity_whatever_its_folder_is_called(tmp_path: Path) -> None:
    first = made(tmp_path, FolderSpec("m", PARTS, SPLITS))
    assert choose(tmp_path, FolderSpec("m", PARTS, SPLITS), name=None, fresh=False) == RunChoice(first)
    moved = RunFolder(first.path.rename(tmp_path / "renamed"))
    assert choose(tmp_path, FolderSpec("m", PARTS, SPLITS), name=None, fresh=False) == RunChoice(moved)
    assert choose(tmp_path, FolderSpec("m", PARTS, SPLITS), name="renamed", fresh=False) == RunChoice(moved)


def test_renamed_checkpoint_resumes_its_run(tmp_path: Path) -> None:
    first = made(tmp_path / "runs", FolderSpec("m", PARTS, SPLITS, location=str(tmp_path / "m")))
    renamed = FolderSpec("other", PARTS, SPLITS, location=str(tmp_path / "other"))
    choice = choose(tmp_path / "runs", renamed, name=None, fresh=False)
    assert choice == RunChoice(first, (f"resuming {first.path}: its model m is now other",))


def test_copy_of_checkpoint_has_its_own_run_and_reuses_answers(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    out = tmp_path / "runs"
    first = made(out, FolderSpec("m", PARTS, SPLITS, location=str(tmp_path / "m")))
    copy = FolderSpec("copy", PARTS, SPLITS, location=str(tmp_path / "copy"))
    fresh = choose(out, copy, name=None, fresh=True)
    choice = choose(out, copy, name=None, fresh=False)
    assert fresh == RunChoice(choice.folder), "--fresh leaves the other run alone"
    assert choice.folder.path == out / f"copy-{first.path.name.removeprefix('m-')}"
    assert choice.messages == (f"copy is identical to the model of {first.path}: its answers are reused",)
    assert choice.answers_from == first
    made(out, copy)
    assert choose(out, copy, name=None, fresh=False) == RunChoice(choice.folder)


def test_another_split_joins_run(tmp_path: Path) -> None:
    first = made(tmp_path, FolderSpec("m", PARTS, SPLITS))
    other = FolderSpec("m", PARTS, {"gqa/testdev": {"version": 1}})
    assert choose(tmp_path, other, name=None, fresh=False) == RunChoice(first)


def test_difference_makes_new_run_and_is_named(tmp_path: Path) -> None:
    first = made(tmp_path, FolderSpec("m", PARTS, SPLITS))
    second = FolderSpec("m", {**PARTS, "seed": 1}, SPLITS)
    choice = choose(tmp_path, second, name=None, fresh=False)
    assert choice.folder != first
    assert choice.why_new == f"new run, since {first.path} differs (seed: 0 → 1)"
    made(tmp_path, second)
    changed = FolderSpec("m", PARTS, {"vqav2/val": {"version": 1, "annotations": "c" * 32}})
    choice = choose(tmp_path, changed, name=None, fresh=False)
    assert choice.folder.path == first.path.with_name(f"{first.path.name}-2")
    difference = f"vqav2/val: annotations: {'b' * 8}… → {'c' * 8}…"
    assert choice.why_new == f"new run, since {first.path} differs ({difference})"
    with pytest.raises(UserError, match=r"differs from this command \(seed: 0 → 1\); give another --name, or --fresh"):
        choose(tmp_path, second, name=first.path.name, fresh=False)


@pytest.mark.parametrize(
    "unrelated",
    [
        FolderSpec("m", PARTS, {"gqa/testdev": {"version": 1}}, location="/a/m"),
        FolderSpec("m", {**PARTS, "weights": "d" * 32}, SPLITS, location="/b/m"),
        FolderSpec("n", PARTS, SPLITS, location="/a/m"),
    ],
    ids=["other tasks", "another checkpoint of this name", "another name"],
)
def test_unrelated_run_is_not_named(tmp_path: Path, unrelated: FolderSpec) -> None:
    made(tmp_path, unrelated)
    new = FolderSpec("m", {**PARTS, "seed": 1}, SPLITS, location="/a/m")
    assert choose(tmp_path, new, name=None, fresh=False).why_new == ""


def test_starting_over_moves_run_aside(tmp_path: Path) -> None:
    first = made(tmp_path, FolderSpec("m", PARTS, SPLITS), name="x")
    (first.path / "vqav2.val.jsonl").write_text("kept")
    choice = choose(tmp_path, FolderSpec("m", {**PARTS, "seed": 1}, SPLITS), name="x", fresh=True)
    assert choice.folder == first
    assert list(choice.folder.path.iterdir()) == []
    (kept,) = (tmp_path / ".replaced").iterdir()
    assert (kept / "vqav2.val.jsonl").read_text() == "kept"
    assert str(kept) in choice.messages[0]


def test_foreign_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.tex").touch()
    with pytest.raises(UserError, match="exists already and is not a run folder"):
        choose(tmp_path, FolderSpec("m", PARTS, SPLITS), name="x", fresh=False)


def test_two_concurrent_runs(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "x")
    (folder.path / f".scores.json.{os.getpid()}").touch()
    with folder.locked():
        assert [p.name for p in folder.path.iterdir()] == [".lock"], "half-written files are cleared away"
        with pytest.raises(UserError, match=rf"process {os.getpid()} on .* is working on this run"), folder.locked():
            pass
    with folder.locked():
        pass


def test_mutated_manifests_are_read_or_refused_with_sentence(tmp_path: Path) -> None:
    wanted = FolderSpec("m", PARTS, SPLITS)
    folder = made(tmp_path, wanted, name="x")
    whole = (folder.path / "manifest.json").read_bytes()
    draw = random.Random(0)
    outcomes = set()
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 2, 5))):
            at = draw.randrange(len(content))
            content[at : at + draw.choice((0, 1, 3, 30))] = draw.choice(
                (b"", b"null", b"[]", b"{}", b"7", b'"', b"\xff")
            )
        (folder.path / "manifest.json").write_bytes(content)
        for name in ("x", None):
            try:
                choose(tmp_path, wanted, name=name, fresh=False)
                outcomes.add("")
            except UserError as error:
                outcomes.add(str(error))
    assert len(outcomes) > 2
    assert "" in outcomes
    assert not any("\n" in sentence for sentence in outcomes)


def test_videos_are_recorded_as_they_were_shown(tmp_path: Path) -> None:
    one = record(1, "A")
    one = replace(one, videos=(VideoFile("/data/clip.mp4"),), response=replace(one.response, video_inputs=(SEEN,)))
    path = written(tmp_path / "a.jsonl", [one])
    (line,) = read_journal(path, 2).lines.values()
    assert line.response.video_inputs == (SEEN,)
    (seen,) = json.loads(path.read_text())["video_inputs"]
    assert (seen["sampling"], seen["decoder"]) == ("qwen2.5-report", "PyAV 18.1.0")
    for key, value in (("indices", [0, 5, 9]), ("times", [0, 1, 2, "3"]), ("size", [0, 1]), ("fps", None), ("name", 1)):
        content = json.loads(path.read_text()) | {"video_inputs": [seen | {key: value}]}
        content = {k: v for k, v in content.items() if k not in ("sum", "seconds")}
        (tmp_path / "b.jsonl").write_bytes(seal(json.dumps(content).encode(), 0.5))
        assert len(read_journal(tmp_path / "b.jsonl", 2).corrupt) == 1, key
