"""The table of a comparison: scores with their spread over seeds, what each method costs, and how sure differences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from statistics import fmean
from typing import Any

from perfit.comparison.floor_notes import floor_notes
from perfit.comparison.results import Results
from perfit.errors import ConfigError
from perfit.evaluation.best_floor import MEAN_OF_USERS, headline_metrics
from perfit.evaluation.bootstrap import RESAMPLES, Floats, bootstrap_p, interval, resampled, summed
from perfit.evaluation.effect import Effect, effect_between
from perfit.evaluation.judged import FORMAT_FAILURES, Judged, Spread, columns, values_by_query
from perfit.evaluation.score import higher_is_better
from perfit.evaluation.significance import Difference, holm, wilcoxon_p
from perfit.json_keys import json_key
from perfit.methods.registry import seeded

UNCHANGED = ("perfit-stage-1", "base")
"""What users have without anything personal: the collective shift, or where it is not compared the base."""
_EQUAL = 1e-9


@dataclass(frozen=True)
class Costs:
    """What a method holds and takes.

    Attributes:
        collective_parameters / personal_parameters: Trained numbers of stage 1, and of one user.
        collective_share / personal_share: The same as shares of the base's parameters.
        collective_reduction / personal_reduction: 1 − parameters / OPPU's on the same base; None where the method or
            OPPU trains nothing in the stage.
        user_bytes: Bytes of one user at rest.
        fit_seconds / adapt_seconds / predict_seconds: Stage 1; stage 2 of all users; all answers.
        peak_bytes: The most memory the process took, base included; largest over seeds.
        restarted: Whether seconds hold work that a kill made necessary twice.
    """

    collective_parameters: int
    personal_parameters: int
    collective_share: float
    personal_share: float
    collective_reduction: float | None
    personal_reduction: float | None
    user_bytes: int
    fit_seconds: Spread
    adapt_seconds: Spread
    predict_seconds: Spread
    peak_bytes: int
    restarted: bool


@dataclass(frozen=True)
class Wins:
    """Users whose mean of the primary metric, over their queries and all seeds, is better, worse, the same."""

    better: int
    worse: int
    equal: int


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        name / label: Key, and as the paper prints it.
        seeds: Those that are finished.
        problem: What is missing, in one line; None when every seed is finished.
        metrics: Every metric of the task, then "mean of users" and "format failures"; empty when no seed is finished.
        intervals: 95 % interval of each of the task's metrics over resampled users, the mean over seeds taken first.
        costs: None when no seed is finished.
        not_adapted: Users the method could not adapt to, and answered without an adaptation.
        differences: By metric, against the reference; empty for the reference itself.
        p_holm: ``p_users`` of the primary metric, adjusted for all methods of the table.
        wins: Against the reference.
        effect: What the method did to whom, by the metric alone, against the first of ``UNCHANGED`` that is finished; its
            users are left out. None for that one itself.
    """

    name: str
    label: str
    seeds: tuple[int, ...]
    problem: str | None
    metrics: Mapping[str, Spread] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    costs: Costs | None = None
    not_adapted: int = 0
    differences: Mapping[str, Difference] = field(default_factory=dict)
    p_holm: float | None = None
    wins: Wins | None = None
    effect: Effect | None = None


@dataclass(frozen=True)
class Table:
    """All rows, and what they were made from; ``answers`` is "free" or "sampled", or "labels" for labels alone, "expected" for the ratings' median and mean."""

    task: str
    primary: str
    base: str
    base_parameters: int
    n_users: int
    n_queries: int
    seeds: tuple[int, ...]
    against: str | None
    answers: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """Columns of scores; empty while no trial is finished."""
        return next((list(row.metrics) for row in self.rows if row.metrics), [])

    def rank(self, metric: str) -> dict[str, int]:
        """Methods with the best value of a metric (1), and where that is one method, those with the next (2).

        Nobody is best alone, or where all methods have one value; a score of nothing, and none at all, has no place.
        """
        upward = _higher(metric, self.primary)
        means = {row.name: row.metrics[metric].mean for row in self.rows if row.metrics}
        known = {name: value for name, value in means.items() if isfinite(value)}
        if not known or max(known.values()) - min(known.values()) <= _EQUAL:
            return {}
        values = {name: -value if upward else value for name, value in known.items() if not upward or value > _EQUAL}
        places: dict[str, int] = {}
        for place in (1, 2):
            rest = {name: value for name, value in values.items() if name not in places}
            if rest and len(places) < 2:
                best = min(rest.values())
                places |= {name: place for name, value in rest.items() if value - best <= _EQUAL}
        return places

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        values = asdict(self)
        for row in values["rows"]:
            if row["effect"] is not None:
                del row["effect"]["users"]
            for part in ("metrics", "intervals", "differences"):
                row[part] = {json_key(metric): inner for metric, inner in row[part].items()}
        return values


