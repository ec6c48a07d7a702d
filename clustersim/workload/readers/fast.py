"""Whole columns at once, by Arrow; answers None where a file does not parse, and judges no values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from clustersim.workload.readers.cells import Column, Kind, Ragged

if TYPE_CHECKING:
    from clustersim.workload.readers.table import Table

_BLOCK_BYTES = 16 * 2**20
_TYPES: Mapping[Kind, Any] = {
    "tokens": pa.float64(),
    "count": pa.float64(),
    "number": pa.float64(),
    "text": pa.string(),
    "ids": pa.list_(pa.int64()),
}


def read(table: Table, kinds: Mapping[str, Kind]) -> dict[str, Column] | None:
    """Return the named columns, or None if some cell is not of its kind."""
    if table.container == "parquet":
        return _converted(_try(_parquet, table, kinds, None), kinds)
    reader = _csv if table.container == "csv" else _json
    times = [pa.int64(), pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC")]
    for time in times if "time" in kinds.values() else [None]:
        columns = _converted(_try(reader, table, kinds, time), kinds)
        if columns is not None:
            return columns
    return None


def _try(reader: Any, table: Table, kinds: Mapping[str, Kind], time: Any) -> Any:
    types = {name: time if kind == "time" else _TYPES[kind] for name, kind in kinds.items()}
    try:
        return reader(table, types)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError):
        return None


def _csv(table: Table, types: Mapping[str, Any]) -> Any:
    options = pa.csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[])
    with pa.input_stream(str(table.file), compression=_compression(table)) as stream:
        return pa.csv.read_csv(
            stream,
            pa.csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=table.names, skip_rows=1),
            pa.csv.ParseOptions(delimiter=table.delimiter),
            options,
        )


def _json(table: Table, types: Mapping[str, Any]) -> Any:
    schema = pa.schema(list(types.items()))
    with pa.input_stream(str(table.file), compression=_compression(table)) as stream:
        return pa.json.read_json(
            stream,
            pa.json.ReadOptions(block_size=_BLOCK_BYTES),
            pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )


def _parquet(table: Table, types: Mapping[str, Any]) -> Any:
    read = pa.parquet.read_table(table.file, columns=list(types))
    for number, (name, wanted) in enumerate(types.items()):
        if wanted is not None:
            read = read.set_column(number, name, read[name].cast(wanted))
    return read.select(list(types))


def _compression(table: Table) -> str | None:
    return "gzip" if table.file.suffix.lower() == ".gz" else None


def _converted(read: Any, kinds: Mapping[str, Kind]) -> dict[str, Column] | None:
    if read is None or any(read[name].null_count or not _plain(read[name].type) for name in kinds):
        return None
    return {name: _array(read[name], kind) for name, kind in kinds.items()}


def _plain(kind: Any) -> bool:
    return kind in _TYPES.values() or pa.types.is_integer(kind) or pa.types.is_timestamp(kind)


def _array(column: Any, kind: Kind) -> Column:
    if kind == "text":
        coded = pc.dictionary_encode(column).combine_chunks()
        words: np.ndarray = np.array(coded.dictionary.to_pylist(), dtype=object)[_numbers(coded.indices)]
        return words
    if kind == "ids":
        counts = _numbers(pc.list_value_length(column))
        values = _numbers(pc.list_flatten(column))
        return Ragged(values, np.concatenate(([0], np.cumsum(counts))).astype(np.int64))
    if pa.types.is_timestamp(column.type):
        return _numbers(column.cast(pa.timestamp("ns")).cast(pa.int64())).view("datetime64[ns]")
    return _numbers(column)


def _numbers(column: Any) -> np.ndarray:
    """Return a column without nulls as numpy; Arrow's own way would import pandas, which takes 0.2 s."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    dtype = np.dtype(column.type.to_pandas_dtype())
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
