"""The table of a comparison as sections of plain cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfit.comparison.table import Costs, Row, Table
from perfit.evaluation.effect import Effect
from perfit.evaluation.judged import column_text
from perfit.pages.section import Cell, Section

FEW_USERS = 10
"""With fewer, p-values by the bootstrap over users come out too small."""
_FEW = "only {n} users: bootstrap p-values over users come out too small; Wilcoxon's cannot be below {least}"


def sections(table: Table) -> list[Section]:
    """Scores, costs, differences from the reference where there is one, and what was done to whom."""
    result = [_scores(table), _costs(table)]
    if table.against is not None and any(row.differences for row in table.rows):
        result.append(_differences(table))
    if any(row.effect for row in table.rows):
        result.append(_effects(table))
    return result


def p_value(p: float | None) -> str:
    """Three digits, and what is below them."""
    if p is None:
        return ""
    return "< .001" if p < 0.001 else f"{p:.3f}"


def signed(value: float | None) -> str:
    """With its sign; -0.000 is +0.000."""
    return "" if value is None else f"{value if abs(value) >= 5e-4 else 0.0:+.3f}"


def _scores(table: Table) -> Section:
    ranks = {metric: table.rank(metric) for metric in table.metrics}

    problems = any(row.problem is not None for row in table.rows)

    def cells(row: Row) -> tuple[Cell, ...]:
        scores = [
            Cell(
                column_text(metric, row.metrics[metric]),
                ranks[metric].get(row.name, 0),
            )
            if row.metrics
            else Cell("")
            for metric in table.metrics
        ]
        return (Cell(row.label), *scores, *([Cell(row.problem or "")] if problems else []))

    return Section(
        title=f"{table.task}: {table.n_users} users, {table.n_queries} queries, seeds {', '.join(map(str, table.seeds))}",
        header=("method", *table.metrics, *(["problem"] if problems else [])),
        rows=tuple(map(cells, table.rows)),
        notes=(*_remarks(table.rows), *table.notes),
    )


def _remarks(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.label}: {row.not_adapted} users could not be adapted to and got the answers of stage 1 or the base"
        for row in rows
        if row.not_adapted
    ]


def _costs(table: Table) -> Section:
    rows = tuple((Cell(row.label), *map(Cell, _cost_cells(row.costs))) for row in table.rows if row.costs is not None)
    notes = [f"shares are of the base's {table.base_parameters:,} parameters; seconds are of all users together"]
    again = [row.label for row in table.rows if row.costs is not None and row.costs.restarted]
    if again:
        notes.append(f"seconds hold work that was done again after a stop: {', '.join(again)}")
    return Section(
        title="what it costs",
        header=(
            "method",
            *("collective", "share", "less than OPPU"),
            *("personal", "share", "less than OPPU"),
            *("bytes a user", "stage 1 s", "stage 2 s", "predict s", "peak GiB"),
        ),
        rows=rows,
        notes=tuple(notes),
    )


def _cost_cells(costs: Costs) -> list[str]:
    def stage(count: int, share: float, reduction: float | None) -> list[str]:
        if not count:
            return ["", "", ""]
        return [f"{count:,}", f"{share:.4%}", "" if reduction is None else f"{reduction:.2%}"]

    return [
        *stage(costs.collective_parameters, costs.collective_share, costs.collective_reduction),
        *stage(costs.personal_parameters, costs.personal_share, costs.personal_reduction),
        f"{costs.user_bytes:,}",
        *(value.text(1) for value in (costs.fit_seconds, costs.adapt_seconds, costs.predict_seconds)),
        f"{costs.peak_bytes / 2**30:.2f}",
    ]


def _differences(table: Table) -> Section:
    labels: Mapping[str, str] = {row.name: row.label for row in table.rows}
    primary = table.primary
    metrics = list(next(row.differences for row in table.rows if row.differences))
    rest = [metric for metric in metrics if metric != primary]

    def cells(row: Row) -> tuple[Cell, ...]:
        found = row.differences[primary]
        bounds = "" if found.low is None else f"{signed(found.low)} to {signed(found.high)}"
        wins = row.wins
        texts = [
            row.label,
            signed(found.gain),
            bounds,
            "" if wins is None else f"{wins.better} / {wins.equal} / {wins.worse}",
            *map(p_value, (found.p_users, row.p_holm, found.wilcoxon_users, found.p_queries, found.wilcoxon_queries)),
            *(
                text
                for metric in rest
                for text in (signed(row.differences[metric].gain), p_value(row.differences[metric].p_users))
            ),
        ]
        return tuple(map(Cell, texts))

    return Section(
        title=f"against {labels[str(table.against)]}: gain in {primary}, positive where the method is better",
        header=(
            "method",
            *("gain", "95 % interval", "users won / equal / lost"),
            *("p users", "p Holm", "Wilcoxon users", "p queries", "Wilcoxon queries"),
            *(text for metric in rest for text in (f"gain {metric}", "p users")),
        ),
        rows=tuple(cells(row) for row in table.rows if row.differences),
        notes=(
            "p users, p queries: paired bootstrap, two-sided, drawing users or queries; p Holm: p users adjusted for "
            "testing all methods",
            *([_FEW.format(n=table.n_users, least=p_value(2 / 2**table.n_users))] if table.n_users < FEW_USERS else []),
        ),
    )


def _effects(table: Table) -> Section:
    labels = {row.name: row.label for row in table.rows}
    found = [(row, row.effect) for row in table.rows if row.effect is not None]

    def cells(row: Row, effect: Effect) -> tuple[Cell, ...]:
        harmed, needed = effect.harmed, effect.noise.users_needed
        texts = (
            row.label,
            f"{effect.answers_changed:.1%}",
            f"{effect.helped} / {effect.left_alone} / {harmed.users}",
            f"{harmed.share:.1%}",
            f"{harmed.low:.1%} to {harmed.high:.1%}",
            signed(effect.worst_tenth),
            signed(effect.gain.value),
            "yes" if effect.noise.told else "no",
            "" if needed is None else f"{needed:,}",
        )
        return tuple(map(Cell, texts))

    return Section(
        title=f"did it do anything, against {labels[found[0][1].against]}",
        header=(
            "method",
            *("answers changed", "users helped / left / harmed", "harmed", "95 % interval"),
            *(
                f"worst {found[0][1].worst_tenth_users} users",
                f"gain in {table.primary}",
                "told from noise",
                "users needed",
            ),
        ),
        rows=tuple(cells(row, effect) for row, effect in found),
        notes=(
            f"harmed: {table.primary} worse; methods differ in what they know of probabilities, so that NLL is no part of it",
            *(f"{row.label}: {effect.noise.sentence}" for row, effect in found if row.name == "perfit"),
        ),
    )
