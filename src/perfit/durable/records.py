"""JSON files of ours: read within bounds, and bound to a checksum, so that no changed character is taken for a value.

A record carries ``sha256`` as its last key: over all other keys, in their order. Of a file of records, one a line, each
checksum is also over the one before it, so that no line can be changed, moved or left out but at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perfit.durable.files import write_atomically
from perfit.errors import DamagedError, StoreError

SEAL = "sha256"
MAX_BYTES = 1 << 30
_MAX_DEPTH = 64


class NotAsWrittenError(ValueError):
    """Bytes that are no record, or not the ones that were written. Its text never quotes them."""


def parse(content: bytes) -> Any:
    """JSON of bounded depth.

    Raises:
        NotAsWrittenError: It is none.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError, MemoryError):
        raise NotAsWrittenError("cannot be read as JSON") from None
    if content.count(b"[") + content.count(b"{") > _MAX_DEPTH and _deeper(value, _MAX_DEPTH):
        raise NotAsWrittenError("is nested too deeply")
    return value


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def parse_object(content: bytes) -> dict[str, Any]:
    """A JSON object of bounded depth.

    Raises:
        NotAsWrittenError: It is none.
    """
    value = parse(content)
    if not isinstance(value, dict):
        raise NotAsWrittenError("is not a JSON object")
    return value


def seal(content: Mapping[str, Any], before: str = "") -> str:
    """The checksum of a record that follows another.

    Raises:
        NotAsWrittenError: It is nothing JSON can hold.
    """
    try:
        text = json.dumps(content, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise NotAsWrittenError("holds something JSON cannot") from None
    return hashlib.sha256(f"{before}{text}".encode()).hexdigest()


def sealed(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A record with its checksum, as JSON will give it back."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(content)))
    return {**plain, SEAL: seal(plain, before)}


def opened(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The content of a record whose checksum holds.

    Raises:
        NotAsWrittenError: It does not.
    """
    content = dict(record)
    claimed = content.pop(SEAL, None)
    if claimed is None:
        raise NotAsWrittenError("has no checksum")
    if claimed != seal(content, before):
        raise NotAsWrittenError("is not as it was written (its checksum differs)")
    return content


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """A regular file of bounded size.

    Raises:
        FileNotFoundError: There is none.
        NotAsWrittenError: It is too large, or no regular file.
        OSError: It cannot be read.
    """
    # A pipe would keep its reader waiting for ever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotAsWrittenError("is no regular file")
        if status.st_size > most:
            raise NotAsWrittenError(f"has {status.st_size:,} bytes, more than the {most:,} that are read")
        return file.read()


def read_object(path: Path, *, missing: str, mend: str) -> dict[str, Any]:
    """A JSON object from a file, without a checksum.

    Args:
        path: The file.
        missing: What to say where there is none, after its name.
        mend: The way out of anything else, such as "restore it or train again".

    Raises:
        StoreError: One line.
    """
    try:
        return parse_object(read_bounded(path))
    except FileNotFoundError:
        raise StoreError(f"{path}: {missing}") from None
    except NotAsWrittenError as error:
        raise DamagedError(f"{path}: {error}; {mend}") from None
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); {mend}") from None


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record with its checksum, atomically."""
    write_atomically(path, (json.dumps(sealed(content), indent=2, ensure_ascii=False) + "\n").encode())


def read_record(path: Path, *, missing: str, mend: str, version: int | None = None, again: str = "") -> dict[str, Any]:
    """What ``write_record`` wrote.

    Args:
        path: The file.
        missing: What to say where there is none, after its name.
        mend: The way out of anything else.
        version: What its ``format`` must be, for files that have one. Those of before there were checksums count too.
        again: The way on from another format, beside the perfit that wrote it.

    Raises:
        DamagedError: It is not as it was written.
        StoreError: It is missing, or of another format.
    """
    record = read_object(path, missing=missing, mend=mend)
    # Of a sealed record the seal is looked at first: a changed digit is no other format.
    if version is not None and SEAL not in record:
        _check_version(path, record, version, again)
    try:
        content = opened(record)
    except NotAsWrittenError as error:
        raise DamagedError(f"{path}: {error}; {mend}") from None
    if version is not None:
        _check_version(path, content, version, again)
    return content


def _check_version(path: Path, record: Mapping[str, Any], version: int, again: str) -> None:
    if (found := record.get("format")) != version:
        # The first perfits wrote none into some files.
        earlier = found is None or (type(found) is int and found < version)
        name = "none" if found is None else str(found)[:20]
        raise StoreError(
            f"{path}: format {name} of {'an earlier' if earlier else 'another'} perfit is not {version}; "
            f"use the perfit that wrote it, or {again}"
        )


def lines_of(records: Iterable[Mapping[str, Any]], before: str = "") -> tuple[bytes, str]:
    """Records as lines, and the checksum of the last."""
    lines = []
    for content in records:
        record = sealed(content, before)
        before = record[SEAL]
        lines.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    return b"".join(lines), before


def write_records(path: Path, records: Iterable[Mapping[str, Any]], of: str = "") -> None:
    """Write records, one a line, each with its checksum, atomically; ``of`` is what they belong to, and is in all of them."""
    write_atomically(path, lines_of(records, of)[0])


def read_records(path: Path, *, missing: str, mend: str, of: str = "") -> list[dict[str, Any]]:
    """What ``write_records`` wrote, with the same ``of``.

    Raises:
        StoreError: It is missing, or a line is not as it was written.
    """
    number = 0
    try:
        content = read_bounded(path)
        found, before = [], of
        # By bytes: a line's own separators (U+2028) are no ends of lines.
        for number, line in enumerate(content.split(b"\n"), start=1):
            if number > 1 and not line:
                continue
            record = parse_object(line)
            found.append(opened(record, before))
            before = record[SEAL]
        return found
    except FileNotFoundError:
        raise StoreError(f"{path}: {missing}") from None
    except NotAsWrittenError as error:
        where = f" line {number}" if number else ""
        raise DamagedError(f"{path}:{where} {error}; {mend}") from None
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); {mend}") from None
