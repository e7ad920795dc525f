"""Where lower is better: a smaller error is a gain, a win, the best, and the upper bar of a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import stubs

from perfit.comparison import runner
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan
from perfit.comparison.results import Results, load_results
from perfit.comparison.sections import sections
from perfit.comparison.table import Table, make_table
from perfit.data.schema import Query, User
from perfit.report.from_comparison import from_comparison
from perfit.tasks import get_task

TASK = get_task("product_rating")
GOLDS = {"a1": "5", "a2": "4", "b1": "1", "c1": "2"}
WORSE = {"a1": "3", "a2": "2", "b1": "2", "c1": "2"}  # errors 2 2 1 0
BETTER = {"a1": "5", "a2": "3", "b1": "1", "c1": "3"}  # errors 0 1 0 1: anna and ben win, cleo loses
USERS = tuple(
    User(
        name,
        (),
        tuple(Query(key, f"{TASK.marker}text {key}", gold) for key, gold in GOLDS.items() if key[0] == name[0]),
    )
    for name in ("anna", "ben", "cleo")
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    bench = stubs.bench()
    bench = replace(bench, task=TASK, data=replace(bench.data, users=USERS))
    out: Path = tmp_path_factory.mktemp("signs") / "out"
    options = {"worse": {"answers": WORSE}, "better": {"answers": BETTER}}
    runner.run(bench, Plan(("worse", "better"), options=options, against="worse"), out, maker=stubs.make)
    return load_results(ComparisonFolder(out))


@pytest.fixture(scope="module")
def table(results: Results) -> Table:
    return make_table(results, resamples=500)


def test_gains_are_positive_where_the_error_is_smaller(table: Table) -> None:
    worse, better = table.rows
    assert worse.metrics["mae"].mean == pytest.approx(1.25)
    assert better.metrics["mae"].mean == pytest.approx(0.5)
    found = better.differences["mae"]
    assert found.gain == pytest.approx(0.75)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.75 <= found.high
    assert (round(found.low, 6), round(found.high, 6)) == (-1.0, 1.5)  # cleo alone, anna alone
    assert better.differences["rmse"].gain == pytest.approx(1.5 - 0.5**0.5)


def test_wins_are_users_with_the_smaller_error(table: Table) -> None:
    wins = table.rows[1].wins
    assert wins is not None
    assert (wins.better, wins.worse, wins.equal) == (2, 1, 0)
    shown = sections(table)[2].rows[0]
    assert [cell.text for cell in shown[1:4]] == ["+0.750", "-1.000 to +1.500", "2 / 0 / 1"]


def test_turned_round_every_sign_turns(results: Results) -> None:
    turned = make_table(results, "better", resamples=500).rows[0]
    assert turned.differences["mae"].gain == pytest.approx(-0.75)
    assert turned.wins is not None
    assert (turned.wins.better, turned.wins.worse, turned.wins.equal) == (1, 2, 0)


def test_the_smallest_error_is_the_best(table: Table) -> None:
    assert table.rank("mae") == {"better": 1, "worse": 2}


def test_a_reports_gains_have_the_same_signs(results: Results, table: Table) -> None:
    content = from_comparison(results, table)
    assert not content.higher_is_better
    views = {view.label: view for view in content.methods}
    assert views["BETTER"].gains == {"anna": 1.5, "ben": 1.0, "cleo": -1.0}
    assert views["WORSE"].gains == {}
