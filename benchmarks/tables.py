"""Markdown tables whose columns line up."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Header, rule and rows; columns of words to the left, of numbers to the right."""
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    left = [any(row[i][:1].isalpha() for row in rows) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        shown = [c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(cells, widths, left, strict=True)]
        return "| " + " | ".join(shown) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *map(line, rows)]) + "\n"
