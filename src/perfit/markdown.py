"""Text from outside in Markdown, read as it is, never as HTML, a link, an image, emphasis or another cell; tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from perfit.shown import shown

_LONGEST = 4000
_SIGNS = re.compile(
    r"""
    [\\|`*\[\]~]            # code, emphasis, links, images, strike-through, the end of a cell
    | <(?=[A-Za-z/!?])      # HTML and links in angle brackets; not the sign before a number
    | &(?=[A-Za-z#])        # entities
    | (?<!\w)_ | _(?!\w)    # emphasis; not the line inside a metric's name
    | :(?=//) | (?<=www)\.  # addresses that become links by themselves
    """,
    re.VERBOSE,
)


def markdown(text: str) -> str:
    """One line of Markdown that shows ``text``."""
    return _SIGNS.sub(r"\\\g<0>", shown(text, _LONGEST))


def markdown_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: bool | Collection[int] = False,
    aligned: bool = True,
) -> list[str]:
    """The lines of a table.

    Args:
        header: Names of the columns, as Markdown: ``markdown`` makes it of text from outside.
        rows: Cells in the order of the header, as Markdown too.
        numbers: These columns, or all but the first, stand to the right, here and where the page is shown.
        aligned: Columns line up here too; without it, a longer cell changes one line alone.

    Raises:
        ValueError: A row is longer or shorter than the header.
    """
    if isinstance(numbers, bool):
        numbers = range(1, len(header)) if numbers else ()
    right = [place in numbers for place in range(len(header))]
    widths = [max(map(len, column)) if aligned else 0 for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        at = zip(cells, widths, right, strict=True)
        return f"| {' | '.join(cell.rjust(w) if to_right else cell.ljust(w) for cell, w, to_right in at)} |"

    dashes = [w + 1 if aligned else 2 for w in widths]
    rule = "|".join("-" * n + (":" if to_right else "-") for n, to_right in zip(dashes, right, strict=True))
    return [line(header), f"|{rule}|", *map(line, rows)]
