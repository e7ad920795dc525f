"""Dates as the sources write them, made comparable."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

_ISO = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_UTC = timezone(timedelta(0))
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
            date(*[*parts, 1, 1][:3])
            return parts
        if _UNIX.fullmatch(text):
            return _full(datetime.fromtimestamp(float(text), _UTC))
        if len(text) < 10:
            return None
        # Python 3.10 does not read the "Z".
        moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
        return _full(moment if moment.tzinfo else moment.replace(tzinfo=_UTC))
    except (ValueError, OverflowError, OSError):
        return None


def is_after(late: tuple[float, ...], early: tuple[float, ...]) -> bool:
    """Whether ``late`` surely comes after ``early``: a bare day is not after an hour of the same day."""
    common = min(len(late), len(early))
    return late[:common] > early[:common]


def _full(moment: datetime) -> tuple[float, ...]:
    moment = moment.astimezone(_UTC)
    second = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    return (moment.year, moment.month, moment.day, second)
