"""Write the result tables as Parquet files, with the meaning of every column in the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clustersim.record.tables import TABLES, Table

Columns = Mapping[str, np.ndarray[Any, Any]]


def write_tables(folder: Path, tables: Mapping[str, Columns]) -> None:
    """Write each of *tables*, by name, to a Parquet file of its name in *folder*."""
    import pyarrow.parquet as pq

    for name, columns in tables.items():
        pq.write_table(
            arrow_table(TABLES[name], columns), folder / f"{name}.parquet", compression="zstd",
            use_dictionary=[c.name for c in TABLES[name].columns if c.dtype == "string"],
        )  # fmt: skip


def arrow_table(table: Table, columns: Columns) -> Any:
    """Return *columns* as an Arrow table with the types, units and meanings of *table*."""
    import pyarrow as pa

    fields = [
        pa.field(c.name, _arrow_type(pa, c.dtype), nullable=True, metadata={"doc": c.doc})
        for c in table.columns
    ]
    schema = pa.schema(fields, metadata={"row": table.row})
    arrays = [_arrow_array(pa, field.type, columns[field.name]) for field in fields]
    return pa.Table.from_arrays(arrays, schema=schema)


def _arrow_array(pa: Any, kind: Any, values: np.ndarray[Any, Any]) -> Any:
    """Return *values* as an Arrow array; numbers without a copy, and without waking pandas."""
    if kind == pa.string():
        return _strings(pa, values)
    plain = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])


def _strings(pa: Any, values: np.ndarray[Any, Any]) -> Any:
    texts = [text.encode() for text in values.tolist()]
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def _arrow_type(pa: Any, dtype: str) -> Any:
    return pa.string() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))
