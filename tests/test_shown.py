"""What comes from outside is printed on its line, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfit.shown import shown


@pytest.mark.parametrize(
    "plain",
    [
        "ann",
        "",
        "a b",
        'O\'Neil "x"',
        "C:\\new",
        "é e\u0301",
        "日本語",
        "می\u200cخواهم",
        "👩\u200d🔬",
        "שלום",
        "x" * 80,
    ],
)
def test_ordinary_text_is_unchanged(plain: str) -> None:
    assert shown(plain) == plain


@pytest.mark.parametrize(
    ("forged", "line"),
    [
        ("ann\nerror: bob", r"ann\nerror: bob"),
        ("a\r\tb", r"a\r\tb"),
        ("a\x1b[2Kb", r"a\x1b[2Kb"),
        ("a\x9bb", r"a\x9bb"),
        ("a\x00b\x7f", r"a\x00b\x7f"),
        ("a\x85b\u2028c\u2029", r"a\x85b\u2028c\u2029"),
        ("a\u202eb\u2066c\u200fd\u061c", r"a\u202eb\u2066c\u200fd\u061c"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("a\ud800b", r"a\ud800b"),
        ("a\U000e0041", r"a\U000e0041"),
    ],
)
def test_what_could_move_or_hide_text_is_escaped(forged: str, line: str) -> None:
    assert shown(forged) == line


def test_other_objects_are_shown_too() -> None:
    assert (shown(7), shown(None), shown({"a\n": 1})) == ("7", "None", r"{'a\n': 1}")


def test_long_text_is_cut_and_says_so() -> None:
    assert shown("x" * 81) == "x" * 79 + "…"
    assert shown("abcdef", 4) == "abc…"
    assert shown("abcd", 4) == "abcd"
    assert shown("ab\n", 4) == r"ab\n"
    assert shown("ab\nc", 4) == "ab…", "no half of an escape"


@given(st.text(st.characters(), max_size=120), st.integers(1, 100))
def test_always_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    line = shown(text, limit)
    assert len(line) <= limit
    assert line == "" or len(line.splitlines()) == 1
    line.encode()
