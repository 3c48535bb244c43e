"""A complete run is shown again without torch and without looking at its answers, unless anything has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoint import bundled_folder
from evalkit.data import bundled_root
from evalkit.interfaces import BackendFactory
from evalkit.results.store.journal import BEFORE_TAIL, seal
from evalkit.runner.remembered_backend import RememberedBackend
from evalkit.user_cache import LARGEST_NUMBER, Remembered

from ..run_folders import lines_of, runs_in

COMMAND = ("run", "-t", "vqav2", "-m", "ckpt", "--data", "data", "--limit", "8", "--device", "cpu")
QUESTIONS = Path("data") / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = Path("data") / "vqav2" / "v2_mscoco_val2014_annotations.json"

# The files that it reads were written just now, which is too recent for evalkit to trust their times.
CHILD = """
import sys
import evalkit.fingerprint
from evalkit.cli import main
evalkit.fingerprint.SETTLED_SECONDS = 0.0
sys.argv = ["evalkit", *sys.argv[1:]]
try:
    main()
finally:
    print("IMPORTED", sorted(set(sys.modules) & {"torch", "transformers", "datasets"}), file=sys.stderr)
"""


class Command:
    """The command line in a folder of its own, with a cache folder of its own.

    Attributes:
        looked: how often it looked at the answers of a split.
    """

    def __init__(self, call: Callable[..., subprocess.CompletedProcess[str]], folder: Path) -> None:
        self._call = call
        self.folder = folder
        self.environment = {"XDG_CACHE_HOME": str(folder / "cache")}
        self.looked = 0

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        self.looked = 0
        done = self._call(*(arguments or COMMAND), cwd=self.folder, **self.environment)
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    def child(self, *arguments: str, **environment: str) -> tuple[str, str]:
        """(stdout, stderr) of a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *(arguments or COMMAND)],
            capture_output=True, text=True, cwd=self.folder, check=False,
            env={**os.environ, "COLUMNS": "160", **self.environment, **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def command(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """In a folder with a copy of the bundled checkpoint and data, whose files were written just now."""
    from evalkit.runner import active_run

    shutil.copytree(bundled_root(), tmp_path / "data")
    shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt")
    found = Command(evalkit, tmp_path)
    monkeypatch.setattr("evalkit.fingerprint.SETTLED_SECONDS", 0.0)
    kept = active_run.kept_answers

    def looked(*arguments: Any) -> Any:
        found.looked += 1
        return kept(*arguments)

    monkeypatch.setattr(active_run, "kept_answers", looked)
    return found


def test_complete_run_needs_neither_torch_nor_its_answers(command: Command) -> None:
    code, table, said = command()
    assert (code, command.looked) == (0, 1)
    (run,) = runs_in(command.folder)
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".jsonl", ".csv", ".md")}
    scores = (run / "scores.json").read_bytes()
    assert command()[1] == table
    assert command.looked == 0
    (run / "leaderboard.md").unlink()
    shown, said = command.child()
    assert shown == table
    assert "IMPORTED []" in said
    assert "vqav2/val: 0 answered in 0.0 s, 8 resumed; accuracy" in said
    assert f"run folder: runs/{run.name}" in said
    assert {name: (run / name).read_bytes() for name in files} == files
    assert (run / "scores.json").read_bytes() == scores
    manifest = json.loads((run / "manifest.json").read_text())
    assert [one["state"] for one in manifest["history"]] == ["complete"] * 3
    assert (manifest["state"], manifest["backend"]["dtype"]) == ("complete", "float32")
    assert manifest["splits"]["vqav2/val"]["signature"].startswith("vqav2:val|v1|protocol:official|shots:0|")


def test_events_of_unchanged_run_are_those_of_complete_one(command: Command) -> None:
    events = []
    for looked in (1, 1, 0):
        events.append([json.loads(line) for line in command(*COMMAND, "--json")[1].splitlines()])
        assert command.looked == looked
        if looked and len(events) == 1:
            shutil.rmtree(command.folder / "cache" / "evalkit" / "complete")
    for one in (event for run in events for event in run):
        for name in ("time", "seconds", "samples_per_second", "tokens_per_second", "memory_bytes", "seconds_left"):
            one.pop(name, None)
    assert [one["event"] for one in events[2]] == ["start", "task", "end"]
    assert events[2] == events[1]
    assert (events[2][1]["kept"], events[2][1]["done"], events[2][1]["total"]) == (8, 8, 8)


def copy_of_other_image(command: Command) -> None:
    rows = lines_of(runs_in(command.folder)[0] / "vqav2.val.jsonl")
    image = rows[0]["images"][0]
    other = next(row["images"][0] for row in rows if row["images"] != [image])
    (command.folder / image).write_bytes((command.folder / other).read_bytes())


