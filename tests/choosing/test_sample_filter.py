"""Choosing by ids, percentages and complete clusters, and what of it is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.choosing.sample_filter import EVERYTHING, SampleFilter, check_ids, filter_from_record
from evalkit.errors import UserError
from evalkit.results.store.manifest import SplitRecord
from evalkit.types import Sample

SAMPLES = [Sample(str(n), (), "", (), cluster=str(n // 2), meta={"even": n % 2 == 0}) for n in range(100)]


def ids_of(found: list[Sample]) -> list[str]:
    return [sample.id for sample in found]


def choose(chosen: SampleFilter, *, together: bool = False) -> list[str]:
    return ids_of(chosen.choose(SAMPLES, "t", "s", seed=3, together=together))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "7\n\n 3 \r\n7\n"),
        ("ids", "7\n3"),
        ("ids.json", '["7", 3, "7"]'),
        ("rows.json", '[{"id": "7"}, {"id": 3}]'),
        ("rows.jsonl", '{"id": "7", "score": 0}\n{"id": 3}\n'),
        ("rows.jsonl", '{"question_id": 7}\n{"question_id": 3}\n'),
        ("rows.csv", "score,id\n0,7\n1,3\n"),
        ("rows.tsv", "index\tanswer\n7\tx\n3\ty\n"),
        ("bom.txt", "\ufeff7\n3\n"),
    ],
)
def test_ids_are_read_from_several_formats(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    chosen = SampleFilter.of(None, str(path), None)
    assert chosen.ids == ("7", "3")
    assert choose(chosen) == ["3", "7"]  # the order of the split
    assert chosen.described == f"--ids {name}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ids.txt", b"", "there is no id in it"),
        ("ids.txt", b"\xff\xfe1", "not valid UTF-8"),
        ("ids.json", b"[1, ", "not valid JSON"),
        ("ids.json", b"[1, [2]]", "entry 2 is [2]; expected an id"),
        ("ids.json", b"[true]", "entry 1 is True; expected an id"),
        ("ids.jsonl", b'{"id": 1}\n{"score": 2}\n', "line 2: id is None; expected an id"),
        ("rows.csv", b"name,score\na,1\n", "it has 'name', 'score'; expected a column id or"),
        ("rows.csv", b"id,score\n1\n", "not as many cells"),
    ],
)
def test_wrong_file_of_ids_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        SampleFilter.of(None, str(path), None)
    assert message in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        SampleFilter.of(None, str(tmp_path / "missing"), None)


def test_unknown_ids_are_counted() -> None:
    chosen = SampleFilter(ids=("1", "x1", "x2", "x3", "x4"), ids_name="hard.txt")
    with pytest.raises(UserError) as error:
        check_ids(chosen, {"t/s": SAMPLES, "t/u": []})
    assert str(error.value) == "--ids hard.txt: 4 of 5 ids are not in t/s, t/u (x1, x2, x3, …)."
    check_ids(SampleFilter(ids=("1", "x"), ids_name=""), {"t/s": SAMPLES, "t/u": [Sample("x", (), "", (), "")]})
    with pytest.raises(UserError, match="none of its 1 ids is one of this split"):
        choose(SampleFilter(ids=("x",), ids_name="hard.txt"))


def test_percentage_is_of_those_that_fit() -> None:
    assert len(choose(SampleFilter(limit="5%"))) == 5
    assert len(choose(SampleFilter(where="even", limit="5%"))) == 3  # of 50, rounded up
    assert len(choose(SampleFilter(limit="0.01%"))) == 1
    assert choose(SampleFilter(limit="100%")) == ids_of(SAMPLES)
    assert choose(SampleFilter(limit="5%")) == choose(SampleFilter(limit=5))
    assert set(choose(SampleFilter(limit="5%"))) < set(choose(SampleFilter(limit="20%")))


def test_complete_clusters_are_chosen() -> None:
    assert choose(SampleFilter(ids=("3", "8")), together=True) == ["2", "3", "8", "9"]
    assert choose(SampleFilter(where='even and id == "0"'), together=True) == ["0", "1"]


@pytest.mark.parametrize(
    ("chosen", "described"),
    [
        (EVERYTHING, None),
        (SampleFilter(limit=12), None),  # the number of samples says it
        (SampleFilter(limit="5%"), "--limit 5%"),
        (SampleFilter("level >= 3", limit=12), "--where 'level >= 3' --limit 12"),
        (SampleFilter("even", ("1",), "a b.txt"), "--where even --ids 'a b.txt'"),
    ],
)
def test_choice_is_described_and_recorded(chosen: SampleFilter, described: str | None) -> None:
    assert chosen.described == described
    share = chosen.limit if isinstance(chosen.limit, str) else None
    record = SplitRecord(
        reference="t/s", limit=None if share else chosen.limit, share=share, where=chosen.where, ids=chosen.ids,
        ids_name=chosen.ids_name or None,
    )  # fmt: skip
    again = SplitRecord.from_dict("t/s", {**record.to_dict(), "ids": None if chosen.ids is None else list(chosen.ids)})
    assert again.chosen == chosen


@pytest.mark.parametrize(
    ("key", "value"),
    [("limit", True), ("limit", "5"), ("share", 5), ("share", "500%"), ("where", 3), ("ids", "1"), ("ids", ["a\nb"])],
)
def test_wrong_record_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{key}' of the split"):
        filter_from_record({key: value}, "t/s")
