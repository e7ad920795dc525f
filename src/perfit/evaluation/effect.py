"""Did it do anything: what a personal method changed against a reference, for whom, and who is worse off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from perfit.data.schema import User
from perfit.evaluation.aggregate import Interval, compare
from perfit.evaluation.judged import Judged, values_by_query
from perfit.evaluation.noise import Noise, noise_of
from perfit.evaluation.significance import wilson

NLL_MARGIN = 0.01
"""A user's NLL counts as worse, or better, from this share of the reference's on."""
_EQUAL = 1e-9
_WORST = 10  # one user in so many


@dataclass(frozen=True)
class UserNll:
    """Negative log-likelihood of one user's answers, summed, and over how many tokens."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        """Per token."""
        return self.total / self.tokens


@dataclass(frozen=True)
class UserEffect:
    """One user.

    Attributes:
        user / queries / history: Who, how many queries, how many past items.
        gain: Mean gain in the metric over the reference, positive where better in either direction of the metric.
        nll_reference / nll: Per answer token; None where it was left out.
        strength: How far the user's answers go from the collective shift; None where methods know none.
        outcome: "helped", "harmed" or "left_alone".
        worse: Whether metric or NLL is worse by any amount.
    """

    user: str
    queries: int
    history: int
    gain: float
    nll_reference: float | None
    nll: float | None
    strength: float | None
    outcome: str
    worse: bool


