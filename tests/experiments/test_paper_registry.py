"""The registry: every table and figure is there, what is wrong is one line, and each number stands where it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from perfit.errors import ConfigError
from perfit.experiments.paper.entry import Entry
from perfit.experiments.paper.registry import entries, entry_of, read_entry

TEXT = Path(os.environ.get("PERFIT_PAPER") or Path(__file__).resolve().parents[3] / "shared" / "paper") / "perfit.txt"
TABLES = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
FIGURES = ("2", "4", "5", "6", "7", "8", "9", "s10-14", "15", "16")
ENTRY = """title: A table
section: "1"
line: 1
kind: compare
tasks: [movie_tagging]
bases: [llama-2-7b]
rows:
  - {label: PerFit, method: perfit}
numbers:
  - {row: PerFit, line: 2, values: {movie_tagging.accuracy: 0.5}}
"""


def numbers_on(line: str) -> set[float]:
    """Every number of a line, as it is and as the paper writes small ones; the signs between them are no minus."""
    plain = line.replace(",", "").replace("−", "-")
    found = {float(text) for text in re.findall(r"\d*\.?\d+(?:e-?\d+)?", plain)}
    powers = re.findall(r"(\d+\.?\d*)×10\^\{-(\d+)\}", plain)
    return found | {round(float(a) * 10 ** -int(b), 12) for a, b in powers}


def wrong_lines(entry: Entry, text: list[str]) -> list[str]:
    """Numbers that are not on the line they name."""
    printed = [(one.line, value) for one in entry.numbers for value in one.values.values()]
    printed += [(one.line, one.value) for one in entry.parameters]
    return [
        f"{entry.name}: {value} on line {line}" for line, value in printed if value not in numbers_on(text[line - 1])
    ]


@pytest.fixture
def text() -> list[str]:
    if not TEXT.is_file():
        pytest.skip(f"the paper's text is not at {TEXT}; set PERFIT_PAPER to its folder")
    return TEXT.read_text(encoding="utf-8").split("\n")


def test_every_table_and_figure_is_there_in_the_papers_order() -> None:
    assert list(entries()) == [*(f"table{n}" for n in TABLES), *(f"figure{n}" for n in FIGURES)]


def test_every_number_stands_on_its_line(text: list[str]) -> None:
    assert [wrong for entry in entries().values() for wrong in wrong_lines(entry, text)] == []


def test_a_number_on_another_line_is_found(text: list[str], tmp_path: Path) -> None:
    moved = (Path(entries.__wrapped__.__code__.co_filename).parent / "entries" / "table4.yaml").read_text()
    (tmp_path / "table4.yaml").write_text(moved.replace("line: 211", "line: 212"))
    assert wrong_lines(read_entry(tmp_path / "table4.yaml"), text)


def test_captions_and_claims_stand_on_lines_with_words(text: list[str]) -> None:
    lines = [(e.name, n) for e in entries().values() for n in (e.line, *(claim.line for claim in e.claims))]
    assert [(name, n) for name, n in lines if len(text[n - 1].split()) < 2] == []
    for entry in entries().values():
        number = re.search(r"\d+", entry.name)
        assert number is not None
        word = "Table" if entry.name.startswith("table") else "Figure"
        if entry.name not in ("figures10-14",):
            assert text[entry.line - 1].startswith(f"{word} {number[0]}:"), entry.name


def test_there_are_as_many_numbers_as_the_paper_prints_scores() -> None:
    counts = {name: sum(len(one.values) for one in entry.numbers) for name, entry in entries().items()}
    assert (counts["table2"], counts["table3"], counts["table4"]) == (28, 64, 40)
    assert (counts["table10"], counts["table11"], counts["table13"], counts["table15"]) == (60, 42, 128, 36)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: compare", "kind: compared", "kind: 'compared' is not possible"),
        ("[movie_tagging]", "[movies]", "tasks: 'movies' is not possible"),
        ("title:", "titel:", "'titel' is unknown"),
        ("line: 1\n", "", "a field is missing"),
        ("method: perfit}", "methode: perfit}", "rows: 'methode' is unknown"),
        ("row: PerFit, line: 2", "row: OPPU, line: 2", "numbers.row: 'OPPU'"),
        ("0.5}", "half}", "values.movie_tagging.accuracy: 'half'"),
        ("line: 2", "line: 0", "line: 0 is not possible"),
        ("{label: PerFit, method: perfit}", "perfit", "give a mapping"),
    ],
)
def test_what_is_wrong_is_one_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in ENTRY
    (tmp_path / "mine.yaml").write_text(ENTRY.replace(old, new, 1))
    with pytest.raises(ConfigError) as raised:
        read_entry(tmp_path / "mine.yaml")
    assert said in str(raised.value)
    assert str(raised.value).startswith("mine.yaml: ")
    assert "\n" not in str(raised.value)


def test_an_entry_that_is_none_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'table7' is no table or figure here; choose from table1, table2"):
        entry_of("table7")


def test_claims_name_columns_of_their_entry() -> None:
    for entry in entries().values():
        if entry.kind == "compare":
            named = {column for claim in entry.claims for column in claim.columns}
            assert named <= set(entry.columns), entry.name
