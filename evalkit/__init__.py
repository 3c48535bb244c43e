"""evalkit: the scores the official scorers give, for vision-language models.

From Python: ``from evalkit import evaluate, load_task, score, scorer`` (see ``evalkit.api``), and ``load_run`` for a
finished run (see ``evalkit.results.load_run``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.version import __version__

if TYPE_CHECKING:
    from evalkit.api import evaluate, load_task, score, scorer
    from evalkit.results.load_run import load_run

__all__ = ["__version__", "evaluate", "load_run", "load_task", "score", "scorer"]


def __getattr__(name: str) -> object:
    # Loaded when asked for, so that the command line's help does not wait for it.
    if name == "load_run":
        from evalkit.results.load_run import load_run

        return load_run
    if name in __all__:
        from evalkit import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