def _higher(metric: str, primary: str) -> bool:
    if metric == FORMAT_FAILURES:
        return False
    return higher_is_better(primary if metric == MEAN_OF_USERS else metric)


def make_table(results: Results, against: str | None = None, *, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """The table of everything that is finished.

    Args:
        results: What was read from the comparison's folder.
        against: Reference of differences and tests; None takes the plan's, and leaves them out if it has none.
        resamples, seed: Of the bootstrap.

    Raises:
        ConfigError: ``against`` is not compared.
    """
    reference = against if against is not None else results.plan.get("against")
    if reference is not None and reference not in results.scored:
        raise ConfigError(f"against: {reference} is not compared; choose one of {', '.join(results.methods)}")
    samples = _samples(results, resamples, seed)
    unchanged = next((name for name in UNCHANGED if results.scored.get(name)), None)
    rows = [_row(results, method, reference, unchanged, samples) for method in results.methods]
    primary = [row.differences.get(results.task.primary_metric) for row in rows]
    adjusted = holm([None if found is None else found.p_users for found in primary])
    rows = [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]
    data = results.plan["data"]
    notes = [f"left out: {count} {what}" for what, count in data["left_out"].items()]
    chosen = [f"{name} {value}" for name, value in data["selection"].items() if value is not None]
    once = [row.label for row in rows if row.metrics and not seeded(row.name)]
    if once and len(results.plan["seeds"]) > 1:
        chance = "no chance in it" if results.plan["answers"] != "sampled" else "no chance in it but in its answers"
        notes.append(f"{chance}, run once: {', '.join(once)}")
    if results.plan.get("collective") is not None:
        notes.append(
            "stage 1 of PerFit's methods is the collective shift of a run that was given, and its seconds are none"
        )
    if results.plan["answers"] == "sampled":
        drawn = "temperature 0.1, top-k 10, top-p 0.9"
        notes.append(f"answers: drawn as in the paper ({drawn}) with each trial's seed, not the likeliest token")
    if results.plan["answers"] == "labels":
        notes.append(f"answers: each method's choice among the task's {len(results.task.labels)} labels, not free text")
    if results.plan["answers"] == "expected":
        notes.append("answers: median (mae) and mean (rmse) of the ratings' probabilities; floors answer as ever")
    means = {row.name: {name: value.mean for name, value in row.metrics.items()} for row in rows if row.metrics}
    labels = {row.name: row.label for row in rows}
    notes += floor_notes(means, labels, results.task.primary_metric, headline_metrics(results.task))
    notes += [f"{name}: not of every method; give --metric again for its column" for name in results.lacking]
    if chosen:
        notes.append(f"a part of the data: {', '.join(chosen)}")
    return Table(
        task=results.task.name,
        primary=results.task.primary_metric,
        base=results.plan["base"]["name"],
        base_parameters=results.plan["base"]["parameters"],
        n_users=len(results.users),
        n_queries=len(results.golds),
        seeds=tuple(results.plan["seeds"]),
        against=reference,
        answers=results.plan["answers"],
        rows=tuple(rows),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Samples:
    """Bootstrap samples [resamples] by (method, metric): over users and over queries, the mean over seeds taken."""

    users: Mapping[tuple[str, str], Floats]
    queries: Mapping[tuple[str, str], Floats]


def _samples(results: Results, resamples: int, seed: int) -> _Samples:
    parts = {
        (method, metric, scored.seed): summed(results.task, metric, scored.by_query, scored.predictions, results.golds)
        for method, all_scored in results.scored.items()
        for scored in all_scored
        for metric in scored.scores.metrics
    }
    owner = {query.id: user.id for user in results.users for query in user.queries}
    by_user = resampled(parts, [owner[query] for query in results.golds], resamples=resamples, seed=seed)
    by_query = resampled(parts, list(results.golds), resamples=resamples, seed=seed)
    return _Samples(_over_seeds(by_user), _over_seeds(by_query))


def _over_seeds(samples: Mapping[tuple[str, str, int], Floats]) -> dict[tuple[str, str], Floats]:
    gathered: dict[tuple[str, str], list[Floats]] = {}
    for (method, metric, _), values in samples.items():
        gathered.setdefault((method, metric), []).append(values)
    return {key: sum(values[1:], start=values[0]) / len(values) for key, values in gathered.items()}


def _row(results: Results, method: str, reference: str | None, unchanged: str | None, samples: _Samples) -> Row:
    scored = results.scored[method]
    problem = _problem(results, method)
    if not scored:
        return Row(method, results.label(method), (), problem)
    names = list(scored[0].scores.metrics)
    others = results.scored.get(reference, []) if reference != method and reference is not None else []
    return Row(
        name=method,
        label=results.label(method),
        seeds=tuple(one.seed for one in scored),
        problem=problem,
        metrics=columns(scored),
        intervals={name: interval(samples.users[method, name]) for name in names},
        costs=_costs(results, method),
        not_adapted=len({user for record in _done(results, method) for user in record.problems}),
        differences={name: _difference(results, name, scored, others, samples, method, reference) for name in names}
        if others and reference is not None
        else {},
        wins=_wins(results, scored, others) if others else None,
        effect=_effect(results, scored, unchanged) if unchanged not in (None, method) else None,
    )


def _effect(results: Results, scored: Sequence[Judged], unchanged: str) -> Effect:
    found = effect_between(scored, results.scored[unchanged], results.users, against=unchanged, history=results.history)
    return replace(found, users=())


def _done(results: Results, method: str) -> list[Any]:
    return [record for trial, record in results.records.items() if trial.method == method and record.status == "done"]


def _problem(results: Results, method: str) -> str | None:
    faults = []
    mine = {trial: record for trial, record in results.records.items() if trial.method == method}
    for trial, record in mine.items():
        if record.status == "failed" and record.failure is not None:
            faults.append((trial.seed, f"failed: {record.failure['error']}"))
        elif record.status != "done":
            begun = f"; {results.answered[trial]} of {len(results.users)} users answered" if record.starts else ""
            faults.append((trial.seed, f"not finished{begun}"))
    if not faults:
        return None
    if len(faults) == len(mine) and len({fault for _, fault in faults}) == 1:
        return faults[0][1]
    return "; ".join(f"seed {seed} {fault}" for seed, fault in faults)


def _costs(results: Results, method: str) -> Costs:
    done = _done(results, method)
    cost = done[0].cost
    base = results.plan["base"]["parameters"]
    reference = results.plan["reference_cost"] or {}
    seconds = {phase: Spread.of([record.seconds[phase] for record in done]) for phase in ("fit", "adapt", "predict")}

    def reduction(name: str) -> float | None:
        return 1 - cost[name] / reference[name] if cost[name] and reference.get(name) else None

    return Costs(
        collective_parameters=cost["collective_parameters"],
        personal_parameters=cost["personal_parameters"],
        collective_share=cost["collective_parameters"] / base,
        personal_share=cost["personal_parameters"] / base,
        collective_reduction=reduction("collective_parameters"),
        personal_reduction=reduction("personal_parameters"),
        user_bytes=cost["user_bytes"],
        fit_seconds=seconds["fit"],
        adapt_seconds=seconds["adapt"],
        predict_seconds=seconds["predict"],
        peak_bytes=max(record.peak_bytes for record in done),
        restarted=any(record.starts > 1 for record in done),
    )


def means_by_user(results: Results, values: Mapping[str, float]) -> dict[str, float]:
    """Means over each user's queries."""
    return {user.id: fmean(values[query.id] for query in user.queries) for user in results.users}


def _difference(
    results: Results,
    metric: str,
    scored: Sequence[Judged],
    others: Sequence[Judged],
    samples: _Samples,
    method: str,
    reference: str,
) -> Difference:
    sign = 1.0 if higher_is_better(metric) else -1.0
    mine, theirs = (fmean(one.scores.metrics[metric] for one in group) for group in (scored, others))
    by_user = sign * (samples.users[method, metric] - samples.users[reference, metric])
    by_query = sign * (samples.queries[method, metric] - samples.queries[reference, metric])
    low, high = interval(by_user)
    users = queries = None
    if metric in next(iter(scored[0].by_query.values())):
        mine_by_query, theirs_by_query = values_by_query(scored, metric), values_by_query(others, metric)
        gains = {query: sign * (mine_by_query[query] - theirs_by_query[query]) for query in mine_by_query}
        users = wilcoxon_p(list(means_by_user(results, gains).values()))
        queries = wilcoxon_p(list(gains.values()))
    return Difference(sign * (mine - theirs), low, high, bootstrap_p(by_user), bootstrap_p(by_query), users, queries)


def _wins(results: Results, scored: Sequence[Judged], others: Sequence[Judged]) -> Wins:
    primary = results.task.primary_metric
    sign = 1.0 if higher_is_better(primary) else -1.0
    mine, theirs = values_by_query(scored, primary), values_by_query(others, primary)
    gains = means_by_user(results, {query: sign * (mine[query] - theirs[query]) for query in mine}).values()
    better = sum(gain > _EQUAL for gain in gains)
    worse = sum(gain < -_EQUAL for gain in gains)
    return Wins(better, worse, len(gains) - better - worse)
