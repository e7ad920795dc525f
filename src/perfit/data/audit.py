"""Looks for answers to be predicted that stand in the training data.

What trains what: stage 1 trains on the others' queries (and may show their histories), stage 2 trains one user's shift on
that user's own history. So a match in the user's own history or among the stage-1 users can be a leak; a match in
*another test user's* history never reaches this user's shift and is a note.

Severity, per finding ("leak" stops a run, "note" is printed):

* Texts shorter than ``MIN_WORDS`` words are notes: "Read more" or the title "Introduction" repeat by nature. In scripts
  without blanks two characters count as a word (``perfit.words``).
* A query's text in the training data is a leak unless its answer there is known to be another one: a columnist's
  standing line under new headlines tells nothing.
* Among the stage-1 users it is a note, too, when answers belong to the person and not to the text (``shared_texts``):
  ten users may rate one film, and the nine other ratings are evidence, not the answer.
* Earlier turns of a conversation are searched like records of their own.
* A free-text answer found as an answer elsewhere is a leak. For label tasks answers repeat by nature; not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from perfit.data.audit_report import KINDS, AuditReport, Finding, Severity
from perfit.data.dates import is_after, parse_date
from perfit.data.schema import Dataset, HistoryItem, Query, Turn, User
from perfit.data.timeline import count_unread
from perfit.words import count_words, matching_key

MIN_WORDS = 4
"""Texts and answers with fewer words may repeat by chance: a match is only a note."""

MIN_SHARED = 20
"""Texts that two users have in common, from which on the data itself can tell whether answers belong to the person."""

MIN_DISAGREEMENT = 0.25
"""Share of those texts with differing answers, from which on they do."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A test query, normalised."""

    owner: int
    user: str
    query: str
    text: str
    gold: str


@dataclass(frozen=True, slots=True)
class _Source:
    """A training record: its place, the group it belongs to, its texts and its answer, normalised."""

    group: Literal["own", "test", "stage1"]
    part: Literal["history", "queries"]
    owner: int
    where: str
    texts: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class _Reader:
    """Where records hold their texts and answers, and how these are compared."""

    answer_field: str | None
    text_fields: Sequence[str]
    marker: str | None
    spelled: Callable[[str], str | None]

    def answer(self, text: str | None) -> str:
        return matching_key(self.spelled(text) or text) if text else ""

    def asked(self, query: Query) -> str:
        _, found, article = query.input.partition(self.marker) if self.marker else ("", "", "")
        return matching_key(article if found else query.input)

    def item(self, item: HistoryItem) -> tuple[tuple[str, ...], str]:
        texts = {matching_key(item.fields[name]) for name in self.text_fields if name in item.fields}
        return tuple(texts), self.answer(item.fields.get(self.answer_field or ""))

    def said(self, turns: Sequence[Turn]) -> Iterator[tuple[str, str]]:
        """What was asked and replied earlier in a conversation: it stands in the prompt, answers and all."""
        for place, turn in enumerate(turns):
            if turn.role == "user":
                after = turns[place + 1 : place + 2]
                yield matching_key(turn.content), self.answer(after[0].content if after else None)


def audit(
    dataset: Dataset,
    *,
    answer_field: str | None,
    text_fields: Sequence[str],
    free_text: bool,
    marker: str | None = None,
    shared_texts: bool | None = None,
    spelled: Callable[[str], str | None] = lambda answer: answer,
) -> AuditReport:
    """Searches the training data for the test queries and their answers. Linear in the size of the data.

    Args:
        dataset: What a run would train and evaluate on.
        answer_field: History field with the answer; None when items have none.
        text_fields: History fields with the text that a query asks about.
        free_text: Whether answers are free text (then their reappearance is checked) or labels.
        marker: In LaMP question strings the article begins after this text.
        shared_texts: Whether several users naturally answer on the same text, each in an own way (films, products).
            None lets the data decide: for labels, when users with a text in common often differ in the answer.
        spelled: An answer as the task spells it ("4.0" as "4"), or None where it is none (``Task.spelled``).

    Returns:
        The report. Nothing is raised for a leak; see ``AuditReport.raise_if_leaky``.
    """
    reader = _Reader(answer_field, text_fields, marker, spelled)
    targets = [
        _Target(owner, user.id, query.id, reader.asked(query), reader.answer(query.gold))
        for owner, user in enumerate(dataset.users)
        for query in user.queries
    ]
    by_text = _index((target.text, target) for target in targets)
    by_gold = _index((target.gold, target) for target in targets) if free_text else {}
    notes: list[str] = []
    if shared_texts is None:
        shared_texts = False
        if not free_text:
            shared_texts, note = _texts_are_shared(dataset, reader)
            notes.append(note)
    # Without other users stage 1 trains on the histories of the test users themselves.
    hits = _Hits(pool=not dataset.others)
    checked = 0
    for source in _sources(dataset, reader):
        checked += 1
        for text in source.texts:
            for target in by_text.get(text, ()):
                hits.add("query", target, source, _text_severity(target, source, shared_texts))
        for target in by_gold.get(source.answer, ()):
            hits.add("answer", target, source, "leak" if _is_long(source.answer) else "note")
    findings = hits.findings() + _double_users(dataset) + _late_items(dataset)
    order = list(KINDS)
    findings.sort(key=lambda finding: (finding.severity != "leak", order.index(finding.kind)))
    notes += _unread_dates(dataset)
    return AuditReport(tuple(findings), len(targets), checked, tuple(notes))


