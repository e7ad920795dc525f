"""A file that only grows, record by record: what a kill tore off its end is dropped, any other change is found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfit.durable.records import SEAL, NotAsWrittenError, lines_of, opened, parse_object, read_bounded
from perfit.errors import DamagedError


class Ledger:
    """Records of one file, one a line, each with a checksum that is also over the one before it.

    Args:
        path: The file; made with the first record.
        mend: The way out of damage, such as "restore it or train again".
        of: What the records belong to: all checksums are over it. ``write_records`` with the same makes the same file.

    Attributes:
        records: All records so far, without their checksums.

    Raises:
        DamagedError: A line is not as it was written.
    """

    def __init__(self, path: Path, *, mend: str, of: str = ""):
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._last, self._lead = of, b""
        self._end = 0
        number = 0
        try:
            content = read_bounded(path)
            *lines, tail = content.split(b"\n")
            for line in lines:
                number += 1
                self._take(line)
            self._end = len(content) - len(tail)
            self._take_tail(tail)
        except FileNotFoundError:
            pass
        except NotAsWrittenError as error:
            where = f" line {number}" if number else ""
            raise DamagedError(f"{path}:{where} {error}; {mend}") from None
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read ({error.strerror}); {mend}") from None

    def _take(self, line: bytes) -> None:
        record = parse_object(line)
        self.records.append(opened(record, self._last))
        self._last = record[SEAL]

    def _take_tail(self, tail: bytes) -> None:
        """A last line without its end: whole, where the end alone is missing or changed, and else torn by a kill.

        What a torn line told was not promised to anybody yet; what a whole one tells may have been.
        """
        for line in (tail[:-1], tail):
            try:
                self._take(line)
            except NotAsWrittenError:
                continue
            self._end, self._lead = self._end + len(line), b"\n"
            return

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records; on return they are on the disk."""
        if not records:
            return
        content, last = lines_of(records, self._last)
        content = self._lead + content
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(self.path, flags, 0o600)
        with open(handle, "r+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.records += [dict(record) for record in records]
        self._last, self._lead, self._end = last, b"", self._end + len(content)
