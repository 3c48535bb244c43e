"""Log messages on the terminal: warnings and errors, those of libraries once."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

from evalkit.plain_text import printable

LIBRARIES = ("datasets", "huggingface_hub", "transformers")
"""Loggers that libraries equip with handlers of their own when they are imported."""
VARYING = re.compile(r"https?://\S+|\d+")
"""What differs between two warnings of a library about the same thing: addresses, and counts such as retries."""


class LibraryLogger(logging.Logger):
    """Passes all records to the root logger's handlers, whatever the library configures."""

    propagate = property(lambda self: True, lambda self, value: None)

    def addHandler(self, handler: logging.Handler) -> None:  # noqa: N802
        """Ignore the library's own handler, which would print its records a second time."""


class PrintableFormatter(logging.Formatter):
    """Formats messages without terminal control characters: servers and files may have put some into them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class OnStderr(logging.StreamHandler[Any]):
    """Writes to the current ``sys.stderr``, which the live progress display replaces; libraries' messages once."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is evalkit's own, or the first of its kind."""
        if record.name.partition(".")[0] != "evalkit":
            kind = (record.name, VARYING.sub("#", record.getMessage()))
            if kind in self._shown:
                return False
            self._shown.add(kind)
        return bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def quiet_logging() -> None:
    """Show only warnings and errors on stderr, with each warning of a library once."""
    on_stderr = OnStderr()
    on_stderr.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[on_stderr])
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
    logging.getLogger("evalkit").setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao triggers it
    adopt_libraries()


def adopt_libraries() -> None:
    """Let the root logger's handlers alone print what ``LIBRARIES`` log, imported or not."""
    for name in LIBRARIES:
        existing = logging.Logger.manager.loggerDict.get(name)
        if isinstance(existing, logging.Logger):
            existing.handlers.clear()
            existing.propagate = True
        else:
            before = logging.getLoggerClass()
            logging.setLoggerClass(LibraryLogger)
            try:
                logging.getLogger(name)
            finally:
                logging.setLoggerClass(before)
