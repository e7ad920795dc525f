"""Tidy tables hold what the statistics say, and only δ-vectors that belong together share them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import BASE, deltas_of
from planted import USERS, direction, noise

from perfit.analysis.collective import collective_shift
from perfit.analysis.subspace import basis, rank_for
from perfit.analysis.tables import check_together, focus_layer, tables_of, write_tables
from perfit.errors import ConfigError

TEST = deltas_of({0: {"history": noise(1)}, 1: {"history": noise(2) + direction()}})
OTHER = deltas_of({0: {"history": noise(3)}, 1: {"history": noise(4) + direction(7)}}, task="notes")
POOL = deltas_of({0: {"history": noise(5)}, 1: {"history": noise(6)}}, group="stage1", variants=("history",))


def test_every_table_holds_its_rows() -> None:
    layers: list[int] = []
    tables = tables_of([TEST, OTHER, POOL], layers.append)
    assert sum(layers) == 6
    sizes = {name: len(rows) for name, rows in tables.items()}
    assert sizes == {
        "ranks": 3 * 2 * 8,
        "collective": 3 * 2,
        "coordinates": 3 * 2 * USERS * 5,
        "users": 3 * 2 * USERS,
        "controls": 2 * 2 * 4,
        "control_coordinates": (2 * 2 * 5 + 2) * 5,
        "halves": 2 * 2 * 3,
        "suggestion": 2 * 2,
        "tasks": 2 * 4,
    }
    for rows in tables.values():
        assert all(row.keys() == rows[0].keys() for row in rows)


def test_rows_are_what_the_statistics_say() -> None:
    tables = tables_of([TEST])
    vectors = TEST.delta(1)
    (row,) = [r for r in tables["ranks"] if (r["layer"], r["share"], r["centred"]) == (1, 0.9, False)]
    assert row["r"] == rank_for(vectors, 0.9)
    assert tables["collective"][1]["share"] == collective_shift(vectors).share
    values = [r["value"] for r in tables["coordinates"] if (r["layer"], r["component"]) == (1, 0)]
    np.testing.assert_allclose(values, basis(vectors).coordinates[:, 0])
    users = [r for r in tables["users"] if r["layer"] == 1]
    assert sorted(r["order"] for r in users) == list(range(USERS))
    nearest, farthest = min(users, key=lambda r: r["order"]), max(users, key=lambda r: r["order"])
    assert nearest["distance"] == min(r["distance"] for r in users)
    assert farthest["distance"] == max(r["distance"] for r in users)
    own = [r for r in tables["control_coordinates"] if (r["layer"], r["kind"], r["component"]) == (1, "history", 0)]
    assert own[0]["mean_abs"] == pytest.approx(np.abs(values).mean())
    assert "tasks" not in tables


def test_tables_are_read_back_from_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet

    tables = tables_of([TEST])
    write_tables(tables, tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(tables)
    assert parquet.read_table(tmp_path / "users.parquet").to_pylist() == tables["users"]


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="no δ-vectors"):
        check_together([])
    with pytest.raises(ConfigError, match="twice"):
        check_together([TEST, TEST])
    foreign = replace(OTHER, notes={"base": BASE | {"identity": {"architecture": "Another"}}})
    with pytest.raises(ConfigError, match="different bases"):
        check_together([TEST, foreign])
    with pytest.raises(ConfigError, match="different layers"):
        check_together([TEST, deltas_of({0: {"history": noise(1)}}, task="notes")])


def test_the_focus_is_the_middle_or_what_is_nearest() -> None:
    assert focus_layer(TEST) == 1
    assert focus_layer(deltas_of({0: {"history": noise(1)}})) == 0
