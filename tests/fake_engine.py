"""An engine for tests: a real process that takes vLLM's or SGLang's arguments, speaks their API, and fails when told to.

    python fake_engine.py PLAN serve MODEL --port N ...

``PLAN`` is a folder.  It has ``plan.json``, whose keys say what goes wrong, and is where each process says what it has
seen: ``PID.json`` with its arguments and the processes that it started, ``PID.images`` with a line per request, and
``PID.requests`` with the bytes of each, the images that it had by their uuids alone, and the uuids mixed up so far.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

FLAGS = ("--trust-request-mm-kwargs", "--disable-uvicorn-access-log", "--enforce-eager", "--trust-remote-code")
VALUES = (
    "--host", "--max-model-len", "--limit-mm-per-prompt", "--tensor-parallel-size", "--dtype", "--load-format",
    "--gpu-memory-utilization", "--quantization", "--chat-template", "--model-path", "--context-length",
    "--limit-mm-data-per-request", "--log-level-http", "--device", "--mm-process-config",
)  # fmt: skip


def install(folder: Path, package: str = "vllm") -> tuple[Path, Path]:
    """An environment whose Python has this engine: (the interpreter, the folder of its plan)."""
    plan, packages = folder / "plan", folder / "packages"
    plan.mkdir(parents=True)
    (plan / "plan.json").write_text("{}")
    module = {"vllm": "vllm/entrypoints/cli/main.py", "sglang": "sglang/launch_server.py"}[package]
    (packages / module).parent.mkdir(parents=True)
    for parent in Path(module).parents[:-1]:
        (packages / parent / "__init__.py").write_text("")
    (packages / module).write_text(
        "import runpy, sys\n"
        f"sys.argv[1:1] = [{str(plan)!r}]\n"
        f"runpy.run_path({str(Path(__file__).resolve())!r}, run_name='__main__')\n"
    )
    info = packages / f"{package}-0.99.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.99.1\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python, plan


def main(folder: Path, given: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="engine")
    for flag in FLAGS:
        parser.add_argument(flag, action="store_true")
    for value in VALUES:
        parser.add_argument(value)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    if given[:1] == ["serve"]:
        parser.add_argument("model")
        given = given[1:]
    arguments = parser.parse_args(given)
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    # A worker in a session of its own, as engines have them.
    worker = subprocess.Popen(["sleep", "600"], start_new_session=True)
    pids = [os.getpid(), os.getppid(), worker.pid]
    seen = {"arguments": vars(arguments), "pids": pids, "environment": dict(os.environ)}
    written = folder / f"{os.getpid()}.part"
    written.write_text(json.dumps(seen))
    written.rename(written.with_suffix(".json"))
    records = [json.loads(path.read_text()) for path in folder.glob("[0-9]*.json")]
    # Which start of this server this is, from 1.
    started = sum(one["arguments"]["served_model_name"] == arguments.served_model_name for one in records)
    print("Loading the weights:  50%\rLoading the weights: 100%", flush=True)
    time.sleep(plan.get("seconds", 0))
    if started <= plan.get("fail_starts", 0) or (plan.get("fails_to_restart") and started > 1):
        sys.exit("RuntimeError: the KV cache does not fit into memory")
    if plan.get("hangs"):
        signal.pause()
    serve(arguments, folder, plan, started)


def first(file: Path, name: str) -> bool:
    """Whether ``name`` is the first that was given with this file."""
    try:
        with file.open("x") as new:
            new.write(name)
    except FileExistsError:
        return file.read_text() == name
    return True


def serve(arguments: argparse.Namespace, folder: Path, plan: dict[str, Any], started: int) -> None:
    """Answer requests until it is stopped, or the plan says otherwise."""
    spec = importlib.util.spec_from_file_location("server_of_tests", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.HTTPServer(arguments.port)
    server.models = [
        {
            "id": arguments.served_model_name,
            "object": "model",
            "owned_by": "vllm",
            "root": getattr(arguments, "model", ""),
        }
    ]
    server.pages = {"/health": {}, "/version": {"version": "0.99.1"}}
    server.delay = plan.get("delay", 0.0)
    server.keeps = plan.get("keeps", 1000)
    lock = threading.Lock()
    images = folder / f"{os.getpid()}.images"
    doomed = not plan.get("one_dies") or first(folder / "doomed", arguments.served_model_name)

    def misbehave(number: int, body: dict[str, Any]) -> str | None:
        urls = [part["image_url"]["url"] for m in body["messages"] if isinstance(m["content"], list)
                for part in m["content"] if part["type"] == "image_url"]  # fmt: skip
        with lock, images.with_suffix(".requests").open("a") as file:
            file.write(f"{server.lengths[number]} {server.told[number]} {len(server.mixed_up)}\n")
        if not body.get("logprobs"):  # it is not tried out
            with lock, images.open("a") as file:
                file.write(hashlib.sha256("".join(urls).encode()).hexdigest() + "\n")
        if body["model"] != arguments.served_model_name:  # each server has a name of its own
            return "404"
        if doomed and number == plan.get("dies_at") and started <= plan.get("deaths", 1):
            print("CUDA error: an illegal memory access", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if number == plan.get("stops_at") and started <= plan.get("deaths", 1):
            os.kill(os.getpid(), signal.SIGSTOP)  # it answers nothing any more, and its connections stay open
        return None

    server.misbehave = misbehave
    print("Application startup complete.", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
