"""Decoding image files: the pixels that a viewer shows, as 8-bit RGB.

Every part of evalkit decodes with this module, so that models, servers, reports and digests agree:

- The orientation in the EXIF (or XMP) data is applied.
- Transparency is composited on white, as transformers and qwen-vl-utils do.
- 16-bit grey is shifted to 8 bits (``value >> 8``), as Pillow itself does for 16-bit colour.
- Of an animation or a file of several pages, the first frame is used.
- Palettes, grey, CMYK etc. are converted by Pillow; colour profiles are not applied.

Only formats in ``FORMATS`` are opened: Pillow hands PostScript to another program, for example.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from evalkit.errors import first_line
from evalkit.types import Size

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Pillow's names of the formats that are opened, as far as the installed Pillow has them; HEIF needs pillow-heif."""

_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 0x0112  # the EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TAIL = 65 * 1024
"""EXIF data after a PNG's pixels is in its last bytes; if it comes from a JPEG, it has at most 64 KiB."""


@cache
def _formats() -> tuple[str, ...]:
    """``FORMATS`` as far as they are available; registers pillow-heif if it is installed."""
    from PIL import Image

    Image.init()
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError:
            pass
        else:
            pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def open_image(source: str | os.PathLike[str] | IO[bytes]) -> Iterator[PILImage]:
    """Open an image file; pixels are decoded later, by ``to_rgb``.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is corrupt, no regular file, or in an unsupported format.
    """
    if isinstance(source, (str, os.PathLike)):
        if not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116
            raise OSError("not a regular file")
        # Pillow gets the file, not its path: it maps raw TIFFs by path, and with an orientation the wrong way round.
        with open(source, "rb") as file, open_image(file) as image:  # noqa: PTH123
            yield image
        return
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source, formats=_formats()) as image:
            yield image
    except UnidentifiedImageError as error:
        raise OSError(_why_unidentified(source)) from error
    except OSError:
        raise
    except Exception as error:  # corrupt images raise nearly anything: SyntaxError, struct.error, zlib.error, …
        raise OSError(f"a corrupt image, or too large ({first_line(error)})") from error


def _why_unidentified(file: IO[bytes]) -> str:
    file.seek(0)
    start = file.read(16)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return "a HEIC photo, which Pillow cannot decode; convert it to JPEG, or pip install pillow-heif"
    names = ", ".join(name for name in FORMATS if name != "HEIF")
    return f"corrupt, or in none of the formats {names}"


def displayed_size(image: PILImage, *, upright: bool = True) -> Size:
    """(width, height) in pixels as ``to_rgb`` returns them, from the header alone."""
    width, height = image.size
    return (height, width) if upright and orientation(image) in (5, 6, 7, 8) else (width, height)


def orientation(image: PILImage) -> int:
    """The EXIF orientation of an open image, 1 to 8; 1 if it has none, or none that can be read."""
    from PIL import Image

    if image.format == "TIFF":
        return 1  # Pillow applies it itself
    try:
        if image.format == "PNG" and "exif" not in image.info and (data := _late_exif(image)):
            image.info["exif"] = b"Exif\0\0" + data
        # For a PNG without EXIF data, its own getexif would decode the pixels to look behind them.
        found = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # corrupt EXIF data raises anything; viewers then show the image as it is stored
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _late_exif(image: PILImage) -> bytes:
    """The EXIF data that a PNG has after its pixels; empty if there is none."""
    file: IO[bytes] | None = getattr(image, "fp", None)
    if file is None:
        return b""
    place = file.tell()
    try:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _PNG_TAIL))
        tail = file.read()
    finally:
        file.seek(place)
    at = tail.rfind(b"eXIf")
    if at < 4:
        return b""
    length = int.from_bytes(tail[at - 4 : at], "big")
    chunk, checksum = tail[at : at + 4 + length], tail[at + 4 + length : at + 8 + length]
    return chunk[4:] if zlib.crc32(chunk).to_bytes(4, "big") == checksum else b""


