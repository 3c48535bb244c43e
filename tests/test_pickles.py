from __future__ import annotations

import os
import pickle
import resource
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.pickles import load_plain_pickle


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_calls_something_is_refused_and_not_executed(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "executed"
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps([{"split": Evil(target)}], protocol=protocol))
    with pytest.raises(UserError, match=r"refs\.p is not a readable annotation pickle .*mkdir"):
        load_plain_pickle(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())  # the same bytes do execute when unpickled the ordinary way
    assert target.exists()


# What Python 2.7's cPickle writes for [{'sent': 'caf\xc3\xa9', 'raw': u'left man', 'ref_id': 7, 'n': 5L}].
PYTHON_2 = {
    "protocol 0": b"(lp1\n(dp2\nS'sent'\np3\nS'caf\\xc3\\xa9'\np4\nsS'raw'\np5\nVleft man\np6\nsS'ref_id'\np7\nI7\nsS'n'\nL5L\nsa.",
    "protocol 2": b"\x80\x02]q\x01}q\x02(U\x04sentq\x03U\x05caf\xc3\xa9q\x04U\x03rawq\x05X\x08\x00\x00\x00left manq\x06"
    b"U\x06ref_idq\x07K\x07U\x01n\x8a\x01\x05ua.",
}  # fmt: skip


@pytest.mark.parametrize("content", PYTHON_2.values(), ids=PYTHON_2.keys())
def test_python_2_pickles_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    assert load_plain_pickle(path) == [{"sent": "café", "raw": "left man", "ref_id": 7, "n": 5}]


def test_bytes_that_are_no_utf8_are_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(b"\x80\x02U\x04caf\xe9q\x01.")
    assert load_plain_pickle(path) == "café"


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02]q\x01(", b"not a pickle", b"\x80\x02}q\x01U\x01", b"\x80\x02P1\n."]
)
def test_corruption_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable annotation pickle"):
        load_plain_pickle(path)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02]r\xff\xff\xff\x3f.", b"]p1073741823\n.", b"\x80\x02]q\x00r\x00\x00\x00\x7f."],
)
def test_file_that_names_enormous_memo_takes_no_memory_for_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load_plain_pickle(path) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB; C's unpickler would fill 16 GB


@pytest.mark.parametrize(
    "content", [b"c" + b"x" * 100_000 + b"\ny\n.", b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.", b"F(X\x06\n."]
)
def test_messages_about_corrupt_files_are_short(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable annotation pickle") as refused:
        load_plain_pickle(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600
