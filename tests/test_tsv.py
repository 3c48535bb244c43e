"""VLMEvalKit's TSV files: what pandas writes is read back, images stay in the file, faults are named with their line."""

from __future__ import annotations

import base64
import gzip
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit import tsv_cells
from evalkit.data import OfficialData, tsv_places
from evalkit.errors import UserError
from evalkit.tsv import read_tsv

HEADER = "index\timage\tquestion\tA\tB\tanswer\n"


def png(colour: str = "red", side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


RED, BLUE = b64(png("red")), b64(png("blue"))


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "Mine.tsv"
    path.write_bytes((header + "".join(f"{row}\n" for row in rows)).encode())
    return path


def row(index: object, image: str = RED, question: str = "What?", options: Sequence[str] = ("a", "b")) -> str:
    return "\t".join([str(index), image, question, *options, "A"])


# ------------------------------------------------------------------------------------------------------------ reading


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5),
    image=st.sampled_from([RED, "", "0", f"['{RED}', '{BLUE}']", f'["{RED}", "{BLUE}"]', RED[:76] + "\n" + RED[76:]]),
    chunk=st.sampled_from([1, 7, 64, 1 << 20]),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_what_pandas_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    image: str,
    chunk: int,
    end: str,
    bom: bool,
) -> None:
    path = tmp_path_factory.mktemp("tsv") / "x.tsv"
    table = pd.DataFrame(
        {
            "question": [first for first, _, _ in rows],
            "index": range(len(rows)),
            "image": [RED] + [image] * (len(rows) - 1),
            "hint": [second for _, second, _ in rows],
            "answer": [third for _, _, third in rows],
        }
    )
    table.to_csv(path, sep="\t", index=False, lineterminator=end, encoding="utf-8-sig" if bom else "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsv_cells, "CHUNK", chunk)
        found = read_tsv(path)
    assert [(r["question"] or "", r["answer"] or "") for r in found.rows] == [(a, c) for a, _, c in rows]
    assert [r["hint"] for r in found.rows] == [None if b in ("", "nan", "NaN") else b for _, b, _ in rows]
    images = 0 if not image else 2 if image.startswith("[") else 1
    assert [len(r.images) for r in found.rows] == [1] + [images] * (len(rows) - 1)
    for r in found.rows:
        assert [i.content() for i in r.images] == [png("red"), png("blue")][: len(r.images)]


def test_lines_are_counted_through_cells_with_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path, row(1, question='"two\nlines"'), "", row(2), row(3, image=f'"{RED[:8]}\n{RED[8:]}"'), row(4))
    assert [r.line for r in read_tsv(path).rows] == [2, 5, 6, 8]
    assert [r.images[0].content() for r in read_tsv(path).rows] == [png()] * 4


def test_options_end_at_the_last_one(tmp_path: Path) -> None:
    header = "index\tA\tB\tC\tD\tanswer\n"
    rows = ("1\tx\ty\t\t\tA", "2\tx\t\tz\t\tA", "3\tx\tnan\tz\tnan\tA", "4\tx\ty\tz\tNaN\tD", "5\tx\tNone\t\t\tB")
    found = [r.options for r in read_tsv(write(tmp_path, *rows, header=header)).rows]
    assert found == [("x", "y"), ("x", "", "z"), ("x", "nan", "z"), ("x", "y", "z", "NaN"), ("x", "None")]


def test_an_index_with_a_fraction_is_an_integer(tmp_path: Path) -> None:
    found = read_tsv(write(tmp_path, row("1.0"), row("2.0", image="1.0"), row(1000001, image="1"), row("a-1")))
    assert list(found.by_index) == ["1", "2", "1000001", "a-1"]
    assert {r.images[0].index for r in found.rows[:3]} == {"1"}


def test_a_missing_cell_is_none_and_an_unknown_column_a_key_error(tmp_path: Path) -> None:
    (found,) = read_tsv(write(tmp_path, row(1, question=""))).rows
    assert found["question"] is None
    assert "image" not in found
    with pytest.raises(KeyError):
        found["hint"]


# ------------------------------------------------------------------------------------------------------------- images


