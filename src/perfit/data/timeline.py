"""Histories in order of time, and how far their dates can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from perfit.data.dates import Moment, is_after, parse_date, us_to_iso
from perfit.data.schema import Dataset, HistoryItem, Query, User

Dates = Literal["iso", "us"]
"""What a date with the year at its end means: nothing that can be read, or month/day/year."""

_Dated = TypeVar("_Dated", HistoryItem, Query)


def in_order_of_time(dataset: Dataset, dates: Dates = "iso") -> Dataset:
    """The dataset with every history oldest first, and notes on what was sorted and which dates cannot be read.

    A history is sorted when all its items have a date that can be read and one surely lies before an earlier one; items
    of equal dates keep their order. A history with dates on some items only keeps the order of the file.

    Args:
        dataset: As read.
        dates: "us" takes 06/15/2019 for the 15th of June and writes it as ISO text; "iso" does not read it.
    """
    if dates == "us":
        dataset = replace(dataset, users=_all_iso(dataset.users), others=_all_iso(dataset.others))
    groups, changed, partly = [], 0, 0
    for users in (dataset.users, dataset.others):
        group = []
        for user in users:
            moments = [parse_date(item.date) for item in user.history]
            known = [moment for moment in moments if moment is not None]
            partly += 0 < len(known) < len(moments)
            if len(known) == len(moments) and _out_of_order(known):
                changed += 1
                user = replace(user, history=sorted_history(user.history, known))
            group.append(user)
        groups.append(tuple(group))
    notes = list(dataset.notes)
    if changed:
        notes.append(f"{changed} histories were not in order of time and were sorted by date, oldest first")
    if partly:
        notes.append(
            f"{partly} histories keep the order of the file, for some of their items have no date that can be read"
        )
    notes += _unread(dataset)
    return replace(dataset, users=groups[0], others=groups[1], notes=tuple(notes))


def sorted_history(history: Sequence[HistoryItem], moments: Sequence[Moment]) -> tuple[HistoryItem, ...]:
    """The items, oldest first; equal dates keep their order."""
    order = sorted(range(len(history)), key=lambda index: moments[index])
    return tuple(history[index] for index in order)


def count_unread(records: Iterable[HistoryItem | Query]) -> int:
    """How many records have a date that cannot be read."""
    return sum(1 for record in records if record.date is not None and parse_date(record.date) is None)


def _out_of_order(moments: Sequence[Moment]) -> bool:
    latest: Moment = ()
    for moment in moments:
        if is_after(latest, moment):
            return True
        latest = max(latest, moment)
    return False


def _unread(dataset: Dataset) -> list[str]:
    count, total, first = 0, 0, ""
    for group, users in (("users", dataset.users), ("others", dataset.others)):
        for number, user in enumerate(users):
            parts: tuple[tuple[str, Sequence[HistoryItem | Query]], ...] = (
                ("history", user.history),
                ("queries", user.queries),
            )
            for part, records in parts:
                for index, record in enumerate(records):
                    total += record.date is not None
                    if record.date is not None and parse_date(record.date) is None:
                        first = first or f"{group}[{number}].{part}[{index}]"
                        count += 1
    if not count:
        return []
    return [
        f"{count} of {total} dates cannot be read (the first at {first}) and count as missing; "
        "write them as 2019-06-15, or say --dates us for 06/15/2019"
    ]


def _all_iso(users: Sequence[User]) -> tuple[User, ...]:
    return tuple(
        replace(user, history=tuple(map(with_iso_date, user.history)), queries=tuple(map(with_iso_date, user.queries)))
        for user in users
    )


def with_iso_date(record: _Dated) -> _Dated:
    """The record with its US date, if it has one, as ISO text."""
    iso = us_to_iso(record.date) if record.date is not None else None
    return record if iso is None else replace(record, date=iso)
