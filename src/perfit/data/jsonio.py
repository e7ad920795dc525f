"""JSON from disk and back, with one-line errors that never quote the content."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from perfit.data.opening import open_unpacked, read_whole
from perfit.data.saying import shown_name
from perfit.durable.files import write_atomically
from perfit.errors import DataError

MAX_LINE_BYTES = 256 * 1024 * 1024
"""Longest line of a JSON Lines file (one user); a longer one is taken for a file that is not JSON Lines."""

_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """The file's bytes, unpacked when the name ends in ``.gz``.

    Raises:
        DataError: When the file is missing, unreadable, no file, far larger than it looks, or a damaged gzip file.
    """
    try:
        return read_whole(path)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def read_json(path: Path) -> object:
    """Parses a whole ``.json`` or ``.json.gz`` file.

    Raises:
        DataError: With line and column for broken JSON, the byte offset for broken UTF-8, and the way out.
    """
    return parse_json(read_bytes(path), file=str(path))


def read_json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yields ``(line number, value)`` for every line that is not blank, one line in memory at a time.

    Raises:
        DataError: As ``read_json``, and for a line longer than ``MAX_LINE_BYTES``.
    """
    try:
        with open_unpacked(path) as stream:
            number, offset = 0, 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"the line is longer than {MAX_LINE_BYTES} bytes",
                        file=str(path),
                        record=f"line {number}",
                        remedy="write one user per line, or split this user",
                    )
                if line.removeprefix(_BOM).strip():
                    yield number, parse_json(line, file=str(path), line=number, offset=offset)
                offset += len(line)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def parse_json(data: bytes, *, file: str, line: int | None = None, offset: int = 0) -> object:
    """Parses bytes as JSON.

    Args:
        data: The whole file, or one line of it.
        file: Named in errors.
        line: Number of the line ``data`` is, when it is one.
        offset: Where ``data`` begins in the file.

    Raises:
        DataError: When the bytes are HTML, empty, not UTF-8, or not JSON.
    """
    record = None if line is None else f"line {line}"
    skip = len(_BOM) if data.startswith(_BOM) else 0
    head = data[skip : skip + 512].lstrip()
    if not head and not data[skip:].strip():
        raise DataError("the file is empty", file=file, record=record, remedy="fetch or write it again")
    if head.startswith(b"<"):
        raise DataError(
            "this is a web page (HTML), not JSON",
            file=file,
            record=record,
            remedy="the download address was wrong or needs a login; fetch the file again",
        )
    try:
        text = data[skip:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 at byte {offset + skip + error.start}",
            file=file,
            record=record,
            remedy="save the file as UTF-8",
        ) from None
    try:
        return cast(object, json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object))
    except _NamedTwiceError as error:
        raise DataError(
            f"the field {error.args[0]} is named twice in one record",
            file=file,
            record=record,
            remedy="keep one of the two",
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno}, column {error.colno}"
        raise DataError(
            "not valid JSON", file=file, record=where, remedy="look there for a missing bracket, comma or quote"
        ) from None
    except ValueError:
        raise DataError(
            "a number is NaN, Infinity or far too long",
            file=file,
            record=record,
            remedy="write it as text or leave it out",
        ) from None
    except RecursionError:
        raise DataError(
            "the JSON is nested too deeply", file=file, record=record, remedy="this is not a file of users"
        ) from None


def write_text_atomically(path: Path, text: str) -> None:
    """Writes UTF-8 text so that the file is either complete or not there."""
    write_atomically(path, text.encode("utf-8"))


class _NamedTwiceError(Exception):
    """An object has a name twice; the name, fit for a message."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _NamedTwiceError(shown_name(name))
            seen.add(name)
    return record


def _no_constant(_: str) -> object:
    raise ValueError


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError("no such file", file=str(path), remedy="check the path")
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return DataError("the gzip file is cut short or damaged", file=str(path), remedy="fetch it again")
    reason = error.strerror if isinstance(error, OSError) else None
    return DataError(f"cannot be read ({reason or type(error).__name__})", file=str(path), remedy="check the file")
