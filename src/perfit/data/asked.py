"""What is asked on the command line: texts, and files of ``{"user": ..., "input": ...}`` a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfit.data.jsonio import read_json_lines
from perfit.data.records import Place, as_object, checked_text, needed_text
from perfit.errors import DataError

_FORM = '{"user": ..., "input": ...}'


def read_asked(path: Path) -> list[tuple[str, str]]:
    """(user, text) of every line of a JSON Lines file, plain or gzip; other fields do not matter.

    Raises:
        DataError: For a line without user or input, and for every fault that ``read_dataset`` would find in it.
    """
    pairs = []
    for number, raw in read_json_lines(path):
        place = Place(str(path), f"line {number}")
        record = as_object(raw, place)
        pairs.append((needed_text(record, "user", place), needed_text(record, "input", place, may_be_empty=True)))
    if not pairs:
        raise DataError("holds no lines", file=str(path), remedy=f"write one {_FORM} per line")
    return pairs


def checked_arguments(texts: Sequence[str], what: str) -> list[str]:
    """Texts of a command line, read as those of a file are: a byte order mark is dropped, broken UTF-8 refused.

    Args:
        texts: As given.
        what: What they are, for messages: "text", "user".

    Raises:
        DataError: For a text that is not UTF-8.
    """
    return [
        checked_text(text.removeprefix("\ufeff"), Place("command line", f"{what} {number}"), None)
        for number, text in enumerate(texts, start=1)
    ]
