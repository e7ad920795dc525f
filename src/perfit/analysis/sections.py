"""What an analysis found at one layer, as tables and sentences: the same on the console and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perfit.analysis.recipe import BARE, HISTORY
from perfit.analysis.tables import Row, Tables
from perfit.pages.section import Cell, Section

_HALVES = {"half": "own history", "random": "random text", BARE: "query alone"}


def sections(tables: Tables, layer: int) -> list[Section]:
    """The tables of one layer: directions, collective shift, and where they were measured controls, halves, tasks."""
    here = _at(tables, layer)
    found = [_directions(here["ranks"], layer), _collective(here["collective"], layer)]
    if here.get("controls"):
        found.append(_controls(here["controls"], layer))
    if here.get("halves"):
        found.append(_halves(here["halves"], layer))
    if here.get("tasks"):
        found.append(_tasks(here["tasks"]))
    return found


def training(tables: Tables, layer: int) -> Section | None:
    """Whom training helped against what was measured before it; None without an evaluated run."""
    near = _at(tables, layer).get("gain_correlation", [])
    told = [row for row in tables.get("gain_correlation", []) if row["edited"] or row in near]
    if not told:
        return None
    return _section(
        "training",
        ["rank correlation of |personal δ| and gain", "layer", "edited", "N", "correlation", "p"],
        (
            [
                f"{row['task']}, {'own history' if row['kind'] == HISTORY else row['kind']}",
                str(row["layer"]),
                "yes" if row["edited"] else "",
                str(row["users"]),
                f"{row['correlation']:+.2f}",
                f"{row['p']:.4f}",
            ]
            for row in told
        ),
    )


def overlap_lines(tables: Tables) -> list[str]:
    """A line for each edited layer of a trained run."""
    return [
        f"{row['task']}, edited layer {row['layer']}, {row['users']} users: collective cosine "
        f"{row['collective_cosine']:.2f}; δ energy in R {row['first_energy']:.2f} (chance {row['first_chance']:.2f}), in "
        f"the user's R {row['second_energy']:.2f} ({row['second_chance']:.2f}); personal cosine "
        f"{row['personal_cosine']:.2f} (other users {row['personal_chance']:.2f})"
        for row in tables.get("overlaps", [])
    ]


def suggestion_lines(tables: Tables) -> list[str]:
    """A line for each task and group whose layers could be compared: which to try, and what ranks."""
    return [
        f"{task}, suggested to try: {_suggested(tables, task, group)}"
        for task, group in dict.fromkeys((row["task"], row["group"]) for row in tables.get("suggestion", []))
    ]


def conclusion(tables: Tables, layer: int) -> list[str]:
    """What it comes to, for each task: how much users share, then whether it is their own, and where to edit."""
    here = _at(tables, layer)
    group = "test" if any(row["group"] == "test" for row in here["collective"]) else here["collective"][0]["group"]
    lines = []
    for row in here["collective"]:
        if row["group"] != group:
            continue
        task = row["task"]
        lines.append(
            f"{task}: one direction holds {row['share']:.0%} of what users' own texts do at layer {layer} (by chance "
            f"{row['chance']:.0%})."
        )
        more = [
            f"another user's texts before the same queries: cosine {one['collective_cosine']:.2f} to that direction"
            for one in here.get("controls", [])
            if (one["task"], one["group"], one["kind"]) == (task, group, "other")
        ]
        if any((one["task"], one["group"]) == (task, group) for one in tables.get("suggestion", [])):
            more.append(f"suggested to try: {_suggested(tables, task, group)}")
        lines += [f"{task}, {text}." for text in more]
    return lines


def _suggested(tables: Tables, task: str, group: str) -> str:
    rows = [row for row in tables["suggestion"] if (row["task"], row["group"], row["suggested"]) == (task, group, True)]
    bare = {row["layer"]: row["auc"] for row in tables["halves"] if (row["task"], row["kind"]) == (task, BARE)}
    layers = ", ".join(f"{r['layer']} (AUC {r['auc']:.2f}, query alone {bare[r['layer']]:.2f})" for r in rows)
    return f"layers {layers}; collective rank {rows[0]['collective_rank']}, personal rank {rows[0]['personal_rank']}"


def _at(tables: Tables, layer: int) -> Tables:
    return {name: [row for row in rows if row.get("layer", layer) == layer] for name, rows in tables.items()}


def _section(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Section:
    return Section(title, tuple(header), tuple(tuple(map(Cell, row)) for row in rows))


def _directions(ranks: Sequence[Row], layer: int) -> Section:
    return _section(
        f"directions that explain a share of the variance, layer {layer}",
        ["task, users", "N", "share", "r", "r/d", "r/min(N,d)", "r, random", "r, permuted", "r, centred", "permuted"],
        (
            [
                f"{row['task']}, {row['group']}",
                str(row["users"]),
                f"{row['share']}",
                str(row["r"]),
                f"{row['of_d']:.4f}",
                f"{row['of_smaller']:.4f}",
                f"{row['gaussian']:.1f}",
                f"{row['permuted']:.1f}",
                str(own["r"]),
                f"{own['permuted']:.1f}",
            ]
            for row in ranks
            if not row["centred"]
            for own in ranks
            if own["centred"] and all(own[name] == row[name] for name in ("task", "group", "share"))
        ),
    )


def _collective(rows: Sequence[Row], layer: int) -> Section:
    return _section(
        f"collective shift, layer {layer}",
        ["task, users", "N", "shared energy", "by chance", "p", "|mean|", "rms personal", "cosine to others"],
        (
            [
                f"{row['task']}, {row['group']}",
                str(row["users"]),
                *(f"{row[name]:.3f}" for name in ("share", "chance")),
                f"{row['p']:.4f}",
                *(f"{row[name]:.2f}" for name in ("norm", "personal_norm", "cosine")),
            ]
            for row in rows
        ),
    )


def _controls(rows: Sequence[Row], layer: int) -> Section:
    columns = ["|δ| / own", "cos collective", "cos personal", "p", "own − it: shared", "p "]
    return _section(
        f"controls, layer {layer}",
        ["task, in place of the history", *columns],
        (
            [
                f"{row['task']}, {row['kind']}",
                *(f"{row[name]:.2f}" for name in ("ratio", "collective_cosine", "personal_cosine")),
                f"{row['p']:.4f}",
                f"{row['difference_share']:.3f}",
                f"{row['difference_p']:.4f}",
            ]
            for row in rows
        ),
    )


def _halves(rows: Sequence[Row], layer: int) -> Section:
    return _section(
        f"two halves of each user's history and queries, layer {layer}",
        ["task, what is compared", "N", "nearest is same author", "by chance", "AUC", "p"],
        (
            [
                f"{row['task']}, {_HALVES[row['kind']]}",
                str(row["users"]),
                *(f"{row[name]:.3f}" for name in ("top1", "top1_chance", "auc")),
                f"{row['p']:.4f}",
            ]
            for row in rows
        ),
    )


def _tasks(rows: Sequence[Row]) -> Section:
    return _section(
        "tasks",
        ["collective shifts of", "and", "cosine", "angle"],
        (
            [row["task"], row["other"], f"{row['cosine']:.2f}", f"{row['angle']:.0f}°"]
            for row in rows
            if row["task"] < row["other"]
        ),
    )
