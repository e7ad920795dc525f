"""The tables that ``perfit analyze`` prints: one layer, every task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfit.cli.show import say, table

if TYPE_CHECKING:
    from perfit.analysis.tables import Tables


def show_analysis(tables: Tables, layer: int) -> None:
    """Print what was found at one layer, and what is suggested."""
    here = {name: [row for row in rows if row.get("layer", layer) == layer] for name, rows in tables.items()}
    table(
        ["task, users", "N", "share", "r", "r/d", "r/min(N,d)", "r, random", "r, permuted", "r, centred", "permuted"],
        [
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
            for row in here["ranks"]
            if not row["centred"]
            for own in here["ranks"]
            if own["centred"] and all(own[name] == row[name] for name in ("task", "group", "share"))
        ],
        title=f"directions that explain a share of the variance, layer {layer}",
    )
    table(
        ["task, users", "N", "shared energy", "by chance", "p", "|mean|", "rms personal", "cosine to others"],
        [
            [
                f"{row['task']}, {row['group']}",
                str(row["users"]),
                *(f"{row[name]:.3f}" for name in ("share", "chance")),
                f"{row['p']:.4f}",
                *(f"{row[name]:.2f}" for name in ("norm", "personal_norm", "cosine")),
            ]
            for row in here["collective"]
        ],
        title=f"collective shift, layer {layer}",
        apart=True,
    )
    if here.get("controls"):
        table(
            [
                "task, in place of the history",
                "|δ| / own",
                "cos collective",
                "cos personal",
                "p",
                "own − it: shared",
                "p ",
            ],
            [
                [
                    f"{row['task']}, {row['kind']}",
                    *(f"{row[name]:.2f}" for name in ("ratio", "collective_cosine", "personal_cosine")),
                    f"{row['p']:.4f}",
                    f"{row['difference_share']:.3f}",
                    f"{row['difference_p']:.4f}",
                ]
                for row in here["controls"]
            ],
            title=f"controls, layer {layer}",
            apart=True,
        )
    if here.get("halves"):
        table(
            ["task, what is compared", "N", "nearest is same author", "by chance", "AUC", "p"],
            [
                [
                    f"{row['task']}, {_HALVES[row['kind']]}",
                    str(row["users"]),
                    *(f"{row[name]:.3f}" for name in ("top1", "top1_chance", "auc")),
                    f"{row['p']:.4f}",
                ]
                for row in here["halves"]
            ],
            title=f"two halves of each user's history and queries, layer {layer}",
            apart=True,
        )
    _show_rest(tables, here)


_HALVES = {"half": "own history", "random": "random text", "bare": "query alone"}


def _show_rest(tables: Tables, here: Tables) -> None:
    if here.get("tasks"):
        table(
            ["collective shifts of", "and", "cosine", "angle"],
            [
                [row["task"], row["other"], f"{row['cosine']:.2f}", f"{row['angle']:.0f}°"]
                for row in here["tasks"]
                if row["task"] < row["other"]
            ],
            title="tasks",
            apart=True,
        )
    for row in tables.get("overlaps", []):
        say()
        say(
            f"{row['task']}, edited layer {row['layer']}, {row['users']} users: collective cosine "
            f"{row['collective_cosine']:.2f}; δ energy in R {row['first_energy']:.2f} (chance {row['first_chance']:.2f}), in "
            f"the user's R {row['second_energy']:.2f} ({row['second_chance']:.2f}); personal cosine "
            f"{row['personal_cosine']:.2f} (other users {row['personal_chance']:.2f})"
        )
    told = [row for row in tables.get("gain_correlation", []) if row["edited"] or row in here["gain_correlation"]]
    if told:
        table(
            ["rank correlation of |personal δ| and gain", "layer", "edited", "N", "correlation", "p"],
            [
                [
                    f"{row['task']}, {'own history' if row['kind'] == 'history' else row['kind']}",
                    str(row["layer"]),
                    "yes" if row["edited"] else "",
                    str(row["users"]),
                    f"{row['correlation']:+.2f}",
                    f"{row['p']:.4f}",
                ]
                for row in told
            ],
            title="training",
            apart=True,
        )
    for task, group in dict.fromkeys((row["task"], row["group"]) for row in tables.get("suggestion", [])):
        rows = [
            row for row in tables["suggestion"] if (row["task"], row["group"], row["suggested"]) == (task, group, True)
        ]
        bare = {row["layer"]: row["auc"] for row in tables["halves"] if (row["task"], row["kind"]) == (task, "bare")}
        layers = ", ".join(f"{r['layer']} (AUC {r['auc']:.2f}, query alone {bare[r['layer']]:.2f})" for r in rows)
        ranks = f"collective rank {rows[0]['collective_rank']}, personal rank {rows[0]['personal_rank']}"
        say()
        say(f"{task}, suggested to try: layers {layers}; {ranks}")
