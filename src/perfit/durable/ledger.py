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

    Attributes:
        records: All records so far, without their checksums.

    Raises:
        DamagedError: A line is not as it was written.
    """

    def __init__(self, path: Path, *, mend: str):
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._last = ""
        self._end = 0
        number = 0
        try:
            content = read_bounded(path)
            # A last line without its end was torn by a kill: what it told was not promised to anybody yet.
            self._end = content.rfind(b"\n") + 1
            for line in content[: self._end].split(b"\n")[:-1]:
                number += 1
                record = parse_object(line)
                self.records.append(opened(record, self._last))
                self._last = record[SEAL]
        except FileNotFoundError:
            pass
        except NotAsWrittenError as error:
            where = f" line {number}" if number else ""
            raise DamagedError(f"{path}:{where} {error}; {mend}") from None
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read ({error.strerror}); {mend}") from None

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records; on return they are on the disk."""
        if not records:
            return
        content, last = lines_of(records, self._last)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(self.path, flags, 0o600)
        with open(handle, "r+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.records += [dict(record) for record in records]
        self._last, self._end = last, self._end + len(content)
