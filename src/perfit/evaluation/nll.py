"""How probable base, collective and personal find the users' own answers: NLL beside the metric."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from perfit.data.schema import Query, User
from perfit.evaluation.aggregate import Interval
from perfit.evaluation.bootstrap import Summed, interval, resampled
from perfit.evaluation.effect import UserNll
from perfit.personalizer import PerFit
from perfit.tasks.task import Task

TOKEN, LABEL = "answer token", "label"


@dataclass(frozen=True)
class Nll:
    """Negative log-likelihood of the known answers, in nats.

    Attributes:
        unit: "answer token" (the answer's closing eos included), or "label" where answers are chosen among the task's
            labels: there it is of the right one of these, their probabilities summing to 1.
        users: By method, then user.
        seconds: What it took, all methods together; None where it came with the answers' own scores.
        compared: A method and its reference whose difference is printed, where both were asked.
    """

    unit: str
    users: Mapping[str, Mapping[str, UserNll]]
    seconds: float | None
    compared: tuple[str, str] | None = None

    def mean(self, method: str) -> float:
        """Of a method, over all tokens (labels) of all users."""
        found = self.users[method].values()
        return sum(user.total for user in found) / sum(user.tokens for user in found)

    def gain(self) -> Interval | None:
        """How much smaller the compared method's NLL is than its reference's, with its 95 % interval over users."""
        if self.compared is None:
            return None
        method, reference = self.compared
        mine, theirs = self.users[method], self.users[reference]
        less = np.array([[theirs[user].total - mine[user].total] for user in mine])
        tokens = np.array([[mine[user].tokens] for user in mine], dtype=np.float64)
        drawn = resampled({"less": Summed("nll", less), "tokens": Summed("tokens", tokens)}, range(len(mine)))
        return Interval(self.mean(reference) - self.mean(method), *interval(drawn["less"] / drawn["tokens"]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``."""
        gain = self.gain()
        tokens = sum(user.tokens for user in next(iter(self.users.values())).values())
        return {
            "unit": self.unit.replace(" ", "_"),
            "n": tokens,
            "methods": {method: self.mean(method) for method in self.users},
            "gain": None if gain is None else asdict(gain),
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }

    def line(self) -> str:
        """For people."""
        means = ", ".join(f"{method} {self.mean(method):.3f}" for method in self.users)
        gain, less = self.gain(), ""
        if gain is not None and self.compared is not None:
            bounds = "" if gain.low is None else f" (95 % interval over users {gain.low:+.3f} to {gain.high:+.3f})"
            less = f"; {self.compared[0]} is better by {gain.value:+.3f}{bounds}"
        took = "" if self.seconds is None else f"; took {self.seconds:.1f} s"
        return f"NLL per {self.unit} of the known answers: {means}{less}{took}"


def nll_of_tokens(
    perfit: PerFit,
    users: Sequence[User],
    owners: Mapping[str, Callable[[str], str]],
    *,
    compared: tuple[str, str] | None = None,
    done: Callable[[int], None] = lambda rows: None,
) -> Nll:
    """NLL of the users' known answers by method; all methods in one go, as they share their prompts.

    Args:
        perfit: A trained run.
        users: With queries whose answers are known; those without any are left out.
        owners: By method, whom a user's queries are asked for.
        compared: A method and its reference; without effect where one of them is not asked.
        done: Called with the number of answers finished.
    """
    began = time.perf_counter()
    asked = [(user.id, query) for user in users for query in user.queries]
    queries = [query for _, query in asked] * len(owners)
    whose = [owner(user) for owner in owners.values() for user, _ in asked]
    askers = [user for user in users for _ in user.queries] * len(owners)
    scores = perfit.score_answers(queries, whose, askers=askers, done=done)
    losses = {
        method: [(-found.log_prob, found.tokens) for found in scores[number * len(asked) : (number + 1) * len(asked)]]
        for number, method in enumerate(owners)
    }
    return _by_user(TOKEN, losses, asked, time.perf_counter() - began, compared)


def nll_of_labels(
    task: Task, users: Sequence[User], scores: Mapping[str, Tensor], *, compared: tuple[str, str] | None = None
) -> Nll:
    """NLL of the users' known labels by method, from scores that are there already.

    Args:
        task: With labels.
        users: With queries whose answers are known, in the order of the scores' rows.
        scores: By method: log-probabilities of all labels, [queries, labels], up to a constant a row.
        compared: As in ``nll_of_tokens``.
    """
    asked = [(user.id, query) for user in users for query in user.queries]
    places = [task.labels.index(task.check_gold(query.gold or "", f"query {query.id}")) for _, query in asked]
    losses = {
        method: [(-float(row[place]), 1) for row, place in zip(found.log_softmax(1), places, strict=True)]
        for method, found in scores.items()
    }
    return _by_user(LABEL, losses, asked, None, compared)


def _by_user(
    unit: str,
    losses: Mapping[str, Sequence[tuple[float, int]]],
    asked: Sequence[tuple[str, Query]],
    seconds: float | None,
    compared: tuple[str, str] | None,
) -> Nll:
    by_method: dict[str, dict[str, UserNll]] = {}
    for method, found in losses.items():
        sums: dict[str, UserNll] = {}
        for (user, _), (loss, tokens) in zip(asked, found, strict=True):
            before = sums.get(user, UserNll(0.0, 0))
            sums[user] = UserNll(before.total + loss, before.tokens + tokens)
        by_method[method] = sums
    pair = compared if compared is not None and by_method.keys() >= set(compared) else None
    return Nll(unit, by_method, seconds, pair)
