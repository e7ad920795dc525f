"""Dates as the sources write them, made comparable."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

Moment = tuple[float, ...]
"""(year, month, day, second of the day), as far as the source says."""

_UTC = timezone(timedelta(0))
_YEAR_FIRST = re.compile(r"(\d{4})(?:-(\d{2}))?|(\d{4})([-/.])(\d{1,2})\4(\d{1,2})(?:[T ]+(\S.*))?", re.ASCII)
_ISO = re.compile(r"\d{4}-(?:\d{2}-\d{2}|W\d{2}-\d)(?:[T ]\S{2,30})?|\d{8}T\S{2,30}", re.ASCII)
_DIGITS = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T?(\d{2})(\d{2})(\d{2}))?", re.ASCII)
_UNIX = re.compile(r"-?\d{5,19}(?:\.\d*)?", re.ASCII)
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
# Other names of zones would be taken for UTC in silence.
_ZONE = r"(?:[+-]\d{4}|Z|GMT|UTC?|[ECMP][SD]T)(?: \([A-Za-z ]+\))?"
_MAIL = re.compile(
    rf"(?:[A-Z][a-z]{{2}}, ?)?\d{{1,2}} {_MONTH} \d{{4}} \d{{2}}:\d{{2}}(?::\d{{2}})?(?: {_ZONE})?", re.ASCII
)
_TWITTER = re.compile(
    rf"[A-Z][a-z]{{2}} ({_MONTH}) +(\d{{1,2}}) (\d{{2}}:\d{{2}}:\d{{2}}) (?:([+-]\d{{4}}) )?(\d{{4}})", re.ASCII
)
_US = re.compile(
    r"(\d{1,2})([/ -])(\d{1,2})(?:, *|\2)(\d{4})(?:,? +(\d{1,2}):(\d{2})(?::(\d{2}))?(?: ?([AaPp])\.?[Mm]\.?)?)?",
    re.ASCII,
)


def parse_date(text: str | None) -> Moment | None:
    """A date as (year, month, day, second of the day), as far as the text says; None when it is no date.

    Understood are "2018", "2018-03", "2018-03-01", "2018/03/01", "2018.3.1", "20180301", each day also with a time
    ("2018-03-01T12:30:00Z"; without a zone: UTC); numbers since 1970 in seconds, milli-, micro- or nanoseconds, told
    apart by their size (five digits or more, as four digits are a year; eight digits that make a day of 1900 to 2100
    are that day); dates of e-mails ("Fri, 01 Mar 2018 12:30:00 +0100") and of Twitter ("Thu Mar 01 12:30:00 +0000
    2018"). Where the day stands before the year, as in 03/01/2018, nobody can tell it from the month: see ``us_to_iso``.
    """
    text = (text or "").strip()
    try:
        return _year_first(text) or _number(text) or _named_month(text) or _iso(text)
    except (ValueError, OverflowError, OSError):
        return None


def us_to_iso(text: str) -> str | None:
    """A US date, month first ("03/01/2018", "3/1/2018 4:05 PM", "03 01, 2018"), as ISO text; None when it is none."""
    match = _US.fullmatch(text.strip())
    if match is None:
        return None
    month, _, day, year, hour, minute, second, half = match.groups()
    try:
        if hour is None:
            return date(int(year), int(month), int(day)).isoformat()
        hours = int(hour)
        if half is not None:
            if not 1 <= hours <= 12:
                return None
            hours = hours % 12 + (12 if half in "Pp" else 0)
        return datetime(int(year), int(month), int(day), hours, int(minute), int(second or 0)).isoformat()
    except ValueError:
        return None


def is_after(late: Moment, early: Moment) -> bool:
    """Whether ``late`` surely comes after ``early``: a bare day is not after an hour of the same day."""
    common = min(len(late), len(early))
    return late[:common] > early[:common]


def _year_first(text: str) -> Moment | None:
    match = _YEAR_FIRST.fullmatch(text)
    if match is None:
        return None
    year, month, full_year, _, full_month, day, time = match.groups()
    if year is not None:
        parts = tuple(int(part) for part in (year, month) if part)
        date(*[*parts, 1, 1][:3])
        return parts
    moment = date(int(full_year), int(full_month), int(day))
    return _iso(f"{moment.isoformat()}T{time}") if time else (moment.year, moment.month, moment.day)


def _number(text: str) -> Moment | None:
    match = _DIGITS.fullmatch(text)
    if match is not None and 1900 <= int(match[1]) <= 2100:
        if match[4] is None:
            day = date(int(match[1]), int(match[2]), int(match[3]))
            return (day.year, day.month, day.day)
        return _full(datetime.strptime("".join(match.groups()), "%Y%m%d%H%M%S").replace(tzinfo=_UTC))
    if not _UNIX.fullmatch(text):
        return None
    value = float(text)
    for unit in (1, 1e3, 1e6, 1e9):
        # 10¹¹ seconds are the year 5138, 10¹¹ milliseconds 1973.
        if abs(value) < 1e11 * unit:
            return _full(datetime.fromtimestamp(0, _UTC) + timedelta(seconds=value / unit))
    return None


def _named_month(text: str) -> Moment | None:
    if match := _TWITTER.fullmatch(text):
        month, day, time, zone, year = match.groups()
        text = f"{day} {month} {year} {time} {zone or '+0000'}"
    return _zoned(parsedate_to_datetime(text)) if _MAIL.fullmatch(text) else None


def _iso(text: str) -> Moment | None:
    # Python takes far more for ISO dates, rows of digits among them.
    return _zoned(datetime.fromisoformat(text)) if _ISO.fullmatch(text) else None


def _zoned(moment: datetime) -> Moment:
    return _full(moment if moment.tzinfo else moment.replace(tzinfo=_UTC))


def _full(moment: datetime) -> Moment:
    moment = moment.astimezone(_UTC)
    second = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    return (moment.year, moment.month, moment.day, second)
