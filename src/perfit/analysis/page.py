"""One self-contained HTML page: pick task and layer, hover a user to see their texts. It loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.extra import NAME, extra
from perfit.analysis.sections import conclusion, overlap_lines, sections, training
from perfit.analysis.tables import Row, Tables
from perfit.durable.files import write_atomically
from perfit.pages.drawing import Drawn
from perfit.pages.template import fill

Texts = Mapping[tuple[str, str], Mapping[str, Sequence[str]]]
"""By (task, group), by user: excerpts of what they wrote."""

_SHOWN = ("controls", "tasks", "trained")
_LINES = ("share", "share_chance", "r80", "r80_null", "auc", "auc_query")


def write_page(
    many: Sequence[DeltaVectors],
    tables: Tables,
    texts: Texts,
    layer: int,
    path: Path,
    figures: Sequence[Drawn] = (),
) -> None:
    """Write the page.

    Args:
        many: The δ-vectors the tables were made of.
        tables: As ``tables_of`` gives them.
        texts: What to show of users; those without are shown by id alone.
        layer: Shown first.
        path: The file.
        figures: Drawn ones; those that the page has no interactive form of are shown.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    last = training(tables, layer)
    page = fill(
        "analysis/page.html.j2",
        extra=NAME,
        brand="perfit analysis",
        title="What personal text does inside the model",
        conclusion=conclusion(tables, layer),
        notes=(),
        overlaps=overlap_lines(tables),
        own_style=_text("page.css"),
        plotly=extra("plotly.offline").get_plotlyjs(),
        figures=[one for one in figures if one.name in _SHOWN],
        sections=[*sections(tables, layer), *([] if last is None else [last])],
        data={
            "base": many[0].notes["base"]["name"],
            "layers": list(many[0].recipe.layers),
            "layer": layer,
            "sets": [_of_set(one, tables, texts.get((one.task, one.group), {})) for one in many],
        },
        script=_text("page.js"),
    )
    write_atomically(path, page.encode())


def _text(name: str) -> str:
    return (resources.files("perfit.analysis") / name).read_text(encoding="utf-8")


def _of_set(one: DeltaVectors, tables: Tables, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    def mine(name: str) -> list[Row]:
        return [row for row in tables.get(name, []) if (row["task"], row["group"]) == (one.task, one.group)]

    place = {user: number for number, user in enumerate(one.users)}
    points: dict[int, list[list[float]]] = {layer: [[0.0, 0.0] for _ in one.users] for layer in one.recipe.layers}
    for row in mine("coordinates"):
        if row["component"] < 2:
            points[row["layer"]][place[row["user"]]][row["component"]] = round(row["value"], 4)
    around: dict[int, list[dict[str, Any]]] = {layer: [{} for _ in one.users] for layer in one.recipe.layers}
    for row in mine("users"):
        around[row["layer"]][place[row["user"]]] = {
            "order": row["order"],
            "distance": round(row["distance"], 4),
            "near": [
                [place[user], round(cosine, 3)]
                for user, cosine in zip(row["neighbours"], row["neighbour_cosines"], strict=True)
            ],
        }
    return {
        "task": one.task,
        "group": one.group,
        "queries": int(one.counts[:, 0].sum()),
        "users": list(one.users),
        "texts": [list(texts.get(user, ())) for user in one.users],
        "points": {str(layer): rows for layer, rows in points.items()},
        "around": {str(layer): rows for layer, rows in around.items()},
        "lines": _lines(mine("collective"), mine("ranks"), mine("halves")),
    }


def _lines(collective: list[Row], ranks: list[Row], halves: list[Row]) -> dict[str, list[float]]:
    """What is drawn over layers, each a list in the order of the layers; empty where it was not measured."""
    own = [row for row in ranks if row["share"] == 0.8 and row["centred"]]
    lines = (
        [row["share"] for row in collective],
        [row["chance"] for row in collective],
        [row["r"] for row in own],
        [row["permuted"] for row in own],
        [row["auc"] for row in halves if row["kind"] == "half"],
        [row["auc"] for row in halves if row["kind"] == "bare"],
    )
    return {name: [round(value, 4) for value in line] for name, line in zip(_LINES, lines, strict=True)}
