"""The layout of ``jsonl.py`` as Parquet: one user a row, history and queries as lists of structs."""

from __future__ import annotations

import importlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from perfit.data.arrow_values import Leaves, NamedTwiceError, TooLargeError, find_leaves, to_python
from perfit.data.jsonl import own_records, split_users
from perfit.data.opening import allowed, check_is_file, open_file
from perfit.data.parquet_pages import PageFaultError, unpacked_bytes
from perfit.data.records import OWN, NotText, Place
from perfit.data.schema import Dataset
from perfit.durable.files import write_atomically
from perfit.errors import DataError, MissingExtraError, PerfitError

_COLUMNS = (OWN.user, OWN.history, OWN.queries, "split")
_INDEX = re.compile(r"__index_level_\d+__")
"""Columns that pandas adds for its row numbers."""

_VALUE_BYTES = 64
"""What one decoded value takes, about, once it is a part of a record."""


def read_parquet(path: Path) -> Dataset:
    """Reads a Parquet file. A null in a struct is an absent field; dates and timestamps become ISO text.

    Raises:
        DataError: For every fault of a row, and for a file without users.
        MissingExtraError: When pyarrow is not installed.
    """
    users, others = split_users(_rows(path))
    if not users and not others:
        raise DataError("there are no users in the file", file=str(path), remedy="write one user per row")
    return Dataset(users, others, source=str(path))


def write_parquet(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a dataset as Parquet, replacing the file in one step.

    Raises:
        DataError: When a field of an item is named "id" or "date", or an item has no field.
        MissingExtraError: When pyarrow is not installed.
    """
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    text = arrow.string()
    names = sorted(
        {name for user in (*dataset.users, *dataset.others) for item in user.history for name in item.fields}
    )
    item_type = arrow.struct([(name, text) for name in ("id", *names, "date")])
    query_type = arrow.struct([(name, text) for name in ("id", "input", "gold", "date")])
    schema = arrow.schema(
        [("user", text), ("history", arrow.list_(item_type)), ("queries", arrow.list_(query_type)), ("split", text)]
    )
    content = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(own_records(dataset), schema=schema), content)
    write_atomically(Path(path), content.getvalue())


def _rows(path: Path) -> Iterator[tuple[Place, object]]:
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    number = 0
    try:
        check_is_file(path)
        limit = allowed(path.stat().st_size)
        budget = [limit]
        with parquet.ParquetFile(path) as file:
            leaves = _leaves(arrow, file, path)
            _check_size(file.metadata, leaves.indices, limit, path)
            _check_pages(file.metadata, leaves.indices, limit, path)
        with parquet.ParquetFile(path, read_dictionary=leaves.texts) as file:
            for batch in file.iter_batches(batch_size=64, columns=leaves.paths, use_threads=False):
                columns = [to_python(arrow, column, budget) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    row = dict(zip(batch.schema.names, values, strict=True))
                    yield Place(str(path), f"row {number}"), _with_skipped(row, leaves)
                    number += 1
    except PerfitError:
        raise
    except NamedTwiceError as error:
        raise DataError(
            f"the column {error} is there twice", file=str(path), remedy="give every column a name of its own"
        ) from None
    except PageFaultError:
        raise DataError(
            "not a readable Parquet file (its pages are not what its end states)",
            file=str(path),
            remedy="write or fetch it again",
        ) from None
    except TooLargeError:
        raise _too_large(path, limit) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"a text is not UTF-8 at its byte {error.start}",
            file=str(path),
            record=f"row {number} or after",
            remedy="write the column as UTF-8 strings",
        ) from None
    except FileNotFoundError:
        raise DataError("no such file", file=str(path), remedy="check the path") from None
    except Exception as error:  # pyarrow raises its own, and Python's for values that Python cannot hold
        raise DataError(
            f"not a readable Parquet file ({type(error).__name__})", file=str(path), remedy="write or fetch it again"
        ) from None


def _leaves(arrow: Any, file: Any, path: Path) -> Leaves:
    paths = [file.schema.column(index).path for index in range(len(file.schema))]
    leaves = find_leaves(arrow, file.schema_arrow, paths, _COLUMNS)
    read = {name.split(".")[0] for name in leaves.paths}
    for column in (OWN.history, OWN.queries):
        if column not in read and any(of == column and name is not None for of, name in leaves.skipped):
            raise DataError(
                f"the column {column!r} has no field of text or numbers",
                file=str(path),
                remedy="write texts as strings",
            )
    return leaves


def _check_size(metadata: Any, leaves: Sequence[int], limit: int, path: Path) -> None:
    """Refuses a small file that decodes to far more: its chunks' sizes, and values that a few bytes repeat."""
    size = 0
    for group in range(metadata.num_row_groups):
        for leaf in leaves:
            chunk = metadata.row_group(group).column(leaf)
            size += max(chunk.total_uncompressed_size, chunk.num_values * _VALUE_BYTES)
    if size > limit or metadata.num_rows * _VALUE_BYTES > limit:
        raise _too_large(path, limit)


def _check_pages(metadata: Any, leaves: Sequence[int], limit: int, path: Path) -> None:
    """The same by what the pages say, for the footer may lie."""
    size = 0
    with open_file(path) as stream:
        for group in range(metadata.num_row_groups):
            for leaf in leaves:
                chunk = metadata.row_group(group).column(leaf)
                begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
                size += unpacked_bytes(stream, begin, chunk.total_compressed_size, chunk.num_values)
    if size > limit:
        raise _too_large(path, limit)


def _too_large(path: Path, limit: int) -> DataError:
    return DataError(
        f"the Parquet file decodes to more than {limit} bytes, the limit for its size",
        file=str(path),
        remedy="if you trust it, write it as JSON Lines",
    )


def _with_skipped(row: dict[str, object], leaves: Leaves) -> dict[str, object]:
    """The row with a mark for every value that was not decoded."""
    for (column, name), kind in leaves.skipped.items():
        records = row.get(column)
        if name is None:
            if not _INDEX.fullmatch(column):
                row[column] = NotText(kind)
        elif isinstance(records, list):
            for record in records:
                if isinstance(record, dict):
                    record[name] = NotText(kind)
        elif column not in _COLUMNS:
            row[column] = NotText("a list")
    return row


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("parquet", "pyarrow") from None