@dataclass(frozen=True)
class Share:
    """Users as a share of all, with the 95 % Wilson interval."""

    users: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """What a method did to its users against a reference on the same queries. Gains are positive where it is better.

    A user is *harmed* whose mean of the metric is worse, or whose NLL is more than 1 % worse; *helped* who is not
    harmed and whose metric is better or whose NLL is more than 1 % better; *left alone* otherwise.

    Attributes:
        against / metric: The reference, and the metric of gains.
        n_users / n_queries: How many were compared.
        answers_changed: Share of the answers that differ from the reference's.
        helped / left_alone: Users.
        harmed / worse: Users harmed, and worse by any amount, with shares.
        worst_tenth / worst_tenth_users: Mean gain of the tenth of the users with the smallest, and how many they are.
        strength_zero: Users whose strength is 0; None where methods know none.
        gain: Difference of the pooled means, with its 95 % interval over resampled users.
        noise: Whether that gain can be told from noise.
        with_nll: Whether NLL was looked at.
        users: Every user.
    """

    against: str
    metric: str
    n_users: int
    n_queries: int
    answers_changed: float
    helped: int
    left_alone: int
    harmed: Share
    worse: Share
    worst_tenth: float
    worst_tenth_users: int
    strength_zero: int | None
    gain: Interval
    noise: Noise
    with_nll: bool
    users: tuple[UserEffect, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def lines(self, name: str) -> list[str]:
        """What happened, for people; ``name`` is the method's."""
        rule = f"{self.metric} worse" + (f", or NLL more than {NLL_MARGIN:.0%} worse" if self.with_nll else "")
        interval = f"95 % interval {self.harmed.low:.1%} to {self.harmed.high:.1%}"
        zero = "" if self.strength_zero is None else f"; {self.strength_zero} users have strength 0"
        return [
            f"{name} against {self.against}: helps {self.helped} users, harms {self.harmed.users}, "
            f"leaves {self.left_alone}; gain in {self.metric} {self.gain.value:+.3f}",
            f"harmed ({rule}): {self.harmed.share:.1%} of users ({interval}); worse by any amount: {self.worse.share:.1%}; "
            f"mean gain of the worst tenth ({self.worst_tenth_users}): {self.worst_tenth:+.3f}",
            f"answers that changed: {self.answers_changed:.1%} of {self.n_queries}{zero}",
            self.noise.sentence,
        ]


def effect_of(
    values: Mapping[str, float],
    reference: Mapping[str, float],
    users: Sequence[User],
    *,
    higher_is_better: bool,
    metric: str,
    against: str,
    answers_changed: float,
    history: Mapping[str, int],
    nll: Mapping[str, UserNll] | None = None,
    nll_reference: Mapping[str, UserNll] | None = None,
    strengths: Mapping[str, float] | None = None,
) -> Effect:
    """Hold a method's values against a reference's, query by query.

    Args:
        values, reference: The metric by query id.
        users: The users whose queries these are; those without queries are left out.
        higher_is_better, metric: Of the values.
        against: The reference's name.
        answers_changed: See ``changed``.
        history: Past items by user.
        nll, nll_reference: By user; both or none.
        strengths: By user.

    Raises:
        DataError: The query ids of values and users disagree, or there is none.
    """
    compared = compare(values, reference, users, higher_is_better=higher_is_better)
    asked = [user for user in users if user.queries]
    sign = 1.0 if higher_is_better else -1.0
    sums = [sum(sign * (values[q.id] - reference[q.id]) for q in user.queries) for user in asked]
    found = []
    for user, total in zip(asked, sums, strict=True):
        own = None if nll is None else nll[user.id].mean
        theirs = None if nll_reference is None else nll_reference[user.id].mean
        gain = total / len(user.queries)
        found.append(
            UserEffect(
                user=user.id,
                queries=len(user.queries),
                history=history[user.id],
                gain=gain,
                nll_reference=theirs,
                nll=own,
                strength=None if strengths is None else strengths[user.id],
                outcome=_outcome(gain, own, theirs),
                worse=gain < -_EQUAL or (own is not None and theirs is not None and own - theirs > _EQUAL),
            )
        )
    tenth = math.ceil(len(found) / _WORST)
    outcomes = [one.outcome for one in found]
    return Effect(
        against=against,
        metric=metric,
        n_users=len(found),
        n_queries=compared.n_queries,
        answers_changed=answers_changed,
        helped=outcomes.count("helped"),
        left_alone=outcomes.count("left_alone"),
        harmed=_share(outcomes.count("harmed"), len(found)),
        worse=_share(sum(one.worse for one in found), len(found)),
        worst_tenth=sum(sorted(one.gain for one in found)[:tenth]) / tenth,
        worst_tenth_users=tenth,
        strength_zero=None if strengths is None else sum(one.strength == 0 for one in found),
        gain=compared.gain,
        noise=noise_of(sums, [one.queries for one in found], compared.gain, metric),
        with_nll=nll is not None,
        users=tuple(found),
    )


def effect_between(
    seeds: Sequence[Judged],
    reference: Sequence[Judged],
    users: Sequence[User],
    *,
    against: str,
    history: Mapping[str, int],
    nll: Mapping[str, UserNll] | None = None,
    nll_reference: Mapping[str, UserNll] | None = None,
    strengths: Mapping[str, float] | None = None,
) -> Effect:
    """What a method did in the task's primary metric: values are means over seeds, answers are held against those of the
    reference's same seed, or of its only one.

    Args:
        seeds, reference: The method and the reference, each with all of its seeds.
        users, against, history, nll, nll_reference, strengths: As for ``effect_of``.

    Raises:
        DataError: They did not answer the same queries.
    """
    scores, by_seed = seeds[0].scores, {one.seed: one for one in reference}
    shares = [changed(one.predictions, by_seed.get(one.seed, reference[0]).predictions) for one in seeds]
    return effect_of(
        values_by_query(seeds, scores.primary),
        values_by_query(reference, scores.primary),
        users,
        higher_is_better=scores.higher_is_better,
        metric=scores.primary,
        against=against,
        answers_changed=fmean(shares),
        history=history,
        nll=nll,
        nll_reference=nll_reference,
        strengths=strengths,
    )


def changed(predictions: Mapping[str, str], reference: Mapping[str, str]) -> float:
    """Share of the queries whose two answers differ, blanks around them apart."""
    return sum(predictions[query].strip() != reference[query].strip() for query in reference) / len(reference)


def _outcome(gain: float, nll: float | None, reference: float | None) -> str:
    more = 0.0 if nll is None or reference is None else nll - reference
    margin = 0.0 if reference is None else NLL_MARGIN * reference
    if gain < -_EQUAL or more > margin:
        return "harmed"
    return "helped" if gain > _EQUAL or -more > margin else "left_alone"


def _share(users: int, of: int) -> Share:
    return Share(users, users / of, *wilson(users, of))