class _Hits:
    """Matches, gathered to one finding a query and kind."""

    def __init__(self, pool: bool) -> None:
        self._pool = pool
        self._found: dict[tuple[str, int, str, str], Finding] = {}

    def add(self, what: str, target: _Target, source: _Source, severity: Severity) -> None:
        group = source.group
        if group == "test" and source.owner == target.owner:
            group = "own"
        elif group == "test" and self._pool:
            group = "stage1"
        kind = f"{what}_in_{group}_{source.part}"
        severity = "note" if group == "test" else severity
        key = (kind, target.owner, target.user, target.query)
        old = self._found.get(key)
        keep = old is not None and (old.severity == "leak" or severity == "note")
        self._found[key] = Finding(
            kind,
            old.severity if old and keep else severity,
            target.user,
            target.query,
            old.where if old and keep else source.where,
            old.matches + 1 if old else 1,
        )

    def findings(self) -> list[Finding]:
        return list(self._found.values())


def _text_severity(target: _Target, source: _Source, shared_texts: bool) -> Severity:
    differs = bool(target.gold and source.answer) and target.gold != source.answer
    persons = shared_texts and (source.group == "stage1" or source.owner != target.owner)
    return "leak" if _is_long(target.text) and not differs and not persons else "note"


def _sources(dataset: Dataset, reader: _Reader) -> Iterator[_Source]:
    for owner, user in enumerate(dataset.users):
        for where, texts, answer in _history(user, reader):
            yield _Source("test", "history", owner, f"users[{owner}].{where}", texts, answer)
    for owner, user in enumerate(dataset.others):
        for where, texts, answer in _history(user, reader):
            yield _Source("stage1", "history", owner, f"others[{owner}].{where}", texts, answer)
        for index, query in enumerate(user.queries):
            where = f"others[{owner}].queries[{index}]"
            yield _Source("stage1", "queries", owner, where, (reader.asked(query),), reader.answer(query.gold))
            for text, reply in reader.said(query.turns):
                yield _Source("stage1", "queries", owner, where, (text,), reply)


def _history(user: User, reader: _Reader) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for index, item in enumerate(user.history):
        yield f"history[{index}]", *reader.item(item)
        for text, reply in reader.said(item.turns):
            yield f"history[{index}]", (text,), reply


def _texts_are_shared(dataset: Dataset, reader: _Reader) -> tuple[bool, str]:
    owner_of: dict[str, tuple[str, str]] = {}
    differing: dict[str, bool] = {}
    asked = (
        (f"users[{owner}]", reader.asked(query), reader.answer(query.gold))
        for owner, user in enumerate(dataset.users)
        for query in user.queries
    )
    trained = (
        (source.where.split(".")[0], text, source.answer)
        for source in _sources(dataset, reader)
        for text in source.texts
    )
    for pairs in (asked, trained):
        for owner_name, text, answer in pairs:
            if not _is_long(text) or not answer:
                continue
            first_owner, first_answer = owner_of.setdefault(text, (owner_name, answer))
            if first_owner != owner_name:
                differing[text] = differing.get(text, False) or first_answer != answer
    count = sum(differing.values())
    shared = len(differing) >= MIN_SHARED and count >= MIN_DISAGREEMENT * len(differing)
    verdict = "the person, so equal texts at different users are notes" if shared else "the text"
    return (
        shared,
        f"{len(differing)} texts occur at two or more users, {count} with differing answers: answers belong to {verdict}",
    )


def _double_users(dataset: Dataset) -> list[Finding]:
    others = {user.id: index for index, user in enumerate(dataset.others)}
    return [
        Finding("test_user_in_stage1", "leak", user.id, None, f"others[{others[user.id]}]")
        for user in dataset.users
        if user.id in others
    ]


def _late_items(dataset: Dataset) -> list[Finding]:
    findings = []
    for owner, user in enumerate(dataset.users):
        asked = [(query, date) for query in user.queries if (date := parse_date(query.date)) is not None]
        if not asked:
            continue
        items = [(i, date) for i, item in enumerate(user.history) if (date := parse_date(item.date)) is not None]
        for query, asked_on in asked:
            late = [index for index, date in items if is_after(date, asked_on)]
            if late:
                where = f"users[{owner}].history[{late[0]}]"
                findings.append(Finding("history_after_query", "leak", user.id, query.id, where, len(late)))
    return findings


def _unread_dates(dataset: Dataset) -> list[str]:
    asked = count_unread(query for user in dataset.users for query in user.queries)
    items = count_unread(item for user in dataset.users for item in user.history)
    if not asked and not items:
        return []
    return [
        f"the dates of {asked} queries and {items} items cannot be read: whether such items come after such queries was not checked"
    ]


def _is_long(text: str) -> bool:
    return count_words(text) >= MIN_WORDS


def _index(pairs: Iterable[tuple[str, _Target]]) -> dict[str, list[_Target]]:
    index: dict[str, list[_Target]] = {}
    for text, target in pairs:
        if text:
            index.setdefault(text, []).append(target)
    return index