def changed_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def changed_question(command: Command) -> None:
    changed_json(command.folder / QUESTIONS, lambda content: content["questions"][-1].update(question="Is it so?"))


def changed_answer_type(command: Command) -> None:
    """It is in no digest of the run identity, and decides what is in the breakdown by type."""

    def change(content: Any) -> None:
        for entry in content["annotations"]:
            entry["answer_type"] = "something else"

    changed_json(command.folder / ANNOTATIONS, change)


def changed_weights(command: Command) -> None:
    early = bundled_folder("tiny-early") / "model.safetensors"
    (command.folder / "ckpt" / "model.safetensors").write_bytes(early.read_bytes())


def changed_processor(command: Command) -> None:
    path = next((command.folder / "ckpt").glob("*processor_config.json"))
    changed_json(path, lambda content: content.update(processor_class="Qwen2_5_VLProcessor", note="changed"))


def changed_journal(command: Command) -> None:
    """Another answer, with the checksum that belongs to it."""
    (run,) = runs_in(command.folder)
    path = run / "vqav2.val.jsonl"
    lines = path.read_bytes().splitlines()
    body = json.loads(lines[0].rpartition(BEFORE_TAIL)[0] + b"}")
    body["text"] = body["answer"] = "an answer that is wrong"
    lines[0] = seal(json.dumps(body, ensure_ascii=False).encode(), 0.5).rstrip(b"\n")
    path.write_bytes(b"\n".join(lines) + b"\n")


def changed_sample_scores(command: Command) -> None:
    (run,) = runs_in(command.folder)
    path = run / "vqav2.val.scores.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"accuracy": 0', b'"accuracy": 100').replace(b'"id"', b'"id" '))


def removed_scores(command: Command) -> None:
    (run,) = runs_in(command.folder)
    (run / "scores.json").unlink()


