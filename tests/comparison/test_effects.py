"""What methods did to whom in a comparison: against the collective shift where it is compared, else the base."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stubs

from perfit.comparison import runner
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Trial
from perfit.comparison.render import as_csv, as_json
from perfit.comparison.results import Results, load_results
from perfit.comparison.sections import sections
from perfit.comparison.table import Table, make_table
from perfit.data.schema import Query, User
from perfit.evaluation.effect import Effect
from perfit.tasks import get_task

TASK = get_task("product_rating")
GOLDS = {"a1": "5", "a2": "4", "b1": "1", "c1": "2"}
SHARED = {"a1": "3", "a2": "2", "b1": "2", "c1": "2"}  # errors 2 2 1 0
OWN = {"a1": "5", "a2": "3", "b1": "2", "c1": "3"}  # errors 0 1 1 1: anna is helped, ben left alone, cleo harmed
OTHER_SEED = OWN | {"b1": "1"}  # ben gains 1
USERS = tuple(
    User(
        name,
        (),
        tuple(Query(key, f"{TASK.marker}text {key}", gold) for key, gold in GOLDS.items() if key[0] == name[0]),
    )
    for name in ("anna", "ben", "cleo")
)


def compared(out: Path, answers: Mapping[str, Mapping[str, str]], seeds: tuple[int, ...] = (0,)) -> Results:
    bench = stubs.bench()
    bench = replace(bench, task=TASK, data=replace(bench.data, users=USERS))
    options: dict[str, dict[str, Any]] = {name: {"answers": given} for name, given in answers.items()}
    runner.run(bench, Plan(tuple(answers), seeds, options), out, maker=stubs.make)
    return load_results(ComparisonFolder(out))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    out = tmp_path_factory.mktemp("effects") / "out"
    results = compared(out, {"base": GOLDS, "perfit-stage-1": SHARED, "perfit": OWN}, (0, 1))
    stubs.answer(ComparisonFolder(out), Trial("perfit", 1), USERS, OTHER_SEED)
    results = load_results(ComparisonFolder(out))
    assert results.history == {"anna": 0, "ben": 0, "cleo": 0}
    return make_table(results, resamples=20)


def effect(table: Table, name: str) -> Effect | None:
    return next(row.effect for row in table.rows if row.name == name)


def test_the_collective_shift_is_what_users_have_without_anything_personal(table: Table) -> None:
    assert effect(table, "perfit-stage-1") is None
    base, own = effect(table, "base"), effect(table, "perfit")
    assert base is not None
    assert own is not None
    assert base.against == own.against == "perfit-stage-1"
    # Three answers of seed 0 and all four of seed 1 are not those of the collective shift.
    assert own.answers_changed == pytest.approx((3 / 4 + 4 / 4) / 2)
    assert (own.helped, own.left_alone, own.harmed.users) == (2, 0, 1)
    assert own.worst_tenth == -1.0
    assert own.gain.value == pytest.approx((2 + 1 + 0.5 - 1) / 4)
    assert (own.with_nll, own.strength_zero, own.users) == (False, None, ())


def test_without_a_collective_shift_it_is_the_base(tmp_path: Path) -> None:
    table = make_table(compared(tmp_path / "out", {"perfit": OWN, "base": SHARED}), resamples=20)
    found = effect(table, "perfit")
    assert found is not None
    assert (found.against, found.answers_changed) == ("base", 3 / 4)
    assert (found.helped, found.left_alone, found.harmed.users) == (1, 1, 1)
    neither = make_table(compared(tmp_path / "neither", {"perfit": OWN, "oppu": SHARED}), resamples=20)
    assert all(row.effect is None for row in neither.rows)
    assert len(sections(neither)) == 2


def test_every_form_of_the_table_says_so(table: Table) -> None:
    section = sections(table)[-1]
    assert section.title == "did it do anything, against PERFIT-STAGE-1"
    own = next(row for row in section.rows if row[0].text == "PERFIT")
    assert [cell.text for cell in own] == [
        *("PERFIT", "87.5%", "2 / 0 / 1", "33.3%", "6.1% to 79.2%", "-1.000", "+0.625", "no", "33"),
    ]
    assert section.notes[1].startswith("PERFIT: the gain of +0.625 in mae cannot be told from noise")
    told = json.loads(as_json(table))["rows"][2]["effect"]
    assert told["harmed"]["users"] == 1
    assert "users" not in told
    row = list(csv.DictReader(io.StringIO(as_csv(table))))[2]
    assert (row["effect against"], row["helped"], row["harmed"], row["told_from_noise"]) == (
        "perfit-stage-1",
        "2",
        "1",
        "False",
    )
