"""The sizes that the pages of a Parquet file state themselves: a decoder believes these, whatever the footer says.

Read from the format's definition (parquet.thrift: PageHeader, in Thrift's compact protocol); pyarrow does not show it. A
footer that states one value over a page of 20 million keeps pyarrow busy for minutes.
"""

from __future__ import annotations

from typing import IO

_HEADER_BYTES = 4096
_MAX_HEADER_BYTES = 1024 * 1024  # statistics hold whole values
_DATA, _DATA_V2 = 5, 8  # fields of PageHeader that hold a page's number of values, as field 1


class PageFaultError(Exception):
    """A page cannot be read, or holds more values than the footer states."""


def unpacked_bytes(stream: IO[bytes], start: int, length: int, num_values: int) -> int:
    """Bytes that a column chunk's pages unpack to, by their own headers.

    Args:
        stream: The file.
        start: Where the chunk begins.
        length: Its bytes.
        num_values: Values it has by the footer.

    Raises:
        PageFaultError: A header cannot be read, or the pages hold more values.
    """
    position, values, size = start, 0, 0
    while position < start + length and values < num_values:
        header, used = _header(stream, position)
        packed = header.get(3)
        if not isinstance(packed, int) or packed < 0:
            raise PageFaultError
        for part in (header.get(_DATA), header.get(_DATA_V2)):
            if isinstance(part, dict):
                count = part.get(1)
                if not isinstance(count, int) or count < 0:
                    raise PageFaultError
                values += count
        unpacked = header.get(2)
        size += unpacked if isinstance(unpacked, int) else 0
        position += used + packed
    if values > num_values:
        raise PageFaultError
    return size


_Fields = dict[int, "int | _Fields | None"]


def _header(stream: IO[bytes], position: int) -> tuple[_Fields, int]:
    for length in (_HEADER_BYTES, _MAX_HEADER_BYTES):
        stream.seek(position)
        reader = _Compact(stream.read(length))
        try:
            return reader.struct(0), reader.at
        except IndexError:
            continue  # the header is longer than what was read
    raise PageFaultError


class _Compact:
    """Reads structs of Thrift's compact protocol; of what is no number or struct only the length matters."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int) -> _Fields:
        """Fields by number. Raises IndexError when the data end before the struct does."""
        if depth > 4:
            raise PageFaultError
        fields: _Fields = {}
        number = 0
        while byte := self._byte():
            number = number + (byte >> 4) if byte >> 4 else self._signed()
            fields[number] = self._value(byte & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> int | _Fields | None:
        if kind in (1, 2):  # true, false
            return None
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind in (7, 8):  # a double, bytes
            length = 8 if kind == 7 else self._unsigned()  # which moves on, too
            self.at += length
            if self.at > len(self.data):
                raise IndexError
            return None
        if kind == 12:
            return self.struct(depth + 1)
        raise PageFaultError  # lists, sets and maps do not occur in page headers

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _unsigned(self) -> int:
        result = shift = 0
        while shift < 64:
            byte = self._byte()
            result |= (byte & 127) << shift
            if byte < 128:
                return result
            shift += 7
        raise PageFaultError

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)
