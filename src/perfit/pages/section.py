"""A table as plain cells, which every form of output (console, Markdown, LaTeX, HTML) only dresses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and 1 for the best value of its column, 2 for the second best, else 0."""

    text: str
    place: int = 0


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        title: What it shows.
        header: Names of the columns; the first is that of what the rows are about.
        rows: Cells in the order of the header.
        notes: What one must know to read it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
