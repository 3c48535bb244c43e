"""Ends the command without taking apart what it has loaded, which takes seconds after torch and transformers."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import threading


def leave(code: int) -> None:
    """End the process with an exit code, as ``sys.exit`` does, but do not destroy torch's modules if it has them.

    What is registered for the end of the process is done, and what is printed is written; the operating system frees
    memory and devices.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if "torch" not in sys.modules or not all(thread.daemon for thread in others):
        gc.unfreeze()
        sys.exit(code)
    code = _written() or code
    atexit._run_exitfuncs()
    logging.shutdown()
    code = _written() or code
    os._exit(code)


def _written() -> int:
    """Write what is printed; 120, the interpreter's exit code for that, if it cannot be written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # a full disk, or a pipe that nobody reads any more
        return 120
    return 0
