"""Opening video files with PyAV, with its errors as ``OSError`` and ``ValueError``."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import UserError, first_line
from evalkit.installation import install_command

from .completeness import check_complete

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

FORMATS = ("mov", "matroska", "avi", "gif", "mpegts", "mpeg", "flv", "asf", "ogg", "rm", "mxf", "apng")
"""Containers that are read.  Playlists are not, since their text can name any file of this machine, and servers; nor
streams without a container, which have no timestamps."""
MAX_PIXELS = 8192 * 8192
"""Of a frame: a header can claim anything, and decoders allocate what it claims."""


def require_decoder() -> None:
    """Raise ``UserError`` if PyAV is not installed."""
    if find_spec("av") is None:
        raise UserError(f"videos need PyAV; install it with: {install_command('video')}.")


@cache
def decoder_name() -> str:
    """The decoder and its version, for records: ``PyAV 18.1.0``."""
    from importlib.metadata import version

    return f"PyAV {version('av')}"


@contextmanager
def opened(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream.

    Raises:
        OSError: the file is missing or not a regular one.
        ValueError: it is no video, truncated or corrupt; errors of PyAV inside the ``with`` block become this too.
    """
    require_decoder()
    import av

    regular_file(path)
    check_complete(path)
    with decoding_errors(path):
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
        with av.open(f"file:{path}", options=options, metadata_errors="ignore") as container:
            yield container, _video_stream(container, path)


def regular_file(path: str) -> Path:
    """The file at ``path``.  Raises ``OSError`` if it is missing, or a folder, a pipe or a device."""
    found = Path(path)
    if not found.is_file():
        if found.exists():
            raise OSError(f"{path} is not a regular file")
        raise FileNotFoundError(f"{path} is missing")
    return found


@contextmanager
def decoding_errors(path: str) -> Iterator[None]:
    """Errors of PyAV as ``ValueError``."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        reason = error.strerror or first_line(error)
        if error.errno == errno.EINVAL:  # the container is not one of FORMATS
            reason = "it is no video in a supported container, such as MP4, WebM, Matroska or AVI"
        raise ValueError(f"{path} cannot be decoded ({reason})") from error
    except (OSError, ValueError, UserError):
        raise
    except Exception as error:  # Cython code that meets what it does not expect
        raise ValueError(f"{path} cannot be decoded ({type(error).__name__}: {first_line(error)})") from error


def _video_stream(container: InputContainer, path: str) -> VideoStream:
    """The first video stream that is not a cover picture of an audio file."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError(f"{path} has no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise ValueError(f"{path} has a video stream of an unknown codec")
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream
