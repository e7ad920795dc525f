"""From queries to users: who is helped, who is harmed, and how sure the difference is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perfit.data.schema import User
from perfit.errors import ConfigError, DataError
from perfit.evaluation.bootstrap import RESAMPLES, Floats, draws, interval

_EQUAL = 1e-9  # means of the same values in another order differ by rounding only


@dataclass(frozen=True)
class UserScore:
    """One user's mean over ``n`` queries of the primary metric."""

    user: str
    n: int
    mean: float


@dataclass(frozen=True)
class Aggregate:
    """A method's primary metric, three ways.

    Attributes:
        n_users / n_queries: How many were scored.
        pooled: Mean over all queries (what the paper's tables and the LaMP evaluator print).
        mean_of_users: Mean over users of each user's mean, so that a user with many queries weighs no more.
        users: Every user's own mean, in the order of the users.
    """

    n_users: int
    n_queries: int
    pooled: float
    mean_of_users: float
    users: tuple[UserScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its interval; None where fewer than two users leave nothing to resample."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A method against another one on the same queries. Gains are positive where the method is better.

    Attributes:
        n_users / n_queries: How many were compared.
        helped / harmed / equal: Users whose mean is better, worse, the same.
        gain: Difference of the pooled means, with its interval over resampled users.
        gain_of_users: Mean over users of the difference of their means, with its interval.
        confidence / resamples / seed: How the intervals were made.
    """

    n_users: int
    n_queries: int
    helped: int
    harmed: int
    equal: int
    gain: Interval
    gain_of_users: Interval
    confidence: float
    resamples: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def aggregate(per_query: Mapping[str, float], users: Sequence[User]) -> Aggregate:
    """Aggregate the per-query values of ``score(...)`` by user; users without queries are left out.

    Raises:
        DataError: The query ids of values and users disagree, or there is none.
    """
    groups = _by_user(per_query, users)
    scored = tuple(UserScore(user, len(values), float(values.mean())) for user, values in groups.items())
    return Aggregate(
        n_users=len(scored),
        n_queries=len(per_query),
        pooled=float(np.concatenate(list(groups.values())).mean()),
        mean_of_users=float(np.mean([user.mean for user in scored])),
        users=scored,
    )


def compare(
    per_query: Mapping[str, float],
    other: Mapping[str, float],
    users: Sequence[User],
    *,
    higher_is_better: bool,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare a method with another one, pairing their values query by query.

    The intervals are percentiles of a bootstrap that draws *users*, not queries: a user's queries are not
    independent, and it is over new users that a claim should hold.

    Args:
        per_query: The method's per-query values (``Scores.per_query``).
        other: The other method's, for the same queries.
        users: The users whose queries these are.
        higher_is_better: The direction of the metric (``Scores.higher_is_better``).
        confidence: Share of resamples inside the interval.
        resamples: Number of bootstrap samples.
        seed: Of the draws; the same seed gives the same bounds.

    Raises:
        DataError: The query ids disagree, or there is none.
        ConfigError: ``confidence`` or ``resamples`` is impossible.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence!r}; use a number between 0 and 1, such as 0.95")
    sign = 1.0 if higher_is_better else -1.0
    mine, others = _by_user(per_query, users), _by_user(other, users)
    counts = np.array([len(values) for values in mine.values()], dtype=np.float64)
    sums = np.array([sign * (mine[user] - others[user]).sum() for user in mine])
    means = sums / counts
    pooled, by_user = _bootstrap(sums, counts, means, draws(len(counts), resamples, seed))
    return Comparison(
        n_users=len(counts),
        n_queries=int(counts.sum()),
        helped=int((means > _EQUAL).sum()),
        harmed=int((means < -_EQUAL).sum()),
        equal=int((np.abs(means) <= _EQUAL).sum()),
        gain=Interval(float(sums.sum() / counts.sum()), *interval(pooled, confidence)),
        gain_of_users=Interval(float(means.mean()), *interval(by_user, confidence)),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def _by_user(per_query: Mapping[str, float], users: Sequence[User]) -> dict[str, Floats]:
    queries = [query.id for user in users for query in user.queries]
    missing = [query for query in queries if query not in per_query]
    unknown = set(per_query) - set(queries)
    if missing or unknown:
        raise DataError(
            f"{len(missing)} queries of the users have no value and {len(unknown)} values belong to no query, "
            f"e.g. {next(iter([*missing, *sorted(unknown)]))}",
            remedy="score the queries of these users, all of them and no others",
        )
    if not queries:
        raise DataError("the users have no queries", remedy="give at least one user with a query")
    if len(set(queries)) != len(queries) or len({user.id for user in users}) != len(users):
        raise DataError("two users or two queries share an id", remedy="give each an id of its own")
    return {
        user.id: np.array([per_query[query.id] for query in user.queries], dtype=np.float64)
        for user in users
        if user.queries
    }


def _bootstrap(sums: Floats, counts: Floats, means: Floats, blocks: Iterator[Floats]) -> tuple[Floats, Floats]:
    """Pooled and per-user gains of each resample."""
    pooled, by_user = [np.empty(0)], [np.empty(0)]
    for block in blocks:
        pooled.append((block @ sums) / (block @ counts))
        by_user.append((block @ means) / len(counts))
    return np.concatenate(pooled), np.concatenate(by_user)
