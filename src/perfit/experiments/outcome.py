"""What came of an entry: our numbers beside the paper's, orders, claims, costs; a JSON file that pages are built from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perfit.durable.files import write_atomically
from perfit.durable.records import parse_object, read_bounded
from perfit.errors import DamagedError, StoreError

FORMAT = 1


@dataclass(frozen=True)
class Value:
    """One number of a table.

    Attributes:
        printed: The paper's; None where it has none.
        mean, std, low, high: Ours, as ``scores.Score``'s.
        seeds, of: How many seeds are finished, of how many.
        why: What is missing.
    """

    printed: float | None
    mean: float | None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 1
    of: int = 1
    why: str | None = None


@dataclass(frozen=True)
class OutcomeRow:
    """One row: values by column, and what it cost."""

    label: str
    values: Mapping[str, Value]
    extra: bool = False
    seconds: float = 0.0
    collective_parameters: int | None = None
    personal_parameters: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Everything that is said of an entry.

    Attributes:
        entry, title, scale: What it is.
        command: What makes it.
        base, data: What it was measured on: by the paper's name of the base, by task.
        users, queries: Behind the numbers, by task.
        columns, rows: The table.
        orderings, claims: As ``orderings.Ordering`` and ``claims.Verdict``.
        done, cells, missing: Units of work, and why some are missing, with how many.
        seconds: Of all of them, wherever they were run first.
        hardware: What ran it.
        notes: What was chosen, and what was scaled.
        figures: Files beside this one.
    """

    entry: str
    title: str
    scale: str
    command: str
    base: Mapping[str, str]
    data: Mapping[str, str]
    users: Mapping[str, int]
    queries: Mapping[str, int]
    columns: tuple[str, ...]
    rows: tuple[OutcomeRow, ...]
    orderings: tuple[Mapping[str, Any], ...] = ()
    claims: tuple[Mapping[str, Any], ...] = ()
    done: int = 0
    cells: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    hardware: str = ""
    notes: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()

    def save(self, folder: Path) -> Path:
        """Write ``<entry>.json``; equal outcomes give equal files."""
        path = folder / f"{self.entry}.json"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **_rounded(asdict(self))}
        write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        return path


def read_outcome(path: Path) -> Outcome:
    """An outcome from its file.

    Raises:
        StoreError: There is none, it is damaged, or of another format.
    """
    if not path.is_file():
        raise StoreError(f"{path}: not found; run perfit reproduce first")
    try:
        content = parse_object(read_bounded(path))
        if content.pop("format") != FORMAT:
            raise StoreError(f"{path}: is of another format; run perfit reproduce again")
        rows = tuple(
            OutcomeRow(**{**row, "values": {name: Value(**value) for name, value in row["values"].items()}})
            for row in content.pop("rows")
        )
        lists: dict[str, Any] = {
            name: tuple(content.pop(name)) for name in ("columns", "orderings", "claims", "notes", "figures")
        }
        return Outcome(rows=rows, **lists, **content)
    except StoreError:
        raise
    except Exception as error:
        raise DamagedError(f"{path}: is no result of perfit reproduce; delete it and run the entry again") from error


def outcomes(folder: Path, names: Iterable[str]) -> list[Outcome]:
    """Those that are there, in the order of the names."""
    return [read_outcome(folder / f"{name}.json") for name in names if (folder / f"{name}.json").is_file()]


def counted(reasons: Sequence[str]) -> dict[str, int]:
    """Reasons with how often each was given."""
    return {reason: list(reasons).count(reason) for reason in dict.fromkeys(reasons)}


def _rounded(value: Any) -> Any:
    """Floats to nine digits: what is beyond them is the machine's."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
