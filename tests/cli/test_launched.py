"""``evalkit run --backend vllm`` and ``sglang`` with an engine of the tests: real processes that fail on purpose."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.model.launch import replica
from evalkit.model.server import sending

from ..fake_engine import install
from ..processes import Forked, alive, wait_for
from ..run_folders import lines_of

EvalkitCommand = Callable[..., subprocess.CompletedProcess[str]]


class Setup:
    """An installed engine of the tests, and the command that uses it."""

    def __init__(self, folder: Path, evalkit: EvalkitCommand, package: str = "vllm") -> None:
        self.folder = folder
        self.package = package
        self.python, self.engine = install(folder / package, package)
        self._evalkit = evalkit

    def plan(self, **content: Any) -> None:
        (self.engine / "plan.json").write_text(json.dumps(content))

    def options(self, *more: str) -> tuple[str, ...]:
        named = () if "--engine-command" in more else ("--engine-python", str(self.python))
        return ("run", "--backend", self.package, *named, "--tasks", "vqav2", "--limit", "24", *more)

    def run(self, *more: str, **environment: str) -> tuple[int, str]:
        done = self._evalkit(*self.options(*more), cwd=self.folder, **environment)
        return done.returncode, " ".join(done.stderr.split())

    @property
    def servers(self) -> list[dict[str, Any]]:
        """What each server says about itself, by its start."""
        paths = sorted(self.engine.glob("[0-9]*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(path.read_text()) for path in paths]

    @property
    def images(self) -> list[list[str]]:
        """The digest of the images of each request, by server."""
        return [path.read_text().split() for path in sorted(self.engine.glob("*.images"))]

    @property
    def requests(self) -> list[list[tuple[int, int, int]]]:
        """Of each request, by server: its bytes, its images by uuid alone, and the uuids that were mixed up so far."""
        paths = sorted(self.engine.glob("*.requests"), key=lambda path: path.stat().st_mtime_ns)
        return [[tuple(map(int, line.split())) for line in path.read_text().splitlines()] for path in paths]  # type: ignore[misc]

    @property
    def processes(self) -> list[int]:
        """All processes of all servers, supervisors included, that are still there."""
        return [pid for server in self.servers for pid in server["pids"] if alive(pid)]

    @property
    def run_folder(self) -> Path:
        (found,) = (path.parent for path in self.folder.glob("runs/*/manifest.json"))
        return found

    @property
    def log(self) -> str:
        return (self.run_folder / "log.txt").read_text()

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.run_folder / "manifest.json").read_text())  # type: ignore[no-any-return]

    @property
    def answers(self) -> dict[str, Any]:
        lines = lines_of(self.run_folder / "vqav2.val.jsonl")
        found = {line["id"]: line for line in lines}
        assert len(found) == len(lines)
        return found


@pytest.fixture
def setup(tmp_path: Path, evalkit: EvalkitCommand, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    """Waits are short; after a test, no process is left."""
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sending, "LONGEST_WAIT", 0.05)
    made = Setup(tmp_path, evalkit)
    yield made
    try:
        wait_for(lambda: not made.processes, 60)
    finally:
        for pid in made.processes:
            os.kill(pid, signal.SIGKILL)


def test_two_servers_share_a_run_by_image(setup: Setup) -> None:
    setup.plan(delay=0.02)
    code, said = setup.run(
        "--device", "cpu,cpu", "--limit", "100", "--concurrency", "4", "--engine-arg", "enforce-eager", "--dtype",
        "float32", "--engine-arg", "gpu-memory-utilization=0.5", EVALKIT_API_KEY="sk-secret-of-another-server",
    )  # fmt: skip
    assert code == 0, said
    assert "starting vLLM 0.99.1 for tiny: 2 servers" in said
    assert len(setup.answers) == 100
    first, second = setup.images
    assert len(first) + len(second) == 100
    assert min(len(first), len(second)) >= 20
    assert not set(first) & set(second)  # an image's questions go to one server
    for images in (first, second):
        assert len(set(images)) < len(images)
    backend = setup.manifest["backend"]
    assert backend["backend"] == "vllm"
    assert backend["device"] == "cpu, cpu"
    engine = backend["engine"]
    assert (engine["name"], engine["version"], len(engine["servers"])) == ("vLLM", "0.99.1", 2)
    assert engine["arguments"] == {"enforce-eager": None, "gpu-memory-utilization": "0.5"}
    for server, seen in zip(engine["servers"], setup.servers, strict=True):
        assert (setup.run_folder / server["log"]).read_text().count("Application startup complete.") == 1
        assert "--trust-request-mm-kwargs" in server["command"]
        given = seen["arguments"]
        assert given["host"] == "127.0.0.1"
        assert given["dtype"] == "float32"
        assert given["enforce_eager"]
        assert json.loads(given["limit_mm_per_prompt"]) == {"image": 1, "video": 0}
        assert 256 <= int(given["max_model_len"]) <= 4096
        assert not any("sk-secret" in value for value in seen["environment"].values())
    assert setup.manifest["parts"]["backend"] == "vllm"
    assert setup.manifest["parts"]["server"] == "vllm"
    assert "engine arguments" not in setup.manifest["parts"]


def test_limits_grow_with_shots_and_answers(setup: Setup) -> None:
    assert setup.run("--shots", "2", "--max-new-tokens", "600")[0] == 0
    given = setup.servers[0]["arguments"]
    assert json.loads(given["limit_mm_per_prompt"]) == {"image": 3, "video": 0}
    assert int(given["max_model_len"]) >= 1024


def test_complete_run_starts_no_server(setup: Setup) -> None:
    assert setup.run()[0] == 0
    assert setup.run("--engine-arg", "gpu-memory-utilization=0.3")[0] == 0  # answers do not depend on it
    assert len(setup.servers) == 1
    assert setup.run("--engine-arg", "quantization=fp8")[0] == 0
    assert len(setup.servers) == 2
    assert len(list(setup.folder.glob("runs/*/manifest.json"))) == 2


def test_server_that_dies_is_restarted(setup: Setup) -> None:
    setup.plan(dies_at=9, deaths=2, delay=0.01)
    code, said = setup.run("--limit", "60", "--concurrency", "4")
    assert code == 0, said
    assert "it died (killed by SIGKILL" in setup.log
    assert "its last line: CUDA error: an illegal memory access); restarting it (2 of 3)" in setup.log
    assert len(setup.answers) == 60
    assert {line["finish"] for line in setup.answers.values()} == {"stop"}
    assert setup.manifest["backend"]["engine"]["servers"][0]["restarts"] == 2


def test_restarted_server_is_sent_images_again(setup: Setup) -> None:
    """Fixed examples are images of every request: a server has them by their uuids, until it dies."""
    setup.plan(dies_at=30, deaths=1, delay=0.01)
    spec = ("--limit", "60", "--shots", "2", "--concurrency", "2")
    code, said = setup.run(*spec)
    assert code == 0, said
    answers = {key: line["text"] for key, line in setup.answers.items()}
    assert len(answers) == 60
    before, after = setup.requests
    assert all(any(told for _, told, _ in requests) for requests in (before, after))
    assert not any(told for _, told, _ in after[:1])
    assert not any(mixed for requests in (before, after) for _, _, mixed in requests)
    about = setup.manifest["backend"]["image_uuids"]
    assert (about["used"], about["problem"], about["dropped"]) == (True, None, 0)
    sent = sum(length for requests in (before, after) for length, _, _ in requests)
    shutil.rmtree(setup.run_folder)
    setup.plan(keeps=0)
    assert setup.run(*spec)[0] == 0
    assert {key: line["text"] for key, line in setup.answers.items()} == answers
    assert not setup.manifest["backend"]["image_uuids"]["used"]
    whole = sum(length for length, _, _ in setup.requests[-1])
    assert sent < 0.7 * whole


def test_server_that_keeps_dying_ends_the_run_which_can_be_resumed(setup: Setup) -> None:
    setup.plan(dies_at=5, deaths=99, delay=0.01)
    code, said = setup.run("--limit", "60", "--concurrency", "2")
    assert code == 1
    assert "after 3 restarts" in said
    assert "answers so far are saved; run the same command to resume" in said
    assert 8 <= len(setup.answers) < 60
    setup.plan()
    assert setup.run("--limit", "60")[0] == 0
    assert len(setup.answers) == 60


def test_other_server_takes_over(setup: Setup) -> None:
    # It answers nothing, so that the run cannot end before it has been given up.
    setup.plan(one_dies=True, dies_at=0, deaths=99, delay=0.02)
    code, said = setup.run("--device", "cpu,cpu", "--limit", "80", "--concurrency", "4")
    assert code == 0, said
    assert "its unanswered requests go to the other servers" in setup.log
    assert len(setup.answers) == 80
    assert {line["finish"] for line in setup.answers.values()} == {"stop"}


def test_server_that_no_longer_answers_is_restarted(setup: Setup) -> None:
    setup.plan(stops_at=6)
    # A long time for a busy machine, and no time for an engine that has to be given up.
    code, said = setup.run("--concurrency", "2", "--timeout", "5", "--patience", "60")
    assert code == 0, said
    assert "no response for" in setup.log
    assert len(setup.answers) == 24


def test_crash_before_ready_shows_last_lines(setup: Setup) -> None:
    setup.plan(fail_starts=1)
    code, said = setup.run()
    assert code == 1
    assert "vLLM 0.99.1: it did not start (exit code 1; its last line: RuntimeError: the KV cache does not fit" in said
    assert "vLLM 0.99.1: Loading the weights: 100%" in setup.log
    assert "engine.log" in said
    assert "KV cache" in (setup.run_folder / "engine.log").read_text()


def test_unknown_argument_is_a_mistake(setup: Setup) -> None:
    code, said = setup.run("--engine-arg", "gpu-memory-utilisation=0.5")
    assert code == 2
    assert "unrecognized arguments: --gpu-memory-utilisation 0.5" in said
    assert "correct --engine-arg" in said
    assert not list(setup.folder.glob("runs/*"))


def test_start_that_hangs_is_ended(setup: Setup) -> None:
    setup.plan(hangs=True)
    code, said = setup.run("--patience", "2")
    assert code == 1
    assert "it did not start (no output for 2 s while it was starting" in said


def test_port_that_is_taken_is_replaced(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken])
        real = replica.free_port
        monkeypatch.setattr(replica, "free_port", lambda: next(ports, None) or real())
        code, said = setup.run()
    assert code == 0, said
    assert [server["arguments"]["port"] == taken for server in setup.servers] == [True, False]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--engine-python", sys.executable), "vLLM is not installed there; install it"),
        (("--engine-python", "/nowhere/python"), "there is no such program"),
        (("--engine-python", __file__), "there is no such program"),
        (("--engine-command", "no-such-program serve"), "there is no program 'no-such-program'"),
        (("--engine-command", "sh 'x"), "it is no command"),
        (("--engine-arg", "port=80"), "evalkit sets it itself"),
        (("--engine-arg", "tensor-parallel-size=2"), "give --gpus-per-worker"),
        (("--engine-arg", "=3"), "give NAME or NAME=VALUE"),
        (("--gpus-per-worker", "0.5"), "a server takes complete GPUs"),
        (("--device", "cpu", "--gpus-per-worker", "2"), "there are no GPUs on --device cpu"),
        (("--device", "mps"), "give auto, cpu, cuda:*, or GPUs"),
        (("--dtype", "int3"), "use one of auto, float32"),
        (("--base-url", "http://localhost:1/v1"), "it starts its own servers"),
        (("--exact",), "this does not apply to servers"),
        (("--shots-by", "similar", "--shots", "1"), "cannot compare images"),
        (("--executor", "ray"), "the backend vllm does not support it"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_sentence(setup: Setup, options: tuple[str, ...], expected: str) -> None:
    named = ("run", "--backend", "vllm", "--tasks", "vqav2", *options)
    if not any(option.startswith("--engine-") for option in options):
        named += ("--engine-python", str(setup.python))
    done = setup._evalkit(*named, cwd=setup.folder)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2, said
    assert expected in said
    assert "Traceback" not in said
    assert not setup.servers


def test_options_of_engines_need_an_engine(evalkit: EvalkitCommand, tmp_path: Path) -> None:
    done = evalkit("run", "--tasks", "vqav2", "--engine-arg", "enforce-eager", cwd=tmp_path)
    assert done.returncode == 2
    assert "--engine-arg: only for vllm and sglang" in " ".join(done.stderr.split())


def test_engine_that_is_not_installed(evalkit: EvalkitCommand, tmp_path: Path) -> None:
    for name, title in (("vllm", "vLLM"), ("sglang", "SGLang")):
        done = evalkit("run", "--backend", name, "--tasks", "vqav2", cwd=tmp_path)
        said = " ".join(done.stderr.split())
        assert done.returncode == 2
        assert f"{title} is not installed in this environment; install it (pip install {name})" in said


def test_command_of_a_container(setup: Setup) -> None:
    command = f"env MARK={{devices}} {setup.python} -m vllm.entrypoints.cli.main serve"
    code, said = setup.run("--engine-command", command, "--device", "cpu")
    assert code == 0, said
    assert setup.servers[0]["environment"]["MARK"] == "cpu"
    assert setup.manifest["backend"]["engine"]["version"] == "0.99.1"  # as the server reports it


def test_sglang_is_started_with_its_own_arguments(tmp_path: Path, evalkit: EvalkitCommand) -> None:
    setup = Setup(tmp_path, evalkit, "sglang")
    code, said = setup.run("--device", "cpu", "--max-pixels", "50176", "--dtype", "bfloat16")
    assert code == 0, said
    given = setup.servers[0]["arguments"]
    assert Path(given["model_path"]).name == "tiny"
    assert given["context_length"] == "768"
    assert json.loads(given["limit_mm_data_per_request"]) == {"image": 1, "video": 0}
    assert json.loads(given["mm_process_config"]) == {"image": {"max_pixels": 50176}}
    assert (given["device"], given["dtype"], given["tensor_parallel_size"]) == ("cpu", "bfloat16", "1")
    assert setup.manifest["backend"]["backend"] == "sglang"
    wait_for(lambda: not setup.processes, 60)


def test_chat_template_is_given_to_the_engine(setup: Setup) -> None:
    template = setup.folder / "mine.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert setup.run("--chat-template", str(template))[0] == 0
    given = Path(setup.servers[0]["arguments"]["chat_template"])
    assert given.parent == setup.run_folder.resolve()
    assert given.read_text() == template.read_text()


@pytest.mark.parametrize("moment", ["start", "run"])
def test_interrupt_stops_servers(setup: Setup, moment: str) -> None:
    setup.plan(seconds=30 if moment == "start" else 0, delay=0.2)
    process = Forked(*setup.options("--concurrency", "2"), cwd=setup.folder)
    if moment == "start":
        process.wait_for(lambda: bool(setup.servers))
    else:
        process.wait_for(lambda: any(path.stat().st_size for path in setup.folder.glob("runs/*/vqav2.val.jsonl")))
    assert setup.processes
    process.send_signal(signal.SIGINT)
    code, said = process.finish()
    assert code == 1
    assert "Stopped at" in said
    assert not setup.processes  # they are gone before the command is


@pytest.mark.parametrize("moment", ["start", "run"])
def test_killed_evalkit_leaves_no_server(setup: Setup, moment: str) -> None:
    setup.plan(seconds=30 if moment == "start" else 0, delay=0.2)
    process = Forked(*setup.options("--concurrency", "2", "--device", "cpu,cpu"), cwd=setup.folder)
    if moment == "start":
        process.wait_for(lambda: len(setup.servers) == 2)
    else:
        process.wait_for(lambda: any(path.stat().st_size for path in setup.folder.glob("runs/*/vqav2.val.jsonl")))
    assert len(setup.processes) == 6
    process.kill()
    process.finish()
    wait_for(lambda: not setup.processes, 60)


def test_killed_supervisor_takes_its_server_with_it(setup: Setup) -> None:
    setup.plan(delay=0.1)
    process = Forked(*setup.options("--concurrency", "2"), cwd=setup.folder)
    process.wait_for(lambda: any(path.stat().st_size for path in setup.folder.glob("runs/*/vqav2.val.jsonl")))
    engine, supervisor, worker = setup.servers[0]["pids"]
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not alive(engine), 60)
    code, said = process.finish()
    assert code == 0, said
    assert len(setup.servers) == 2
    os.kill(worker, signal.SIGKILL)  # nobody is left to end it, but an engine's workers notice by themselves
