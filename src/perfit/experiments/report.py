"""Outcomes of ``perfit reproduce`` as one HTML page: our numbers beside the paper's, orders, claims and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perfit.durable.files import write_atomically
from perfit.experiments.figures import figure_of
from perfit.experiments.outcome import Outcome, outcomes
from perfit.experiments.page import grid, order_in_words
from perfit.experiments.paper.registry import entries
from perfit.experiments.reproduce import RESULTS
from perfit.experiments.scale import SCALES
from perfit.pages.drawing import Drawn, inlined
from perfit.pages.section import Cell, Section
from perfit.pages.template import fill


@dataclass(frozen=True)
class Part:
    """One outcome as the page shows it: a table, perhaps a figure, and lists under headings."""

    name: str
    title: str
    about: str
    table: Section
    drawn: Drawn | None
    lists: tuple[tuple[str, tuple[str, ...]], ...]


def found_in(folder: Path) -> list[tuple[Path, Outcome]]:
    """What came of entries in a folder of ``perfit reproduce``, or in one of its scales' results, and where each lies.

    Raises:
        StoreError: A file is no result.
    """
    places = [*(folder / RESULTS / scale for scale in SCALES), folder]
    return [(place, one) for place in places for one in outcomes(place, entries())]


def write_report(found: Sequence[tuple[Path, Outcome]], folder: Path, *, page: Path | None = None) -> Path:
    """Write ``report.html``, replaced as a whole.

    Args:
        found: The outcomes, and where each lies.
        folder: Where.
        page: Another place for the page.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed (extra "report").
    """
    target = page if page is not None else folder / "report.html"
    write_atomically(target, render(found).encode())
    return target


def render(found: Sequence[tuple[Path, Outcome]]) -> str:
    """The page; the first figure stands beside the conclusion."""
    return fill(
        "experiments/page.html.j2",
        brand="perfit reproduce",
        title="The paper's tables and figures, run again",
        conclusion=_conclusion([one for _, one in found]),
        notes=_sizes([one for _, one in found]),
        parts=[_part(place, one) for place, one in found],
    )


def _conclusion(found: Sequence[Outcome]) -> list[str]:
    verdicts = [str(claim["verdict"]) for one in found for claim in one.claims]
    said = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    done, cells = sum(one.done for one in found), sum(one.cells for one in found)
    return [
        f"Of the paper's claims here: {said}." if said else "No claim of the paper is about what was run here.",
        f"{len(found)} of {len(entries())} tables and figures were run; {done} of {cells} cells are finished.",
    ]


def _sizes(found: Sequence[Outcome]) -> list[str]:
    scales = {one.scale for one in found}
    notes = {
        "smoke": "Scale smoke: tiny random bases and made-up users; its numbers say nothing of the method.",
        "small": "Scale small: small bases and parts of real data sets; compare orders with the paper's, not sizes.",
    }
    return [note for scale, note in notes.items() if scale in scales]


def _part(place: Path, one: Outcome) -> Part:
    header, rows = grid(one)
    name = f"{one.scale}-{one.entry}"
    bases = ", ".join(f"{paper}: {where}" for paper, where in one.base.items()) or "no base"
    users = ", ".join(f"{task} {count} users" for task, count in one.users.items()) or "no users"
    cells = tuple(
        (Cell(f"{label} (not the paper's)" if extra else label), *map(Cell, rest)) for label, extra, rest in rows
    )
    claims = tuple(
        f"{claim['verdict']}: {claim['says']} (line {claim['line']}). {'; '.join(claim['details'][:4])}".rstrip(". ")
        for claim in one.claims
    )
    return Part(
        name,
        f"{one.entry}: {one.title}",
        f"{one.command} ({one.scale}). {one.done} of {one.cells} cells, {one.seconds:.0f} s, {one.hardware}. {bases}. {users}.",
        Section("Ours beside the paper's", tuple(header), cells),
        _drawn(place, one, f"{name}-figure"),
        (
            ("Claims of the text", claims),
            (
                "Order of the rows, Kendall's tau against the paper's",
                tuple(f"{order['column']}: {order_in_words(order)}" for order in one.orderings),
            ),
            ("Missing", tuple(f"{count} cells: {why}" for why, count in one.missing.items())),
            ("Notes", one.notes),
        ),
    )


def _drawn(place: Path, one: Outcome, name: str) -> Drawn | None:
    """A comparison's figure is drawn anew, its panels one below the other; an analysis' own is narrow as it lies there."""
    entry, title = entries()[one.entry], f"{one.entry}: {one.title}"
    if entry.figure is not None:
        tasks = tuple(dict.fromkeys(column.partition(".")[0] for column in one.columns))
        drawn = figure_of(entry, {row.label: row for row in one.rows}, tasks, upright=True)
        return (
            None if drawn is None else replace(drawn, name=name, title=title, inline=inlined(drawn.svg.decode(), name))
        )
    path = place / "figures" / f"{one.entry}.svg"
    if not one.figures or not path.is_file():
        return None
    svg = path.read_bytes()
    return Drawn(name, title, "In the paper's form, of what was measured here.", b"", svg, inlined(svg.decode(), name))
