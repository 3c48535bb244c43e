"""``--backend vllm`` with the real vLLM on the CPU: two servers, which are killed, restarted and stopped.

``EVALKIT_VLLM`` is the path of a ``vllm`` executable whose build runs on this machine; without it, they are skipped.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ..processes import alive, children, wait_for
from .test_real_server import TASKS, answers, evalkit, start

pytestmark = pytest.mark.slow
# Both fit into a few gigabytes, and start without compiling anything.
SMALL = ("--engine-arg", "kv-cache-memory-bytes=512M", "--engine-arg", "enforce-eager", "--dtype", "float32")
STARTING = ("--patience", "3600")  # on a busy machine, vLLM is silent for long


@pytest.fixture
def engine() -> tuple[str, ...]:
    """The options for vLLM on the CPU."""
    program = Path(os.environ.get("EVALKIT_VLLM", ""))
    if not program.is_file():
        pytest.skip("EVALKIT_VLLM names no executable")
    return ("--backend", "vllm", "--engine-python", str(program.parent / "python"), *SMALL, *STARTING)


def below(pid: int) -> set[int]:
    """All processes below a process."""
    found = {child for one in [pid] for child in children(one)}
    return found.union(*(below(child) for child in found))


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def journal_lines(folder: Path) -> int:
    return sum(path.read_text().count("\n") for path in folder.glob("runs/*/*.jsonl"))


def test_two_servers_give_the_in_process_answers(engine: tuple[str, ...], tmp_path: Path) -> None:
    rest = ("--data", "tiny", "--tasks", TASKS, "--limit", "40")
    evalkit(*engine, "--device", "cpu,cpu", *rest, "--out", "there", cwd=tmp_path)
    evalkit("--dtype", "float32", *rest, "--out", "here", cwd=tmp_path)
    there, here = answers(tmp_path / "there"), answers(tmp_path / "here")
    assert there.keys() == here.keys()
    assert len(there) == 200
    assert all(one["prompt_tokens"] == here[key]["prompt_tokens"] for key, one in there.items())
    assert sum(one["text"] == here[key]["text"] for key, one in there.items()) >= 198
    (path,) = tmp_path.glob("there/*/manifest.json")
    found = json.loads(path.read_text())["backend"]["engine"]
    assert [server["restarts"] for server in found["servers"]] == [0, 0]
    ports = {server["command"][server["command"].index("--port") + 1] for server in found["servers"]}
    assert len(ports) == 2


def test_killed_server_is_restarted_and_killed_evalkit_leaves_none(engine: tuple[str, ...], tmp_path: Path) -> None:
    spec = (*engine, "--device", "cpu", "--tasks", "refcoco/testA", "--concurrency", "4", "--out", "runs")
    with start(*spec, cwd=tmp_path) as process:
        wait_for(lambda: journal_lines(tmp_path) >= 20, 3600)
        servers = [pid for pid in below(process.pid) if "supervise.py" not in command_of(pid)]
        core = max(servers)  # started last: a worker of the engine, and not its API
        os.kill(core, signal.SIGKILL)
        wait_for(lambda: not any(map(alive, servers)), 300)
        before = journal_lines(tmp_path)
        wait_for(lambda: journal_lines(tmp_path) > before, 3600)
        left = below(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(map(alive, left)), 120)
    evalkit(*spec, cwd=tmp_path)  # the run is resumed
    found = answers(tmp_path / "runs")
    assert len(found) == 138
    assert all(one["finish"] == "stop" for one in found.values())
