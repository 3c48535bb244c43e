"""Checking videos before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from evalkit.errors import UserError, first_line
from evalkit.types import VideoRef

from .cache import frame_cache
from .container import require_decoder

log = logging.getLogger(__name__)

HEADER_THREADS = 8  # they open files, mostly waiting for network drives


def check_videos(videos: Iterable[VideoRef], where: str, *, if_missing: str = "complete the download") -> None:
    """Check the header of every video, once; a message in the log names videos of a single frame.

    Args:
        where: the split, for messages.
        if_missing: what to do if a file is missing, for messages.

    Raises:
        UserError: videos are missing or unreadable; the message names the first and counts them.  Or PyAV is missing.
    """
    files = {video.name.partition("#t=")[0]: video for video in videos}
    if not files:
        return
    require_decoder()
    frame_cache()  # raises for a wrong setting
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        seen = dict(zip(files, pool.map(_checked, files.values()), strict=True))
    bad = {name: found for name, found in seen.items() if isinstance(found, Exception)}
    if bad:
        first, error = next(iter(bad.items()))
        more = f" ({len(bad):,} of {len(files):,} videos are missing or unreadable)" if len(bad) > 1 else ""
        missing = isinstance(error, FileNotFoundError)
        trouble = "is missing" if missing else f"cannot be read ({first_line(error)})"
        advice = if_missing if missing else "replace or convert it"
        raise UserError(
            f"{where}: the video {first} {trouble}{more}; {advice}, or give --allow-missing to evaluate the rest."
        )
    single = [name for name, frames in seen.items() if frames == 1]
    if single:
        log.warning(
            "%s: %s of %s videos have a single frame (%s%s).",
            where, f"{len(single):,}", f"{len(files):,}", single[0], ", …" if len(single) > 1 else "",
        )  # fmt: skip


def _checked(video: VideoRef) -> int | Exception | None:
    try:
        return video.check()
    except (OSError, ValueError) as error:
        return error
