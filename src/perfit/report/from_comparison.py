"""A report's content from the folder of ``perfit compare``."""

from __future__ import annotations

from collections.abc import Mapping

from perfit.comparison.results import Results
from perfit.comparison.sections import sections
from perfit.comparison.table import Row, Table, means_by_user
from perfit.evaluation.judged import values_by_query
from perfit.evaluation.score import higher_is_better
from perfit.report.conclusion import of_comparison
from perfit.report.content import Content, MethodView, disagreements, failures
from perfit.report.families import family_of


def from_comparison(results: Results, table: Table, *, texts: bool = True) -> Content:
    """Everything the comparison found; the texts are those of each method's first seed.

    Args:
        results: The folder, read.
        table: Its table.
        texts: Whether users' texts and the methods' answers are part of the report.
    """
    primary = table.primary
    upward = higher_is_better(primary)
    done = [row for row in table.rows if row.metrics]
    values = {row.name: values_by_query(results.scored[row.name], primary) for row in done}
    means = {name: means_by_user(results, per_query) for name, per_query in values.items()}
    reference = means.get(table.against or "")
    first = {row.label: results.scored[row.name][0] for row in done}
    answers = {label: scored.predictions for label, scored in first.items()}
    return Content(
        title=f"Methods on {table.task}",
        facts=_facts(results, table),
        primary=primary,
        higher_is_better=upward,
        sections=sections(table),
        methods=[_view(row, primary, means[row.name], reference, table.against, upward) for row in done],
        reference=next((row.label for row in done if row.name == table.against), None),
        history=results.history,
        disagreements=disagreements(
            results.task,
            results.users,
            answers,
            {label: scored.scores.per_query for label, scored in first.items()},
            higher_is_better=upward,
        )
        if texts and len(done) > 1
        else [],
        failures=failures(
            results.task, {row.label: row.metrics["format failures"].mean for row in done}, answers, texts
        ),
        notes=[] if texts else ["users' texts are left out of this page"],
        conclusion=of_comparison(table),
    )


def _facts(results: Results, table: Table) -> list[tuple[str, str]]:
    data, versions = results.plan["data"], results.plan["versions"]
    return [
        ("Base", f"{table.base}, {table.base_parameters:,} parameters, {results.plan['base']['dtype']}"),
        ("Data", f"{data['source']}: {table.n_users} users, {table.n_queries} queries, {data['others']} other users"),
        (
            "Answers",
            {
                "free": "free text",
                "sampled": "free text, drawn as in the paper",
                "labels": "the task's labels alone",
                "expected": "median and mean of ratings",
            }[table.answers],
        ),
        ("Seeds", ", ".join(map(str, table.seeds))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _view(
    row: Row,
    primary: str,
    means: Mapping[str, float],
    reference: Mapping[str, float] | None,
    against: str | None,
    upward: bool,
) -> MethodView:
    low, high = row.intervals[primary]
    sign = 1.0 if upward else -1.0
    gains = {} if reference is None or row.name == against else {u: sign * (means[u] - reference[u]) for u in means}
    costs = row.costs
    return MethodView(
        label=row.label,
        score=row.metrics[primary].mean,
        low=low,
        high=high,
        failure_rate=row.metrics["format failures"].mean,
        parameters=None if costs is None else costs.collective_parameters + costs.personal_parameters,
        train_seconds=None if costs is None else costs.fit_seconds.mean + costs.adapt_seconds.mean,
        gains=gains,
        family=family_of(row.name),
    )
