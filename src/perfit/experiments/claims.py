"""What the paper's text says, held against our numbers: seen, not seen, or not to be told with so many users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfit.evaluation.bootstrap import interval
from perfit.evaluation.score import HIGHER_IS_BETTER
from perfit.experiments.paper.entry import METRICS, Claim
from perfit.experiments.scores import Key, Scored

SEEN, NOT_SEEN, UNKNOWN, MISSING = "seen", "not seen", "cannot be told", "missing"
FEWEST = 10
"""Users below whom a measured number says nothing of users in general."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        says, line: The claim.
        verdict: The worst of its parts: not seen, then missing, then cannot be told, then seen.
        parts: How many parts came to what.
        details: The parts that are not simply seen, one line each.
    """

    says: str
    line: int
    verdict: str
    parts: Mapping[str, int]
    details: tuple[str, ...]


def judge(
    claim: Claim, scored: Scored, measures: Mapping[str, float], users: Mapping[str, int], tasks: Sequence[str]
) -> Verdict:
    """Hold one claim against what was found.

    Args:
        claim: The claim.
        scored: Of a comparison.
        measures: Of anything else, by name; of rows by ``row/column``.
        users: By task, how many stand behind a measure.
        tasks: Those that were run: a claim on others is not judged by what nobody wanted.
    """
    named = claim.measures if claim.kind == "measured" else claim.columns
    run = [name for name in named if _was_run(name, claim, tasks, measures)]
    if claim.kind == "measured":
        parts = [(name, _of_measure(claim, name, measures, users)) for name in run]
    else:
        parts = [
            (f"{a} against {b} in {column}", _of_pair(claim, (a, column), (b, column), scored, measures, users))
            for column in run
            for a in claim.better
            for b in claim.worse
        ]
    found = [verdict for _, (verdict, _) in parts]
    worst = next((one for one in (NOT_SEEN, MISSING, UNKNOWN, SEEN) if one in found), MISSING)
    details = [f"{what}: {verdict} ({why})" for what, (verdict, why) in parts if verdict != SEEN]
    if len(run) < len(named):
        details.insert(0, f"{len(run)} of {len(named)} columns were run")
    return Verdict(
        claim.says, claim.line, worst, {one: found.count(one) for one in dict.fromkeys(found)}, tuple(details)
    )


def _was_run(name: str, claim: Claim, tasks: Sequence[str], measures: Mapping[str, float]) -> bool:
    task = name.partition(".")[0]
    if task in METRICS:
        return task in tasks
    return claim.kind == "measured" or any(key.endswith(f"/{name}") for key in measures)


def _of_measure(claim: Claim, name: str, measures: Mapping[str, float], users: Mapping[str, int]) -> tuple[str, str]:
    value = measures.get(name)
    if value is None:
        return MISSING, "not measured"
    holds = value < claim.below if claim.below is not None else value > (claim.above or 0.0)
    bound = f"below {claim.below:g}" if claim.below is not None else f"above {claim.above or 0:g}"
    task = name.partition(".")[0]
    count = users.get(task, min(users.values(), default=0))
    if count < claim.fewest:
        needs = "" if count < FEWEST else f", which takes {claim.fewest} users to tell"
        return UNKNOWN, f"{value:.3g} with {count} users; {bound} was claimed{needs}"
    return (SEEN if holds else NOT_SEEN), f"{value:.3g}; {bound} was claimed"


def _of_pair(
    claim: Claim, a: Key, b: Key, scored: Scored, measures: Mapping[str, float], users: Mapping[str, int]
) -> tuple[str, str]:
    column = a[1]
    metric = column.rpartition(".")[2]
    sign = 1 if HIGHER_IS_BETTER.get(metric, True) else -1
    if f"{a[0]}/{column}" in measures and f"{b[0]}/{column}" in measures:
        gain = sign * (measures[f"{a[0]}/{column}"] - measures[f"{b[0]}/{column}"])
        return _of_values(claim, gain, min(users.values(), default=0))
    if a not in scored.samples or b not in scored.samples:
        return MISSING, "a cell is missing"
    gains = sign * (scored.samples[a] - scored.samples[b])
    low, high = interval(gains)
    ours = [scored.scores[key].mean for key in (a, b)]
    gain = sign * ((ours[0] or 0.0) - (ours[1] or 0.0))
    task = column.partition(".")[0]
    if low is None or high is None or scored.users.get(task, 0) < FEWEST:
        return UNKNOWN, f"{gain:+.3f} with {scored.users.get(task, 0)} users"
    said = f"{gain:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    if claim.kind == "near":
        inside, outside = -claim.margin <= low and high <= claim.margin, high < -claim.margin or low > claim.margin
        return (SEEN if inside else NOT_SEEN if outside else UNKNOWN), said
    return (SEEN if low > 0 else NOT_SEEN if high < 0 else UNKNOWN), said


def _of_values(claim: Claim, gain: float, users: int) -> tuple[str, str]:
    said = f"{gain:+.3f}"
    if users < FEWEST:
        return UNKNOWN, f"{said} with {users} users"
    if claim.kind == "near":
        return (SEEN if abs(gain) <= claim.margin else NOT_SEEN), said
    return (SEEN if gain > 0 else NOT_SEEN), said