def to_rgb(image: PILImage, *, upright: bool = True) -> PILImage:
    """Decode an open image to 8-bit RGB without any metadata.

    Args:
        upright: apply the orientation; False for pixels as they are stored.

    Raises:
        OSError: it is corrupt, or its numbers have no known range (32-bit integers, floats).
        ValueError: Pillow cannot convert it.
    """
    from PIL import Image

    if image.format == "PNG":
        check_png(_content(image))
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation(image)) if upright else None
    if is_deep_grey(image):
        rgb = _shifted(image)
    elif image.mode in ("I", "F"):
        raise OSError(f"its pixels are {'floats' if image.mode == 'F' else '32-bit integers'}, whose range is unknown")
    elif image.has_transparency_data:
        rgb = _on_white(image.convert("RGBA"))
    else:
        rgb = image.convert("RGB")
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}  # nothing of it may be saved again: a decoder would turn the pixels a second time
    return rgb


def check_png(content: bytes) -> None:
    """Check the checksums of a PNG's pixels, which Pillow ignores: corrupt pixels would be used as the image.

    Raises:
        OSError: one is wrong.
    """
    view = memoryview(content)
    for kind, start, length in _png_chunks(content):
        end = start + length
        if (
            kind == b"IDAT"
            and end + 4 <= len(view)
            and zlib.crc32(view[start - 4 : end]) != _number(view[end : end + 4])
        ):
            raise OSError("a corrupt PNG: the checksum of its pixels is wrong")


def _content(image: PILImage) -> bytes:
    """The file's content; empty if the image is no longer connected with it."""
    file: IO[bytes] | None = getattr(image, "fp", None)
    if file is None:
        return b""
    place = file.tell()
    try:
        file.seek(0)
        return file.read()
    finally:
        file.seek(place)


def is_deep_grey(image: PILImage) -> bool:
    """Whether the pixels of an open image are 16-bit grey; older releases of Pillow open such PNGs as ``I``."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _on_white(rgba: PILImage) -> PILImage:
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _shifted(image: PILImage) -> PILImage:
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    transparent: Any = image.info.get("transparency")
    grey = (values >> 8).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def treatment(image: PILImage, *, upright: bool = True) -> str:
    """What ``to_rgb`` does to an open image beyond converting it: ``exif6``, ``white``, ``shift8``; else empty.

    An image whose alpha channel is opaque throughout is not changed by compositing, so it is not named; to find that
    out, its pixels are decoded.
    """
    turned = orientation(image) if upright else 1
    if image.format == "TIFF" and (by_pillow := getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)) in (5, 6, 7, 8):
        turned = by_pillow  # opened by its path, as earlier versions did, Pillow gets raw pixels in the wrong order
    found = [f"exif{turned}"] if turned > 1 else []
    if is_deep_grey(image):
        found.append("shift8")
    elif image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        found.append("white")
    return "-".join(found)


def is_plain(content: bytes) -> bool:
    """Whether ``treatment`` is surely empty for a file with this content, from its segments alone, which is fast."""
    if content.startswith(b"\xff\xd8\xff"):
        return not any(marker == 0xE1 for marker in _jpeg_markers(content))  # APP1: EXIF or XMP
    if content.startswith(_PNG) and len(content) > 26:
        depth, colour = content[24], content[25]
        opaque = colour in (2, 3) or (colour == 0 and depth <= 8)
        return opaque and not any(
            (_keyword(content, start) if kind in _PNG_TEXTS else kind) in _PNG_MARKS
            for kind, start, _ in _png_chunks(content)
        )
    return False


_PNG_MARKS = (b"tRNS", b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def _jpeg_markers(content: bytes) -> Iterator[int]:
    """The markers before the pixels; ``0xE1`` for a segment that cannot be followed."""
    place = 2
    while place + 4 <= len(content):
        marker = content[place + 1]
        if content[place] != 0xFF or marker == 0xFF:
            yield 0xE1
            return
        if marker == 0xDA:
            return
        yield marker
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, place of the data, length of the data) of each chunk."""
    place = 8
    while place + 8 <= len(content):
        length = _number(content[place : place + 4])
        yield content[place + 4 : place + 8], place + 8, length
        place += 12 + length


def _keyword(content: bytes, start: int) -> bytes:
    return content[start : start + 80].partition(b"\0")[0]


def _number(four: bytes | memoryview) -> int:
    return int.from_bytes(four, "big")
