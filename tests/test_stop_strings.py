"""Stop strings end an answer where the first of them is complete, whatever comes at a time and whatever follows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfit.errors import ConfigError
from perfit.stop_strings import checked_stop, stops, until_stop


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        ("work\nand more", ("\n",), "work"),
        ("work", ("\n",), "work"),
        ("\nwork", ("\n",), ""),
        ("abcd", ("abcd", "c"), "ab"),  # "c" is complete first
        ("abcd", ("bc", "c"), "a"),  # both at once: the longer one
        ("a###b##", ("##",), "a"),
        ("", ("x",), ""),
        ("text", (), "text"),
    ],
)
def test_an_answer_ends_before_the_stop_that_is_complete_first(text: str, stop: tuple[str, ...], left: str) -> None:
    assert until_stop(text, stop) == left
    assert stops(text, stop) == any(one in text for one in stop)


@given(
    pieces=st.lists(st.text("ab", min_size=1, max_size=3), max_size=8),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_ending_there_is_the_same_as_cutting_afterwards(pieces: list[str], stop: list[str]) -> None:
    said = ""
    for piece in pieces:
        said += piece
        if stops(said, stop):
            break
    assert until_stop(said, stop) == until_stop("".join(pieces), stop)


def test_a_text_is_one_stop_and_a_list_several() -> None:
    assert checked_stop("ab") == ("ab",)
    assert checked_stop(["a", "b"]) == ("a", "b")
    assert checked_stop(()) == ()


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (7, "stop: an object of type int is not possible; give texts such as"),
        (b"a", "stop: an object of type bytes is not possible"),
        ({"a"}, "stop: an object of type set is not possible"),
        (["a", 7], r"stop\[1\]: an object of type int is no text"),
        (["a", ""], r"stop\[1\]: '' is empty and would end every answer at once"),
        ("", r"stop\[0\]: '' is empty"),
    ],
)
def test_what_cannot_stop_is_refused_in_one_line(stop: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        checked_stop(stop)
    assert "\n" not in str(refused.value)
