"""What is read as a date, what is not, and how they compare."""

from __future__ import annotations

import pytest

from perfit.data.dates import is_after, parse_date, us_to_iso

NOON = 12.5 * 3600


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2018", (2018,)),
        ("2018-03", (2018, 3)),
        ("2018-03-01", (2018, 3, 1)),
        (" 2018/3/1 ", (2018, 3, 1)),
        ("2018/03/01 12:30", (2018, 3, 1, NOON)),
        ("2018.03.01", (2018, 3, 1)),
        ("20190615", (2019, 6, 15)),
        ("20190615T123000", (2019, 6, 15, NOON)),
        ("20190615123000", (2019, 6, 15, NOON)),
        ("1560601800", (2019, 6, 15, NOON)),
        ("1560601800.0", (2019, 6, 15, NOON)),
        ("1560601800000", (2019, 6, 15, NOON)),
        ("1560601800000000", (2019, 6, 15, NOON)),
        ("1560601800000000000", (2019, 6, 15, NOON)),
        ("946684799", (1999, 12, 31, 86399)),
        ("946684799000", (1999, 12, 31, 86399)),
        ("-86400", (1969, 12, 31, 0)),
        ("2018-03-01T12:30:00Z", (2018, 3, 1, NOON)),
        ("2018-03-01T13:30:00+01:00", (2018, 3, 1, NOON)),
        ("2018-03-01 12:30", (2018, 3, 1, NOON)),
        ("Thu, 1 Mar 2018 13:30:00 +0100", (2018, 3, 1, NOON)),
        ("01 Mar 2018 12:30 GMT", (2018, 3, 1, NOON)),
        ("Thu, 01 Mar 2018 07:30:00 -0500 (EST)", (2018, 3, 1, NOON)),
        ("Thu Mar 01 12:30:00 +0000 2018", (2018, 3, 1, NOON)),
        ("Thu Mar  1 12:30:00 2018", (2018, 3, 1, NOON)),
    ],
)
def test_dates_that_are_read(text: str, expected: tuple[float, ...]) -> None:
    assert parse_date(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "yesterday", "2018-13-01", "2018-02-30", "20191345", "20190230", "0000", "1234"[:3]),
        *("06/15/2019", "15.06.2019", "1/2/2019", "2018/03-01", "Thu, 1 Mar 2018 13:30:00 CEST", "1 Foo 2018 12:30"),
        *("9" * 30, "1" * 5000, "nan", "inf", "1e9", "2018-03-01T25:00:00", "12:30:00", "Thu Mar 41 12:30:00 2018"),
    ],
)
def test_what_is_no_date(text: str | None) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("06/15/2019", "2019-06-15"),
        ("6/5/2019", "2019-06-05"),
        ("08 24, 2010", "2010-08-24"),
        ("06/15/2019 3:05 PM", "2019-06-15T15:05:00"),
        ("06/15/2019, 12:05:07 am", "2019-06-15T00:05:07"),
        ("06/15/2019 15:05", "2019-06-15T15:05:00"),
        *((text, None) for text in ("15/06/2019", "06/15/19", "2019-06-15", "06/15/2019 15:05 PM", "06/15-2019", "")),
    ],
)
def test_us_dates(text: str, expected: str | None) -> None:
    assert us_to_iso(text) == expected
    assert expected is None or parse_date(expected) is not None


def test_a_bare_day_is_not_after_an_hour_of_it() -> None:
    day, hour = (2018, 3, 1), (2018, 3, 1, 7.0)
    assert not is_after(day, hour)
    assert not is_after(hour, day)
    assert is_after((2018, 3, 2), hour)
    assert is_after((2018, 3, 1, 8.0), hour)
