"""The tables that ``perfit analyze`` prints: one layer, every task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfit.cli.show import say, table

if TYPE_CHECKING:
    from perfit.analysis.tables import Tables
    from perfit.pages.section import Section


def show_analysis(tables: Tables, layer: int) -> None:
    """Print what was found at one layer, and what is suggested."""
    from perfit.analysis.sections import overlap_lines, sections, suggestion_lines, training

    for number, section in enumerate(sections(tables, layer)):
        _show(section, apart=number > 0)
    _say(overlap_lines(tables))
    last = training(tables, layer)
    if last is not None:
        _show(last, apart=True)
    _say(suggestion_lines(tables))


def _show(section: Section, apart: bool) -> None:
    rows = [[cell.text for cell in row] for row in section.rows]
    table(section.header, rows, title=section.title, apart=apart)


def _say(lines: list[str]) -> None:
    for line in lines:
        say()
        say(line)
