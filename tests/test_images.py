"""Images of every kind are the same pixels for models, servers and reports, and digests tell what decoding changed."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from evalkit.checkpoint import resolve_checkpoint
from evalkit.errors import UserError
from evalkit.images import EncodedImage, PathImage, RowImage, check_images
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.server.images import encode
from evalkit.results.report.images import small

Pixels = np.ndarray[Any, Any]
ORIENTATION = 0x0112
WIDTH, HEIGHT = 23, 14

DISPLAYED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""The EXIF standard's orientations: what is displayed of pixels (height, width, …) as they are stored."""


def noise(*shape: int, kind: str = "uint8") -> Pixels:
    return np.random.default_rng(7).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


def on_white(colours: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[..., None].astype(float) / 255
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)


def plain(file: str, *, size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> tuple[Image.Image, str, Any, Any]:
    """(image, file name, options of saving, pixels to expect); None: those that Pillow decodes, for lossy formats."""
    pixels = noise(size[1], size[0], 3)
    lossless = file.endswith((".png", ".tiff", ".bmp")) or options.get("lossless")
    return Image.fromarray(pixels), file, options, pixels if lossless else None


def kinds() -> Iterator[tuple[str, tuple[Image.Image, str, dict[str, Any], Pixels | None]]]:
    rgb, alpha = noise(HEIGHT, WIDTH, 3), noise(HEIGHT, WIDTH)
    light = rgb.mean(axis=2).astype(np.uint8)
    colours = noise(4, 3)
    index = noise(HEIGHT, WIDTH) % 4
    palette = Image.fromarray(index, "L").convert("P")
    palette.putpalette(colours.tobytes())
    other = Image.fromarray(255 - rgb)
    deep = noise(HEIGHT, WIDTH, kind="uint16")
    yield "jpeg", plain("a.jpg", quality=90)
    yield "grey jpeg", (Image.fromarray(light), "a.jpg", {}, None)
    yield "cmyk jpeg", (Image.fromarray(rgb).convert("CMYK"), "a.jpg", {}, None)
    yield "png", plain("a.png")
    yield "grey", (Image.fromarray(light), "a.png", {}, grey(light))
    yield "bilevel", (Image.fromarray(light).convert("1"), "a.png", {}, None)
    yield "palette", (palette, "a.png", {}, colours[index])
    yield (
        "transparent palette",
        (
            palette, "a.png", {"transparency": bytes([255, 0, 128, 255])},
            on_white(colours[index], np.array([255, 0, 128, 255], np.uint8)[index]),
        ),
    )  # fmt: skip
    yield (
        "transparent colour",
        (
            Image.fromarray(colours[index]), "a.png", {"transparency": tuple(map(int, colours[1]))},
            on_white(colours[index], np.where(index == 1, 0, 255)),
        ),
    )  # fmt: skip
    yield "rgba", (Image.fromarray(np.dstack([rgb, alpha])), "a.png", {}, on_white(rgb, alpha))
    opaque = np.full_like(alpha, 255)
    yield "opaque rgba", (Image.fromarray(np.dstack([rgb, opaque])), "a.png", {}, rgb)
    yield "grey and alpha", (Image.fromarray(np.dstack([light, alpha])), "a.png", {}, on_white(grey(light), alpha))
    yield "16-bit grey", (Image.fromarray(deep), "a.png", {}, grey((deep >> 8).astype(np.uint8)))
    yield "16-bit tiff", (Image.fromarray(deep), "a.tiff", {}, grey((deep >> 8).astype(np.uint8)))
    yield "tiff", plain("a.tiff")
    yield "grey tiff", (Image.fromarray(light), "a.tiff", {}, grey(light))
    yield "bmp", plain("a.bmp")
    yield "webp", plain("a.webp", lossless=True)
    yield (
        "webp with alpha",
        (
            Image.fromarray(np.dstack([rgb, alpha])), "a.webp", {"lossless": True, "exact": True}, on_white(rgb, alpha)
        ),
    )  # fmt: skip
    yield "animated png", plain("a.png", save_all=True, append_images=[other])
    yield "animated webp", plain("a.webp", lossless=True, save_all=True, append_images=[other])
    yield "animated gif", (palette, "a.gif", {"save_all": True, "append_images": [other]}, colours[index])
    yield "pages", plain("a.tiff", save_all=True, append_images=[other])
    yield "a pixel", plain("a.png", size=(1, 1))
    yield "two pixels", plain("a.png", size=(1, 2))
    yield "a line", plain("a.png", size=(2, 300))
    if features.check("avif"):
        yield "avif", plain("a.avif")


KINDS = dict(kinds())
WITHOUT_EXIF = (".bmp", ".gif")
CASES = [
    (kind, turned) for kind in KINDS for turned in DISPLAYED if turned == 1 or not KINDS[kind][1].endswith(WITHOUT_EXIF)
]


def exif(turned: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = turned
    return found


def as_stored(path: Path) -> Pixels:
    """As evalkit decoded images before it applied orientation, transparency and 16 bits."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def as_served(content: bytes) -> Image.Image:
    """As servers decode: turned by EXIF data, then RGB."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(load_processor(resolve_checkpoint("tiny")))


@pytest.mark.parametrize(("kind", "turned"), CASES)
def test_same_pixels_everywhere(tmp_path: Path, inputs: Inputs, kind: str, turned: int) -> None:
    image, file, options, stored = KINDS[kind]
    path = tmp_path / file
    image.save(path, **options, **({"exif": exif(turned)} if turned > 1 else {}))
    if stored is None:  # lossy
        image.save(tmp_path / f"stored-{file}", **options)
        stored = as_stored(tmp_path / f"stored-{file}")
    expected = DISPLAYED[turned](stored)
    one = PathImage(str(path))
    row = RowImage("row 0", [{"image": {"bytes": path.read_bytes(), "path": None}}], 0)
    reference = PathImage(str(tmp_path / "reference.png"))
    one.load().save(reference.path)

    for each in (one, row):
        loaded = each.load()
        assert loaded.mode == "RGB"
        assert loaded.size == each.size() == (expected.shape[1], expected.shape[0])
        # Compositing is rounded.
        assert np.abs(np.asarray(loaded).astype(int) - expected).max() <= 1
        assert np.array_equal(np.asarray(loaded), np.asarray(one.load()))

        seen, correct = inputs.pixels(each), inputs.pixels(reference)
        assert set(seen) == set(correct)
        assert all(seen[name].equal(correct[name]) for name in seen)

        _, content, size = encode(each)
        assert size == loaded.size
        assert np.array_equal(np.asarray(as_served(content)), np.asarray(loaded))
        if content != path.read_bytes():
            assert ORIENTATION not in Image.open(io.BytesIO(content)).getexif()

        made, webp = small(each, each.digest(), 4096)
        assert (made.size, made.changed, made.problem) == (loaded.size, False, "")
        assert webp == small(reference, None, 4096)[1]

    assert row.digest() == one.digest()
    content_digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    before, now = as_stored(path), np.asarray(one.load())
    unchanged = before.shape == now.shape and np.array_equal(before, now)
    if turned == 1:
        assert (one.digest() == content_digest) == unchanged
    elif not unchanged:
        assert one.digest() != content_digest
    assert one.digest().startswith(content_digest)


@pytest.mark.parametrize("turned", DISPLAYED)
def test_orientation_may_stand_behind_png_s_pixels(tmp_path: Path, turned: int) -> None:
    pixels = noise(HEIGHT, WIDTH, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    body, end = buffer.getvalue()[:-12], buffer.getvalue()[-12:]
    data = b"eXIf" + exif(turned).tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    path = tmp_path / "a.png"
    path.write_bytes(body + chunk + end)
    image = PathImage(str(path))
    assert np.array_equal(np.asarray(image.load()), DISPLAYED[turned](pixels))
    assert image.size() == image.load().size
    assert np.array_equal(np.asarray(as_served(encode(image)[1])), DISPLAYED[turned](pixels))


def test_orientation_in_xmp(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(path, xmp=b'<x tiff:Orientation="6"/>')
    image = PathImage(str(path))
    assert image.size() == image.load().size == (HEIGHT, WIDTH)
    assert image.digest().endswith("-exif6")


@pytest.mark.parametrize("data", [b"", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_corrupt_exif_data_is_no_orientation(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(path, exif=data)
    image = PathImage(str(path))
    assert image.size() == image.load().size == (WIDTH, HEIGHT)
    assert "-" not in image.digest()


def test_pixels_as_they_are_stored(tmp_path: Path) -> None:
    """For boxes that are in these; the same path means two images then, which no cache may confuse."""
    path = tmp_path / "a.png"
    pixels = noise(HEIGHT, WIDTH, 3)
    Image.fromarray(pixels).save(path, exif=exif(6))
    stored, upright = PathImage(str(path), upright=False), PathImage(str(path))
    assert np.array_equal(np.asarray(stored.load()), pixels)
    assert stored.size() == (WIDTH, HEIGHT) != upright.size()
    assert np.array_equal(np.asarray(as_served(encode(stored)[1])), pixels)
    assert small(stored, None, 100)[0].size == (WIDTH, HEIGHT)
    assert stored.key != upright.key
    assert stored.digest() == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert upright.digest() == f"{stored.digest()}-exif6"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_range_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    Image.new(mode, (4, 4), 70_000).save(path)
    with pytest.raises(OSError, match="whose range is unknown"):
        PathImage(str(path)).load()


# --------------------------------------------------------------------------------------------------- what is not opened


def test_only_image_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript is a program: Pillow would hand it to Ghostscript, whatever the file is called."""
    started = tmp_path / "started"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 56 56\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(OSError, match="in none of the formats JPEG, PNG"):
        PathImage(str(path)).load()
    assert not started.exists()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    image = PathImage(str(tmp_path / "a.jpg"))
    for read in (image.size, image.load, image.digest):
        with pytest.raises(OSError, match="not a regular file"):
            read()


@pytest.mark.parametrize("kind", ["png", "rgba", "animated png"])
def test_corrupt_pixels_of_png_are_noticed(tmp_path: Path, kind: str) -> None:
    """Pillow ignores the checksum, and one flipped bit in ten changes pixels without an error."""
    image, file, options, _ = KINDS[kind]
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    content = bytearray(buffer.getvalue())
    content[content.index(b"IDAT") + 20] ^= 1
    path = tmp_path / file
    path.write_bytes(content)
    for read in (PathImage(str(path)).load, lambda: encode(PathImage(str(path)))):
        with pytest.raises(OSError, match="a corrupt PNG: the checksum of its pixels is wrong"):
            read()


def test_rows_that_name_files_are_not_followed(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "private.png")
    row = RowImage("row 0", [{"image": {"bytes": None, "path": str(tmp_path / "private.png")}}], 0)
    for read in (row.size, row.load, row.digest):
        with pytest.raises(OSError, match="row 0 has no image in column 'image', only the name '.*private.png'"):
            read()


def heic(path: Path) -> None:
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


def test_heic_photo(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    heif = None
    try:
        import pillow_heif as heif
    except ImportError:
        heic(path)
        with pytest.raises(OSError, match="a HEIC photo.*convert it to JPEG, or pip install pillow-heif"):
            PathImage(str(path)).load()
    else:
        PathImage(__file__)  # pillow-heif is registered when the first image is opened
        picture = Image.new("RGB", (64, 48), "red")
        heif.from_pillow(picture).save(path)
        assert PathImage(str(path)).load().size == PathImage(str(path)).size() == (64, 48)


# --------------------------------------------------------------------------------------------------- before a run begins


def test_checking_names_first_that_cannot_be_read(tmp_path: Path) -> None:
    good, absent, broken = (PathImage(str(tmp_path / name)) for name in ("good.png", "absent.png", "broken.heic"))
    Image.new("RGB", (4, 3)).save(good.path)
    heic(Path(broken.path))
    assert check_images([good], "mine/own") == {good.path: (4, 3)}
    with pytest.raises(UserError, match=r"absent.png is missing \(2 of 3 images .*; complete the download, or give"):
        check_images([good, absent, broken], "mine/own")
    with pytest.raises(UserError, match=r"broken.heic cannot be read \(.*\); replace or convert it, or give"):
        check_images([good, broken], "mine/own")


def test_checking_tells_of_animations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images: list[EncodedImage] = []
    for kind in ("animated gif", "animated png", "animated webp", "pages", "png"):
        image, file, options, _ = KINDS[kind]
        path = tmp_path / f"{kind}{Path(file).suffix}"
        image.save(path, **options)
        images.append(PathImage(str(path)))
    with caplog.at_level(logging.WARNING):
        check_images(images, "mine/own")
    (message,) = [record.message for record in caplog.records]
    assert "mine/own: 4 of 5 images have several frames or pages, of which the first is used" in message


def test_headers_of_many_images_are_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("evalkit.images.MANY", 3)
    monkeypatch.setattr("evalkit.fingerprint.SETTLED_SECONDS", 0.0)
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    for place in (1, 2):
        Image.new("RGB", (place, 7)).save(tmp_path / f"{place}.png")
    images = [PathImage(str(tmp_path / name)) for name in ("a.gif", "1.png", "2.png")]
    sizes = {images[0].path: (5, 4), images[1].path: (1, 7), images[2].path: (2, 7)}
    assert check_images(images, "mine/own") == sizes
    with monkeypatch.context() as closed:
        closed.setattr("evalkit.images.open_image", lambda source: pytest.fail("no file needs to be opened"))
        caplog.clear()
        assert check_images(images, "mine/own") == sizes
        assert "1 of 3 images have several frames" in caplog.text
    Image.new("RGB", (9, 9)).save(tmp_path / "2.png")
    assert check_images(images, "mine/own") == {**sizes, images[2].path: (9, 9)}
    (tmp_path / "1.png").write_bytes(b"torn")
    for _ in range(2):
        with pytest.raises(UserError, match="1.png cannot be read"):
            check_images(images, "mine/own")


def test_row_that_only_names_a_file_has_no_image(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.png"
    Image.new("RGB", (8, 8)).save(path)
    row = RowImage("row 0", [{"image": {"bytes": None, "path": str(path)}}], 0)
    for read in (row.load, row.size, row.digest, row.content):
        with pytest.raises(OSError, match="has no image in column 'image', only the name"):
            read()