def test_rows_with_the_same_image_share_it(tmp_path: Path) -> None:
    rows = (
        row(1),
        row(2, image="3"),
        row(3, image="4"),
        row(4, image=BLUE),
        row(5),
        row(6, image=f"['{BLUE}', '{RED}']"),
    )
    images = [r.images for r in read_tsv(write(tmp_path, *rows)).rows]
    assert images[0] == images[4]
    assert images[1] == images[2] == images[3]
    assert images[5] == (*images[3], *images[0])
    assert [i.key for own in images for i in own].count(images[0][0].key) == 3
    assert images[0][0].digest() != images[1][0].digest()
    assert len({i.name for own in images for i in own}) == 2


def test_images_are_pickled_as_places(tmp_path: Path) -> None:
    (found,) = read_tsv(write(tmp_path, row(1, image=b64(png(side=300)) + ""))).rows
    packed = pickle.dumps(found.images[0])
    assert len(packed) < 1000
    copy = pickle.loads(packed)
    assert copy == found.images[0]
    assert copy.size() == (300, 300)
    assert copy.load().getpixel((0, 0)) == (255, 0, 0)


def test_a_data_url_is_an_image(tmp_path: Path) -> None:
    (found,) = read_tsv(write(tmp_path, row(1, image=f"data:image/png;base64,{RED}"))).rows
    assert found.images[0].content() == png()


def test_image_names(tmp_path: Path) -> None:
    path = write(
        tmp_path, "1\ta.png", "2\t\"['a.png', 'b/c d.png']\"", "3\t", "4\t../a.png", header="index\timage_path\n"
    )
    rows = read_tsv(path, images=True).rows
    assert [r.image_names for r in rows] == [("a.png",), ("a.png", "b/c d.png"), (), ("../a.png",)]
    assert [i.name for i in rows[1].images_or_files(tmp_path, task="mine")] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b/c d.png"),
    ]
    with pytest.raises(UserError, match="is outside"):
        rows[3].images_or_files(tmp_path, task="mine")


def test_an_image_with_wrong_characters_inside_fails_when_it_is_read(tmp_path: Path) -> None:
    corrupt = b64(os.urandom(300))
    (found,) = read_tsv(write(tmp_path, row(1, image=f"{corrupt[:200]}<!>*{corrupt[204:]}"))).rows
    with pytest.raises(ValueError, match=r"Mine\.tsv, line 2: the image is not valid base64"):
        found.images[0].load()


