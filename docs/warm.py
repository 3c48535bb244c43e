"""A process that has imported torch and evalkit and runs commands in forks of itself, since importing takes seconds.

``python warm.py SOCKET`` serves. ``commands`` writes the client programs ``evalkit`` and ``python``: each sends its
arguments, working directory, environment and file descriptors to the server, and exits with the command's exit code.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
import traceback
from pathlib import Path

CLIENT = """#!{python} -ISE
import json, os, socket, sys
from array import array
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps({{"program": {program!r}, "arguments": sys.argv[1:], "cwd": os.getcwd(),
        "environment": dict(os.environ)}})
    server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0, 1, 2]))])
    server.sendall(request.encode() + b"\\n")
    code = server.recv(16)
sys.exit(int(code or 70))
"""


def commands(folder: Path, address: Path) -> None:
    """Write the client programs into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("evalkit", "python"):
        path = folder / program
        path.write_text(CLIENT.format(python=sys.executable, address=str(address), program=program), encoding="utf-8")
        path.chmod(0o755)


def serve(address: str) -> None:
    """Serve until the process is terminated."""
    for package in ("evalkit.cli", "evalkit.results", "evalkit.model.backends", "evalkit.model.engine"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    for name in ("datasets", "pandas", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl"):
        importlib.import_module(name)
    from evalkit import registry

    for group in (registry.tasks, registry.metrics, registry.families):
        group.all()  # imports them
    import torch

    torch.set_num_threads(1)  # a thread pool would not survive a fork
    gc.collect()
    gc.freeze()  # keeps memory pages shared with the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen()
        Path(f"{address}.new").rename(address)  # clients wait for this name, and must find a listener
        while True:
            client, _ = server.accept()
            with client:
                if os.fork() == 0:
                    os._exit(handle(client))
            while True:  # reap finished children
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break


def handle(client: socket.socket) -> int:
    """In the fork: a grandchild runs the command, and the child sends its exit code to the client."""
    _, ancillary, *_ = client.recvmsg(1, socket.CMSG_SPACE(12))
    descriptors = [fd for _, _, data in ancillary for fd in memoryview(data).cast("i")]
    with client.makefile("r", encoding="utf-8") as lines:
        request = json.loads(lines.readline())
    child = os.fork()
    if child == 0:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        client.close()
        code = execute(request)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    for descriptor in descriptors:
        os.close(descriptor)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client.sendall(str(code if code >= 0 else 128 - code).encode())
    return 0


def execute(request: dict) -> int:
    """Run a command as a process of its own would; returns its exit code."""
    import torch

    torch.set_num_threads(1)  # renews torch's thread pool after the fork, before threads of the command race to do so
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(os.dup(number), mode, buffering=1, encoding="utf-8")  # lines of both outputs in order
        for number, mode in enumerate("rww")
    )
    for name, stream in (("stdin", sys.stdin), ("stdout", sys.stdout), ("stderr", sys.stderr)):
        setattr(sys, f"__{name}__", stream)
    try:
        if request["program"] == "evalkit":
            sys.argv = ["evalkit", *request["arguments"]]
            from evalkit.cli import main

            main()
        else:
            path, *arguments = request["arguments"]
            if path == "-":
                path, sys.argv = "<stdin>", ["-", *arguments]
                exec(compile(sys.stdin.read(), path, "exec"), {"__name__": "__main__"})
            elif path == "-m":
                sys.argv = arguments
                runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(path).resolve().parent))
                sys.argv = [path, *arguments]
                runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
