"""The table, from predictions whose scores are known by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import stubs

from perfit.comparison import runner
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Trial
from perfit.comparison.render import as_csv, as_json, as_latex, as_markdown, write_table
from perfit.comparison.results import Results, load_results
from perfit.comparison.sections import p_value, sections, signed
from perfit.comparison.table import Table, make_table
from perfit.data.schema import Query, User
from perfit.errors import ConfigError
from perfit.evaluation.best_floor import MEAN_OF_USERS
from perfit.evaluation.judged import FORMAT_FAILURES, Spread

ANNA = User("anna", (), (Query("a1", "x", "work"), Query("a2", "y", "work"), Query("a3", "y", "travel")))
BEN = User("ben", (), (Query("b1", "z", "family"),))
RIGHT = {"a1": "work", "a2": "work", "a3": "travel", "b1": "family"}
POOR = {"a1": "work", "a2": "travel", "a3": "work", "b1": "Family!"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    bench = stubs.bench()
    bench = replace(bench, data=replace(bench.data, users=(ANNA, BEN)))
    answers = {"poor": POOR, "right": RIGHT, "half": RIGHT | {"a1": "travel", "a2": "travel"}}
    options = {name: {"answers": given} for name, given in answers.items()} | {"bad": {"fails": "fit"}}
    plan = Plan(("poor", "right", "half", "base", "bad"), (0, 1), options, against="poor")
    out = tmp_path_factory.mktemp("compared") / "out"
    runner.run(bench, plan, out, maker=stubs.make)
    folder = ComparisonFolder(out)
    # The second seed of "right" is wrong once: its spread is known.
    stubs.answer(folder, Trial("right", 1), [ANNA, BEN], RIGHT | {"b1": "work"})
    return load_results(folder)


@pytest.fixture(scope="module")
def table(results: Results) -> Table:
    return make_table(results, resamples=200)


def row(table: Table, name: str):  # type: ignore[no-untyped-def]
    return next(row for row in table.rows if row.name == name)


def test_scores_and_their_spread_by_hand(table: Table) -> None:
    poor, right = row(table, "poor").metrics, row(table, "right").metrics
    assert list(poor) == ["accuracy", "macro_f1", MEAN_OF_USERS, FORMAT_FAILURES]
    assert poor["accuracy"] == Spread(0.25, 0.0)
    assert poor[MEAN_OF_USERS] == Spread(pytest.approx(1 / 6), 0.0)
    assert poor[FORMAT_FAILURES] == Spread(0.25, 0.0)
    assert right["accuracy"] == Spread(0.875, pytest.approx(0.125 * 2**0.5))
    # work: one hit of two answers and two golds: F1 1/2; travel and family: 0. In RIGHT with b1 wrong: 4/5, 1, 0.
    assert poor["macro_f1"].mean == pytest.approx(0.5 / 3)
    assert right["macro_f1"].mean == pytest.approx((1 + 1.8 / 3) / 2)


def test_one_seed_has_no_deviation() -> None:
    assert Spread.of([0.5]) == Spread(0.5, None)


def test_the_best_and_the_second_best_are_ranked_in_the_direction_of_the_metric(table: Table) -> None:
    assert table.rank("accuracy") == {"right": 1, "half": 2}
    assert table.rank(FORMAT_FAILURES)["right"] == 1
    same = replace(row(table, "half"), name="twin")
    assert replace(table, rows=(*table.rows, same)).rank("accuracy") == {"right": 1, "half": 2, "twin": 2}
    same = replace(row(table, "right"), name="twin")
    assert replace(table, rows=(*table.rows, same)).rank("accuracy") == {"right": 1, "twin": 1}
    best = table.rows[0]
    assert replace(table, rows=(best, replace(best, name="equal"))).rank("accuracy") == {}


def test_a_method_without_chance_has_one_value_and_says_so(results: Results, table: Table) -> None:
    found = row(table, "base")
    assert (found.seeds, found.problem) == ((0,), None)
    assert found.metrics["accuracy"].std is None
    assert found.differences["accuracy"].p_users is not None
    assert "no chance in it, run once: BASE" in table.notes
    line = next(line for line in as_markdown(table).splitlines() if line.startswith("| BASE"))
    assert "±" not in line
    one_seed = replace(results, plan={**results.plan, "seeds": [0]})
    assert not any("no chance" in note for note in make_table(one_seed, resamples=10).notes)


def test_costs_are_shares_of_the_base_and_reductions_against_oppu(results: Results, table: Table) -> None:
    costs = row(table, "right").costs
    assert (costs.collective_share, costs.personal_share) == (100 / 100_000, 10 / 100_000)
    assert (costs.collective_reduction, costs.personal_reduction) == (0.0, 0.0)  # OPPU's stub holds as much
    larger = {"collective_parameters": 400, "personal_parameters": 0}
    again = make_table(replace(results, plan={**results.plan, "reference_cost": larger}), resamples=10)
    assert row(again, "right").costs.collective_reduction == 0.75
    assert row(again, "right").costs.personal_reduction is None
    none = row(table, "base").costs
    assert (none.collective_share, none.collective_reduction) == (0.0, None)


def test_differences_and_wins_against_the_reference(table: Table) -> None:
    found = row(table, "right")
    assert found.differences["accuracy"].gain == pytest.approx(0.625)
    assert (found.wins.better, found.wins.worse, found.wins.equal) == (2, 0, 0)
    half = row(table, "half")  # anna: 1 of 3 like poor; ben: better
    assert (half.wins.better, half.wins.worse, half.wins.equal) == (1, 0, 1)
    assert found.differences["macro_f1"].wilcoxon_users is None
    assert row(table, "poor").differences == {}
    assert row(table, "poor").wins is None
    assert found.p_holm is not None
    assert found.p_holm >= found.differences["accuracy"].p_users
    low, high = found.intervals["accuracy"]
    assert low <= 0.875 <= high


def test_the_reference_can_be_changed_or_left_out(results: Results) -> None:
    other = make_table(results, "right", resamples=10)
    assert row(other, "poor").differences["accuracy"].gain == pytest.approx(-0.625)
    alone = make_table(replace(results, plan={**results.plan, "against": None}), resamples=10)
    assert not any(one.differences for one in alone.rows)
    assert [section.title for section in sections(alone)][2:] == ["did it do anything, against BASE"]
    with pytest.raises(ConfigError, match="against: lora is not compared"):
        make_table(results, "lora")


def test_a_table_without_results_is_still_a_table(results: Results) -> None:
    empty = make_table(replace(results, scored={method: [] for method in results.scored}), resamples=10)
    assert empty.metrics == []
    assert "no fit today" in as_markdown(empty)
    assert as_latex(empty)
    assert as_csv(empty)


def test_markdown(table: Table) -> None:
    text = as_markdown(table)
    line = next(line for line in text.splitlines() if line.startswith("| RIGHT"))
    assert "**0.875 ± 0.177**" in line
    assert "<u>0.500 ± 0.000</u>" in next(line for line in text.splitlines() if line.startswith("| HALF"))
    assert "failed: no fit today" in text
    assert "+0.625" in text
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1


def test_json_and_csv_hold_every_number_unrounded(table: Table) -> None:
    read = json.loads(as_json(table))
    assert read["rows"][1]["metrics"]["accuracy"]["mean"] == 0.875
    assert read["rows"][4]["problem"] == "failed: no fit today"
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [line["method"] for line in lines] == ["poor", "right", "half", "base", "bad"]
    assert float(lines[1]["accuracy std"]) == pytest.approx(0.125 * 2**0.5)
    assert lines[1]["users better"] == "2"
    assert lines[1]["peak_bytes"].isdigit()
    assert lines[4]["accuracy"] == ""


def test_latex_is_escaped_and_balanced(table: Table) -> None:
    renamed = replace(
        table, rows=(table.rows[0], replace(table.rows[1], label="A_1 & 50% {x} #2 \\ ~"), *table.rows[2:])
    )
    text = as_latex(renamed)
    assert r"A\_1 \& 50\% \{x\} \#2 \textbackslash{} \textasciitilde{}" in text
    assert r"\textbf{0.875 $\pm$ 0.177}" in text
    assert r"\underline{0.500" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 4
    for part in text.split(r"\midrule")[1:]:
        body = part.split(r"\bottomrule")[0].strip().splitlines()
        assert len({line.replace(r"\&", "").count("&") for line in body}) == 1


def test_all_files_are_written(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.json", "table.md", "table.tex"]


def test_small_numbers_are_shown_as_what_they_are() -> None:
    assert p_value(0.0004) == "< .001"
    assert p_value(None) == ""
    assert signed(-0.0001) == "+0.000"
    assert signed(-0.0005) == "-0.001"
