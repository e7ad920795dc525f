"""Whether something names a user: a value read from JSON, or the bytes of any file."""

from __future__ import annotations

import gzip
import html
import json
import mmap
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perfit.durable.files import is_part, write_atomically
from perfit.durable.records import SEAL, NotAsWrittenError, parse, read_bounded, read_records, write_records
from perfit.erasure.step import Step, removal
from perfit.errors import StoreError
from perfit.shown import shown


def names(value: Any, user: str) -> bool:
    """Whether a JSON value has the id as a text or key of its own, or as a word in a longer text."""
    if isinstance(value, dict):
        return any(names(key, user) or names(part, user) for key, part in value.items())
    if isinstance(value, list):
        return any(names(part, user) for part in value)
    if not isinstance(value, str):
        return False
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", value) is not None for form in {user, shown(user)})


def holds(path: Path, user: str) -> bool:
    """Whether a file of any kind has the id as a JSON text, also gzipped, or as a text of a page."""
    forms = [json.dumps(user), json.dumps(user, ensure_ascii=False)]
    # Also as JSON within JSON, as in the metadata of safetensors, which writes no letter as a number.
    forms += [json.dumps(form, ensure_ascii=numbers)[1:-1] for form in forms for numbers in (True, False)]
    marks = {form.encode(errors="surrogatepass") for form in forms}
    if path.suffix in (".html", ".md", ".svg"):
        forms = [user, shown(user, len(user) * 10 + 1)]
        marks |= {text.encode(errors="surrogatepass") for form in forms for text in (form, html.escape(form))}
    try:
        if path.suffix == ".gz":
            content = gzip.decompress(path.read_bytes())
            return any(mark in content for mark in marks)
        with open(path, "rb") as file:
            if not path.stat().st_size:
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                return any(whole.find(mark) >= 0 for mark in marks)
    except (OSError, EOFError) as error:
        raise StoreError(
            f"{path}: cannot be searched for the user ({error}); remove it, then repeat the command"
        ) from error


def unfinished(folder: Path) -> list[Step]:
    """Remove what killed writers left of files they had not finished."""
    left = sorted(path for path in folder.rglob(".*") if path.is_file() and is_part(path.name))
    return [removal(path, "an unfinished write") for path in left]


def lines_out(path: Path, mine: Callable[[Any], bool], of: str = "") -> Step | None:
    """Take a user's lines out of a JSON Lines file; None where there are none.

    Lines that a kill broke off, or that are damaged, go too: nobody can say whose they are.

    Args:
        path: The file; missing is the same as empty.
        mine: Whether a line, read, is the user's.
        of: What the lines belong to, where they have checksums.
    """
    if _is_sealed(path):
        return _records_out(path, mine, of)
    kept, gone, broken = [], 0, 0
    for line, value in _lines(path):
        if value is _BROKEN:
            broken += 1
        elif mine(value):
            gone += 1
        else:
            kept.append(line)
    if not gone and not broken:
        return None
    parts = [f"{gone} {'line' if gone == 1 else 'lines'} taken out"] if gone else []
    parts += [f"{broken} broken {'line' if broken == 1 else 'lines'} taken out"] if broken else []
    return Step(path, ", ".join(parts), lambda: write_atomically(path, b"".join(kept)))


def _is_sealed(path: Path) -> bool:
    """Whether each line's checksum is over the one before it too."""
    _, first = next(_lines(path), (b"", None))
    return isinstance(first, dict) and SEAL in first


def _records_out(path: Path, mine: Callable[[Any], bool], of: str) -> Step | None:
    try:
        records = read_records(path, missing="not found", mend="", of=of)
    except StoreError:
        return removal(path, "damaged")
    kept = [record for record in records if not mine(record)]
    if not (gone := len(records) - len(kept)):
        return None
    what = f"{gone} {'line' if gone == 1 else 'lines'} taken out"
    if not kept:  # no file of records is empty
        return Step(path, f"{what}, which were all", lambda: path.unlink(missing_ok=True))
    return Step(path, what, lambda: write_records(path, kept, of))


def read_lines(path: Path) -> list[Any]:
    """The values of a JSON Lines file, broken ones left out; none where there is no file."""
    return [value for _, value in _lines(path) if value is not _BROKEN]


def read_json(path: Path) -> Any:
    """The value of a JSON file; None where there is none, or it is damaged."""
    try:
        return parse(read_bounded(path))
    except (OSError, NotAsWrittenError):
        return None


_BROKEN = object()


def _lines(path: Path) -> Iterator[tuple[bytes, Any]]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield line, parse(line)
        except NotAsWrittenError:
            yield line, _BROKEN
