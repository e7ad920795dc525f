"""The layout of ``jsonl.py`` as Parquet: one user a row, history and queries as lists of structs."""

from __future__ import annotations

import datetime
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfit.data.jsonl import own_records, split_users
from perfit.data.records import Place
from perfit.data.schema import Dataset
from perfit.errors import DataError, MissingExtraError


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
    target = Path(path)
    part = target.with_name(target.name + ".tmp")
    try:
        parquet.write_table(arrow.Table.from_pylist(own_records(dataset), schema=schema), part)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _rows(path: Path) -> Iterator[tuple[Place, object]]:
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    yield Place(str(path), f"row {number}"), _plain(row)
                    number += 1
    except UnicodeDecodeError as error:
        raise DataError(
            f"a text is not UTF-8 at its byte {error.start}",
            file=str(path),
            record=f"row {number} or after",
            remedy="write the column as UTF-8 strings",
        ) from None
    except FileNotFoundError:
        raise DataError("no such file", file=str(path), remedy="check the path") from None
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"not a readable Parquet file ({type(error).__name__})", file=str(path), remedy="write or fetch it again"
        ) from None


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("parquet", "pyarrow") from None
