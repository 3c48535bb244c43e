"""Records as a pandas frame, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.results.tables import as_text

from .records import Record, as_kind, kinds_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per sample; see ``records.py`` for the columns.  Lists stay lists; missing values are None or NaN."""
    import pandas as pd

    kinds = kinds_of(records)
    columns = {name: [as_kind(record.get(name), kind) for record in records] for name, kind in kinds.items()}
    frame = pd.DataFrame(columns, columns=list(kinds))
    for name, kind in kinds.items():
        if kind == "number":
            frame[name] = frame[name].astype("float64")
        elif kind == "count":  # integers, even if some are missing
            frame[name] = frame[name].astype("int64" if frame[name].notna().all() else "Int64")
    return frame


def to_csv(records: Sequence[Record], *, formulas: bool = False) -> str:
    """One line per sample, lists and boxes as JSON, missing values empty.

    Args:
        formulas: write texts that a spreadsheet would compute as they are, without an apostrophe in front.
    """
    kinds = kinds_of(records)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(kinds)
    for record in records:
        cells = [_cell(as_kind(record.get(name), kind), kind) for name, kind in kinds.items()]
        writer.writerow(cells if formulas else map(as_text, cells))
    return out.getvalue()


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return ""
    if kind in ("texts", "box"):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if kind == "truth" else value


def arrow_type(kind: str) -> pa.DataType:
    """The Parquet type of a column of this kind."""
    import pyarrow as pa

    return {
        "text": pa.string(),
        "json": pa.string(),
        "texts": pa.list_(pa.string()),
        "box": pa.list_(pa.float64()),
        "number": pa.float64(),
        "count": pa.int64(),
        "truth": pa.bool_(),
    }[kind]


def to_table(records: Sequence[Record], kinds: Mapping[str, str]) -> pa.Table:
    """An Arrow table with the columns ``kinds``."""
    import pyarrow as pa

    schema = pa.schema([(name, arrow_type(kind)) for name, kind in kinds.items()])
    columns = {name: [as_kind(record.get(name), kind) for record in records] for name, kind in kinds.items()}
    return pa.table(columns, schema=schema)


def to_parquet(records: Sequence[Record]) -> bytes:
    """All records in one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(to_table(records, kinds_of(records)), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
