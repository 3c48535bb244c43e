"""What every reader of official files needs: a file in another format becomes a sentence, not a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evalkit.errors import UserError


@contextmanager
def official_format(task: str, where: str, expected: str) -> Iterator[None]:
    """Around code that takes parsed files apart: a missing key or an odd value in it raises ``UserError``.

    ``where`` names the files and ``expected`` what they should be, both for the sentence.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{task}: no {error} in {where}; expected {expected}.") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{task}: {where}: not the official format ({error}); expected {expected}.") from error


def required(texts: Sequence[str], what: str, where: str, *, task: str) -> tuple[str, ...]:
    """``texts``, the ``what`` (``answers``, ``captions``) that a sample is scored against.

    Raises:
        UserError: there are none, or one is no text; the sentence names ``where``.
    """
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(
            f"{task}: {where} has no {what} to score against; the file is damaged, or holds a split whose {what} are "
            "not public."
        )
    return tuple(texts)
