"""What an audit found: ids and places, never texts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from perfit.errors import LeakError
from perfit.shown import shown

Severity = Literal["leak", "note"]

KINDS = {
    "query_in_own_history": "the query's text is in the user's own history",
    "query_in_test_history": "the query's text is in another test user's history",
    "query_in_stage1_history": "the query's text is in a stage-1 user's history",
    "query_in_stage1_queries": "the query's text is asked of a stage-1 user",
    "answer_in_own_history": "the wanted answer is in the user's own history",
    "answer_in_test_history": "the wanted answer is in another test user's history",
    "answer_in_stage1_history": "the wanted answer is in a stage-1 user's history",
    "answer_in_stage1_queries": "the wanted answer is an answer of a stage-1 query",
    "test_user_in_stage1": "a test user is also a stage-1 user",
    "history_after_query": "the user's history holds items dated after the query",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One query (or user) with matching training records; holds ids and places, never texts.

    Attributes:
        kind: A key of ``KINDS``.
        severity: "leak" or "note".
        user / query: The test user and query concerned; ``query`` is None for findings about a user.
        where: The first matching record, e.g. ``others[3].queries[0]``; of the gravest ones if they differ.
        matches: How many records match.
    """

    kind: str
    severity: Severity
    user: str
    query: str | None
    where: str
    matches: int = 1


@dataclass(frozen=True)
class AuditReport:
    """What the audit found, and what it looked at."""

    findings: tuple[Finding, ...]
    checked_queries: int
    checked_records: int
    notes: tuple[str, ...] = field(default=())

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings of severity "leak"."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    @property
    def counts(self) -> dict[tuple[str, Severity], int]:
        """Number of findings by (kind, severity), in the order of ``KINDS``."""
        counter = Counter((finding.kind, finding.severity) for finding in self.findings)
        severities: tuple[Severity, ...] = ("leak", "note")
        return {key: counter[key] for kind in KINDS for key in ((kind, s) for s in severities) if counter[key]}

    def lines(self, *, examples: int = 3) -> list[str]:
        """The report for printing: one line a kind, with the places of the first few findings."""
        head = f"audit: {self.checked_queries} test queries against {self.checked_records} records"
        result = [f"{head}: {len(self.leaks)} leaks, {len(self.findings) - len(self.leaks)} notes", *self.notes]
        for (kind, severity), count in self.counts.items():
            same = [f for f in self.findings if (f.kind, f.severity) == (kind, severity)]
            users = len({finding.user for finding in same})
            result.append(f"{severity}: {KINDS[kind]} ({kind}): {count} findings, {users} users")
            for finding in same[:examples]:
                query = "" if finding.query is None else f", query {shown(finding.query)}"
                result.append(f"  user {shown(finding.user)}{query}: {finding.where} ({finding.matches} records)")
            if count > examples:
                result.append(f"  and {count - examples} more")
        return result

    def raise_if_leaky(self) -> None:
        """Does nothing when there is no leak.

        Raises:
            LeakError: With the number of leaks and the first one's place.
        """
        if self.leaks:
            first = self.leaks[0]
            kinds = ", ".join(
                f"{kind} {count}" for (kind, severity), count in self.counts.items() if severity == "leak"
            )
            query = "" if first.query is None else f", query {shown(first.query)}"
            raise LeakError(
                f"{len(self.leaks)} leaks of test answers into the training data ({kinds})",
                record=f"user {shown(first.user)}{query}: {first.where}",
                remedy="remove these records, or allow leaks explicitly",
            )
