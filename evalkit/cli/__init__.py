"""The command line: one file per command, imported when it is called."""

from __future__ import annotations

import os
import sys

from evalkit.console import replace_unencodable
from evalkit.errors import RunFailed, UserError
from evalkit.garbage import LoadedModules
from evalkit.plain_text import printable

from .leaving import leave
from .task_list import list_without_options


def main() -> None:
    """Run the command line.  A user's mistake exits with 2, a failed run with 1, each with one message on stderr."""
    replace_unencodable()
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # Python processes started from here do not import from the folder
    try:
        if list_without_options(sys.argv[1:]):
            sys.exit(0)
        from .app import app  # takes a tenth of a second

        app()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except RunFailed as error:
        print(f"failed: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full or read-only disk, where no more specific message was printed
        place = f"{error.filename}: " if error.filename is not None else ""
        print(printable(f"failed: {place}{error.strerror or error}"), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted. The answers so far are in the run folder.", file=sys.stderr)
        sys.exit(130)


def command() -> None:
    """``main`` for the program ``evalkit``: where nothing else runs in the process, it ends at once (``leaving``)."""
    if sys._getframe(1).f_globals.get("__name__") != "__main__":  # called from a program of its own
        main()
        return
    LoadedModules.stay = True
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        leave(end.code or 0)
    leave(0)