def test_a_file_that_was_written_again_is_not_read_at_the_old_places(tmp_path: Path) -> None:
    (found,) = read_tsv(write(tmp_path, row(1))).rows
    write(tmp_path, row(1, image=BLUE))
    os.utime(tmp_path / "Mine.tsv", ns=(1, 1))
    with pytest.raises(OSError, match="has changed since its rows were read"):
        found.images[0].load()


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first = read_tsv(write(tmp_path, row(1), row(2, image="1"))).digest
    assert read_tsv(write(tmp_path, row(1, question='"What?"') + "\r", row(2, image="1"))).digest == first
    for other in (row(1, image=BLUE), row(1, question="Who?"), row(3)):
        assert read_tsv(write(tmp_path, other, row(2, image="3" if other.startswith("3") else "1"))).digest != first


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (HEADER.encode(), "has no rows"),
        (b"<!DOCTYPE html>\n<html>\t</html>\n", "a web page"),
        (b"\n  <html>\n", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (gzip.compress(HEADER.encode(), mtime=0), r"compressed \(gzip\)"),
        ("index\timage\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04...", "Excel"),
        (b"index,image,question\n1,2,3\n", r"has no column index, question, image \(or image_path\) \(it has 'index,image"),
        (b"index\tquestion\n1\tx\n", r"has no column image \(or image_path\)"),
        (b"index\timage\n1\tx\n", "has no column question"),
        (b"index\timage\tquestion\tquestion\n", "line 1: two columns are called 'question'"),
        (b'index\timage\tquestion\t"a\nb"\n', "line 1: the column .* has a name"),
        (f"{HEADER}{row(1)}\n2\t{RED}\n".encode(), "line 3: the row has 2 cells, and the header 6"),
        (f"{HEADER}{row(1)}\n{row(2)}\tx\n".encode(), "line 3: the row has 7 cells"),
        (f"{HEADER}{row(1)}\n{row(2)[:-9]}".encode(), "line 3: the row has 3 cells"),
        (f"{HEADER}{row(1)}\n2".encode(), "line 3: the row has 1 cells"),
        (f'{HEADER}{row(1, question=chr(34) + "x")}\n{row(2)}\n'.encode(), "line 2: a cell begins with a quote"),
        (f'{HEADER}{row(1, question=chr(34) + "x" + chr(34) + "y")}\n'.encode(), "line 2: there is text after the"),
        (f"{HEADER}{row(1)}\n{row(2)}\n{row('1.0')}\n".encode(), "line 4: the index 1 is already used in line 2"),
        (f"{HEADER}{row('')}\n".encode(), "line 2: the index is ''"),
        (f"{HEADER}{row(1)}\n{row(2, image='7')}\n".encode(), "line 3: the image is '7', .*not the index of a row"),
        (f"{HEADER}{row(1, image='1')}\n".encode(), "line 2: the image is that of row 1, whose image is that of this"),
        (f"{HEADER}{row(1, image='2')}\n{row(2, image='1')}\n".encode(), "line 2: the image is that of row 1, whose"),
        (f"{HEADER}{row(1, image='2')}\n{row(2, image='')}\n".encode(), "line 2: the image is that of row 2, which has n"),
        (f"{HEADER}{row(1, image='*' * 80)}\n".encode(), "line 2: the image is '.*neither base64 nor a list"),
        (f"{HEADER}{row(1, image=RED[:-1])}\n".encode(), "line 2: the image has .* cannot be base64"),
        (f"{HEADER}{row(1, image=f'[{RED}]')}\n".encode(), "line 2: the image is a list that cannot be read"),
        (f"{HEADER}{row(1, image='[' + ' ' * 80)}\n".encode(), "line 2: the image is a list that cannot be read"),
        (f"{HEADER}{row(1)}\n".encode() + row(2, question="\xe9").encode("latin-1"), "line 3: a cell is not valid UTF-8"),
        (f"{HEADER}{row(1, question=chr(0))}\n".encode(), "line 2: a cell has NUL bytes"),
        (b"index\timage\tquestion\n1\t" + RED[:-2].encode(), "line 2: the row has 2 cells"),
        (b"index\tquestion\timage\n1\tx\t" + RED[:-2].encode(), "line 2: the image has .* truncated"),
    ],
)  # fmt: skip
def test_faults_are_one_sentence_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "Mine.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_tsv(path, columns=["question"], task="mine", images=True)
    assert str(error.value).startswith(f"mine: {path}")
    assert "\n" not in str(error.value)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsv_cells, "LARGEST_CELL", 2 << 20)
    path = write(tmp_path, row(1, question='"' + "x" * (5 << 20)))
    with pytest.raises(UserError, match="line 2: a line or a cell of more than 2 MB"):
        read_tsv(path)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Mine.tsv")
    with pytest.raises(UserError, match="not a regular file"):
        read_tsv(tmp_path / "Mine.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        read_tsv(tmp_path / "missing.tsv")


# -------------------------------------------------------------------------------------------------------- official data


@pytest.mark.parametrize("place", ["mmbench/Mine.tsv", "Mine.tsv", "vlmevalkit/Mine.tsv", "LMUData/Mine.tsv"])
def test_places(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    write(tmp_path, row(1)).rename(tmp_path / place)
    data = OfficialData("root", tmp_path)
    found = data.tsv(*tsv_places("mmbench", "Other", "Mine"), task="mmbench", columns=("A", "B"))
    assert found.path == tmp_path / place
    assert found.rows[0].options == ("a", "b")
    with pytest.raises(UserError, match=r"no Other.tsv under .*; expected mmbench/Other.tsv or Other.tsv"):
        data.tsv(*tsv_places("mmbench", "Other"), task="mmbench")


def test_scoring_needs_no_column_of_images(tmp_path: Path) -> None:
    write(tmp_path, "1\twhat?", header="index\tquestion\n")
    with pytest.raises(UserError, match="has no column image"):
        OfficialData("root", tmp_path).tsv("Mine.tsv", task="mine")
    found = OfficialData("root", tmp_path, images_required=False).tsv("Mine.tsv", task="mine")
    assert not found.has_images
    assert found.rows[0].images == ()


# -------------------------------------------------------------------------------------------------------------- memory


MEASURE = """
import resource, sys
from pathlib import Path
from evalkit.tsv import read_tsv
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_tsv(Path(sys.argv[1]))
print(len(found.rows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_images_are_not_held(tmp_path: Path) -> None:
    images = [b64(os.urandom(150_000)) for _ in range(10)]
    path = write(tmp_path, *(row(i, image=f"{i:08}{images[i % 10]}") for i in range(1500)))
    assert path.stat().st_size > 300e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, cwd="/"
    )
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 1500
    assert kilobytes < 60_000
