"""As what a server was sent videos: in all answers to one split as the same, however often the run is resumed.

The server decides it, by its version and how it was started, so that the run's identity cannot have it.
"""

from __future__ import annotations

from collections.abc import Iterable

from evalkit.errors import RunFailed
from evalkit.jobs import Record

WORDS = {"video": "videos", "images": "images"}


class SentVideos:
    """Compares new answers with those before, of samples with one video.

    With several, as with few-shot examples, frames are always sent as images.

    Args:
        job: the split's name, for messages.
        kept: answers of an earlier run.
    """

    def __init__(self, job: str, kept: Iterable[Record]) -> None:
        self._job = job
        self._before = next((sent for record in kept if (sent := _sent(record)) is not None), None)

    def check(self, record: Record) -> None:
        """Check a new answer, before it is written.

        Raises:
            RunFailed: its frames were sent as something else than those of the answers before.
        """
        sent = _sent(record)
        if sent is None:
            return
        if self._before is None:
            self._before = sent
        elif self._before != sent:
            raise RunFailed(
                f"{self._job}: the server now takes frames as {WORDS[sent]}, and the answers so far were given to "
                f"{WORDS[self._before]}: one score cannot have both. Start the server as it was started before (vLLM "
                "takes videos with --trust-request-mm-kwargs), or begin anew with --fresh."
            )


def _sent(record: Record) -> str | None:
    inputs = record.response.video_inputs
    return inputs[0].sent if len(inputs) == 1 else None
