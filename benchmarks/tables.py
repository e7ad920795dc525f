"""Markdown tables as benchmarks print them."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.markdown import markdown_table


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Header, rule and rows; columns of words to the left, of numbers to the right."""
    numbers = [i for i in range(len(header)) if not any(row[i][:1].isalpha() for row in rows)]
    return "\n".join(markdown_table(header, rows, numbers=numbers)) + "\n"
