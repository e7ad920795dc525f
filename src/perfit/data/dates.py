"""Dates as the sources write them, made comparable."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_ISO = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_UNIX = re.compile(r"-?\d{5,11}(?:\.\d+)?")


def parse_date(text: str | None) -> tuple[float, ...] | None:
    """A date as (year, month, day, second of the day), as far as the text says; None when it is no date.

    Understood are ISO dates ("2018", "2018-03", "2018-03-01", "2018-03-01T12:30:00Z"; without a zone: UTC) and Unix
    seconds (five digits or more, as four digits are a year).
    """
    text = (text or "").strip()
    try:
        if match := _ISO.fullmatch(text):
            parts = tuple(int(part) for part in match.groups() if part)
            datetime(*(parts + (1, 1))[:3])
            return parts
        if _UNIX.fullmatch(text):
            return _full(datetime.fromtimestamp(float(text), timezone.utc))
        if len(text) < 10:
            return None
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return _full(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))
    except (ValueError, OverflowError, OSError):
        return None


def is_after(late: tuple[float, ...], early: tuple[float, ...]) -> bool:
    """Whether ``late`` surely comes after ``early``: a bare day is not after an hour of the same day."""
    common = min(len(late), len(early))
    return late[:common] > early[:common]


def _full(moment: datetime) -> tuple[float, ...]:
    moment = moment.astimezone(timezone.utc)
    second = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    return (moment.year, moment.month, moment.day, second)
