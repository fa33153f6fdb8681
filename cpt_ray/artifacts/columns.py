"""Columns of a whole corpus as one array, and back.

Arrow's strings and lists have 32-bit offsets: one array ends at 2 GiB of text (67 million ids of 32 characters) or 2**31
list values, and joining chunks beyond that fails. What is gathered in memory has 64-bit offsets; what is written has the
32-bit ones that every reader takes, in chunks that fit.
"""

from __future__ import annotations

import pyarrow as pa

ROWS = 1 << 20
"""Rows of a chunk that is cast back at a time."""


def large(kind: pa.DataType) -> pa.DataType:
    """The same type with 64-bit offsets, where it has offsets."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.large_list(large(kind.value_type))
    return kind


def whole(column: pa.ChunkedArray) -> pa.Array:
    """All chunks of a column as one array, of type `large`."""
    return column.cast(large(column.type)).combine_chunks()


def narrow(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of `table` in the types of `schema`, in chunks whose offsets fit 32 bits."""
    if table.schema == schema:
        return table
    pieces = [
        # take, not slice: a slice keeps the offsets of the whole, and the cast looks at those.
        table.take(pa.array(range(start, min(start + ROWS, table.num_rows)), pa.int64())).cast(schema)
        for start in range(0, table.num_rows, ROWS)
    ]
    return pa.concat_tables([schema.empty_table(), *pieces])
