"""Tables as files: a column for every number, and names from outside that stay names."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from perfit.comparison.render import _markdown, as_csv, as_latex, as_markdown, cell
from perfit.comparison.sections import Cell, Section
from perfit.comparison.table import Row, Table
from perfit.evaluation.judged import Spread
from perfit.evaluation.significance import Difference
from perfit.markdown import markdown

EVIL = "<img src=x onerror=go()> | a ![b](http://x) `c` **d** &amp; \x1b[2J\u202e\nnext"
REFERENCE = Row("base", "BASE", (0,), None, {"accuracy": Spread(0.5, None)}, {"accuracy": (0.4, 0.6)})
BETTER = Row(
    "perfit",
    "PERFIT",
    (0,),
    None,
    {"accuracy": Spread(0.75, 0.1)},
    {"accuracy": (0.7, 0.8)},
    differences={"accuracy": Difference(0.25, 0.05, 0.35, 0.01, 0.02)},
)
TABLE = Table("folders", "accuracy", "tiny", 1000, 4, 8, (0,), "base", "free", (REFERENCE, BETTER))


def lines_of(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(table))))


def test_the_score_and_its_gain_each_have_their_own_interval_in_the_csv() -> None:
    base, better = lines_of(TABLE)
    assert (better["accuracy low"], better["accuracy high"]) == ("0.7", "0.8")
    assert [better[f"accuracy gain{part}"] for part in ("", " low", " high")] == ["0.25", "0.05", "0.35"]
    assert (base["accuracy low"], base["accuracy gain low"]) == ("0.4", "")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", " -"])
def test_a_cell_is_never_a_formula_and_a_number_stays_one(sign: str) -> None:
    rows = (replace(REFERENCE, label=f"{sign}HYPERLINK(1)"), BETTER)
    line = lines_of(replace(TABLE, rows=rows))[0]
    assert line["label"].startswith("'")
    assert cell(-0.25) == -0.25
    assert cell("perfit-c") == "perfit-c"


def test_markdown_has_no_html_links_or_further_cells() -> None:
    rows = (replace(REFERENCE, label=EVIL, problem=EVIL), BETTER)
    text = as_markdown(replace(TABLE, rows=rows, task=EVIL, notes=(EVIL,)))
    assert r"\<img src=x onerror=go()\> | a".replace(r"\> |", r"> \|") in text
    assert r"\!" not in text
    assert r"!\[b\](http\://x)" in text
    assert not set(text) & set("\x1b\u202e")
    table = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(line.replace(r"\|", "").split("|")) for line in table[:4]]
    assert len(set(bars)) == 1


def test_a_header_is_escaped_as_cells_are() -> None:
    text = _markdown(Section("title", ("method", EVIL), ((Cell("a"), Cell("b")),)))
    assert r"\<img" in text
    assert len({line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_plain_names_and_numbers_are_written_as_they_are() -> None:
    for text in (
        "macro_f1",
        "floor: user_majority",
        "0.875 ± 0.177",
        "< .001",
        "-1.000 to +1.000",
        "what it costs, 5 %",
    ):
        assert markdown(text) == text


def test_latex_has_no_control_characters() -> None:
    text = as_latex(replace(TABLE, rows=(replace(REFERENCE, label=EVIL), BETTER)))
    assert not set(text) & set("\x1b\u202e")
    assert r"\textbackslash{}n" in text


def test_nothing_is_best_where_nothing_is_better() -> None:
    def places(*values: float, metric: str = "accuracy") -> dict[str, int]:
        rows = tuple(
            replace(REFERENCE, name=name, metrics={metric: Spread(v, None)})
            for name, v in zip("abc", values, strict=False)
        )
        return replace(TABLE, rows=rows).rank(metric)

    assert places(0.0, 0.0, 0.0) == {}
    assert places(0.5, 0.5) == {}
    assert places(0.5) == {}
    assert places(0.5, 0.0, 0.0) == {"a": 1}
    assert places(0.5, float("nan"), 0.25) == {"a": 1, "c": 2}
    assert places(float("nan"), float("nan")) == {}
    assert places(float("nan"), 0.5, 0.25, metric="mae") == {"b": 2, "c": 1}
    assert places(0.0, 0.5, metric="mae") == {"a": 1, "b": 2}
