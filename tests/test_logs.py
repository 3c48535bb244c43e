"""Log messages of libraries on the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CALLS = """
import logging
from evalkit.logs import quiet_logging
{before}
quiet_logging()
from huggingface_hub.utils import http_backoff
import datasets, transformers
for name in ("datasets.builder", "transformers.generation.utils", "transformers.modeling_utils"):
    for _ in range(2):
        logging.getLogger(name).warning("%s warns", name)
for _ in range(2):
    logging.getLogger("evalkit.run").warning("evalkit may repeat itself")
try:
    http_backoff("GET", "http://127.0.0.1:9/a", max_retries=3, base_wait_time=0)  # nothing listens on this port
except Exception as error:
    print("raised", type(error).__name__)
"""


def test_warnings_of_libraries_appear_once(tmp_path: Path) -> None:
    """Whether the libraries are imported before or after logging is set up, and although they have own handlers."""
    for before in ("", "import datasets, huggingface_hub, transformers"):
        done = subprocess.run(
            [sys.executable, "-c", CALLS.format(before=before)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"HF_HUB_OFFLINE": "0"},
        )
        assert done.stdout.startswith("raised ")
        lines = done.stderr.splitlines()
        for name in ("datasets.builder", "transformers.generation.utils", "transformers.modeling_utils"):
            assert lines.count(f"WARNING: {name} warns") == 1
        assert lines.count("WARNING: evalkit may repeat itself") == 2
        unreachable = [line for line in lines if "thrown while requesting GET http://127.0.0.1:9/a" in line]
        retries = [line for line in lines if "Retrying in" in line]
        assert len(unreachable) == len(retries) == 1, lines
        assert all(line.startswith("WARNING: ") for line in lines)