CHANGES: dict[str, tuple[Callable[[Command], None], str]] = {
    "an image": (copy_of_other_image, "image changed"),
    "a question": (changed_question, "(vqav2/val: annotations: "),
    "an answer's type": (changed_answer_type, "vqav2/val: 0 answered"),
    "a weight": (changed_weights, "(weights: "),
    "the processor's config": (changed_processor, "(processor: "),
    "an answer": (changed_journal, "vqav2/val: 0 answered"),
    "scores of samples": (changed_sample_scores, "vqav2/val: 0 answered"),
    "no scores": (removed_scores, "vqav2/val: 0 answered"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_noticed(command: Command, change: str) -> None:
    before = command()
    assert (command()[1], command.looked) == (before[1], 0)
    (run,) = runs_in(command.folder)
    rows = json.loads((run / "scores.json").read_text())["results"]
    do, sentence = CHANGES[change]
    do(command)
    code, _, said = command()
    assert (code, command.looked) == (0, 1)
    assert sentence in said
    after = json.loads((run / "scores.json").read_text())["results"]
    if change == "an answer's type":
        assert "accuracy[something else]" in after[0]["values"]
    elif change == "an answer":
        assert after[0]["journal"] != rows[0]["journal"]
    elif change in ("scores of samples", "no scores"):
        assert after == rows
    assert (command()[0], command.looked) == (0, 0), "from then on, this is what is complete"


def test_other_software_is_noticed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command()
    command()
    assert command.looked == 0
    monkeypatch.setattr("evalkit.runner.unchanged.digest_of_software", lambda: "another metric")
    assert (command()[0], command.looked) == (0, 1)
    assert (command()[0], command.looked) == (0, 0)
    monkeypatch.setattr("evalkit.identity.__version__", "99.0")
    code, _, said = command()
    assert (code, command.looked) == (0, 1)
    assert "(evalkit: 0.1.0 → 99.0)" in said


def test_layout_of_custom_file_is_noticed(command: Command) -> None:
    """It has the same questions, and another digest, which is in the signature."""
    questions = json.loads((command.folder / QUESTIONS).read_text())["questions"][:2]
    images = command.folder / "data" / "coco" / "val2014"
    rows = [
        {"id": row["question_id"], "image": str(images / f"COCO_val2014_{row['image_id']:012d}.jpg"),
         "question": row["question"], "answers": ["yes"]}
        for row in questions
    ]  # fmt: skip
    mine = command.folder / "mine.jsonl"
    mine.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("run", "-t", "mine.jsonl", "--kind", "vqa", "-m", "ckpt", "--device", "cpu")
    first = command(*arguments)
    assert (command(*arguments)[1], command.looked) == (first[1], 0)
    mine.write_text(mine.read_text() + "\n")
    code, table, _ = command(*arguments)
    assert (code, command.looked) == (0, 1)
    assert table != first[1]


def test_rescore_of_what_is_unchanged(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.runner import recorded_run

    scored = []
    score = recorded_run.score_job
    monkeypatch.setattr(recorded_run, "score_job", lambda job, records: scored.append(job.name) or score(job, records))
    command()
    (run,) = runs_in(command.folder)

    def again(*options: str) -> tuple[int, str, str]:
        """(splits scored, table, messages)"""
        scored.clear()
        code, table, said = command("rescore", str(run), *options)
        assert code == 0, said
        return len(scored), table, said

    first = again()
    assert first[0] == 1
    assert "vqav2/val: unchanged" in first[2]
    (run / "leaderboard.csv").unlink()
    assert again() == (0, *first[1:])
    assert (run / "leaderboard.csv").is_file()
    assert "rescored" in json.loads((run / "manifest.json").read_text())
    assert again("--data", "data")[0] == 1, "another place of the data is recorded with the scores"
    for change in (changed_journal, changed_answer_type, changed_sample_scores):
        assert again()[0] in (0, 1)
        assert again()[0] == 0
        change(command)
        assert again()[0] == 1
    assert "accuracy[something else]" in json.loads((run / "scores.json").read_text())["results"][0]["values"]
    assert again()[0] == 0
    monkeypatch.setattr("evalkit.runner.unchanged.digest_of_software", lambda: "another metric")
    assert again()[0] == 1


def test_digest_of_software(tmp_path: Path) -> None:
    """Another version of a package, and one line of a plugin's source, are other software."""
    plugin = tmp_path / "site"
    (plugin / "ours-1.0.dist-info").mkdir(parents=True)
    (plugin / "ours-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    (plugin / "ours-1.0.dist-info" / "entry_points.txt").write_text("[evalkit.metrics]\nours = ours.metric:METRIC\n")
    (plugin / "ours").mkdir()
    (plugin / "ours" / "__init__.py").write_text("")
    (plugin / "ours" / "metric.py").write_text("METRIC = 1\n")
    (plugin / "transformers-4.99.0.dist-info").mkdir()

    def digest(before: str = "") -> str:
        code = f"{before}from evalkit.software import digest_of_software; print(digest_of_software())"
        environment = {**os.environ, "PYTHONPATH": str(plugin)}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        ).stdout

    first = digest()
    assert digest() == digest("import setuptools; ") == first
    (plugin / "transformers-4.99.0.dist-info").rename(plugin / "transformers-4.99.1.dist-info")
    second = digest()
    (plugin / "ours" / "metric.py").write_text("METRIC = 2\n")
    third = digest()
    assert len({first, second, third}) == 3


def test_backend_is_asked_itself_where_devices_may_differ(command: Command) -> None:
    command()
    assert "IMPORTED []" in command.child()[1]
    _, said = command.child(CUDA_VISIBLE_DEVICES="")
    assert "'torch'" in said
    assert "vqav2/val: 0 answered" in said
    assert "IMPORTED []" in command.child(CUDA_VISIBLE_DEVICES="")[1]


def test_wrong_memory_of_devices_ends_the_run_before_an_answer(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device than the one that is remembered would answer in another dtype."""
    command()
    shutil.rmtree(command.folder / "runs")
    get = Remembered.get
    with monkeypatch.context() as wrong:
        wrong.setattr(
            Remembered, "get",
            lambda self, key: {"backend": "hf", "dtype": "bfloat16", "quantization": None}
            if key.get("question") == "identity" else get(self, key),
        )  # fmt: skip
        code, _, said = command()
    assert code == 1
    assert "the devices that torch finds on this machine are not those that it found for an earlier command" in said
    assert not any(lines_of(path) for path in command.folder.glob("runs/*/vqav2.val.jsonl"))
    assert command()[0] == 0


def test_every_question_to_a_backend_reaches_it() -> None:
    """Also those that its interface gets later."""
    for name in dir(BackendFactory):
        if not name.startswith("_") and callable(getattr(BackendFactory, name)):
            assert getattr(RememberedBackend, name) is not getattr(BackendFactory, name), name


def test_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Remembered("kind")
    assert store.get({"a": 1}) is None
    store.put({"a": 1, "b": [2]}, {"value": "ä"})
    assert store.get({"b": [2], "a": 1}) == {"value": "ä"}
    (path,) = (tmp_path / "evalkit" / "kind").iterdir()
    content = path.read_text()
    for corrupt in (content[:-9], content.replace("ä", "o"), "[]", ""):
        path.write_text(corrupt)
        assert store.get({"a": 1, "b": [2]}) is None
    for number in range(LARGEST_NUMBER + 5):
        store.put(number, number)
    assert len(list((tmp_path / "evalkit" / "kind").iterdir())) == LARGEST_NUMBER
    assert store.get(LARGEST_NUMBER + 4) == LARGEST_NUMBER + 4
    store.forget(LARGEST_NUMBER + 4)
    assert store.get(LARGEST_NUMBER + 4) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    Remembered("kind").put(1, 1)
    assert Remembered("kind").get(1) is None
