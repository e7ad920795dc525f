"""Tables of Markdown: columns line up, numbers stand to the right."""

from __future__ import annotations

import pytest

from perfit.markdown import markdown_table

HEADER = ["method", "f1"]
ROWS = [["base", "0.1234"], ["a longer name", ""]]


def test_columns_of_words_stand_to_the_left() -> None:
    assert markdown_table(HEADER, ROWS) == [
        "| method        | f1     |",
        "|---------------|--------|",
        "| base          | 0.1234 |",
        "| a longer name |        |",
    ]


def test_numbers_stand_to_the_right_and_the_first_column_does_not() -> None:
    assert markdown_table(HEADER, ROWS, numbers=True) == [
        "| method        |     f1 |",
        "|---------------|-------:|",
        "| base          | 0.1234 |",
        "| a longer name |        |",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert markdown_table(["a", "bc"], []) == ["| a | bc |", "|---|----|"]


def test_a_row_of_another_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        markdown_table(HEADER, [["base"]])
