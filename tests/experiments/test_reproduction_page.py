"""docs/reproduction.md says what its files say, and docs/paper_index.md names what is there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from smoke_choices import choices_in

from perfit.experiments.outcome import outcomes, read_outcome
from perfit.experiments.page import page, section
from perfit.experiments.paper.registry import entries, entry_of
from perfit.experiments.reproduce import reproduce
from perfit.experiments.world import World

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "reproduction"


def test_the_page_is_what_the_files_say() -> None:
    said = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert said == page(RESULTS), "run: perfit reproduce page"


def test_another_number_in_a_file_is_another_page(tmp_path: Path) -> None:
    world = World(choices_in(tmp_path))
    outcome = reproduce(entry_of("table8"), world)
    folder = tmp_path / "docs" / "small"
    replace(outcome, scale="small").save(folder)
    before = page(tmp_path / "docs")
    row = outcome.rows[0]
    value = replace(row.values["epochs.max"], mean=7.0)
    replace(outcome, scale="small", rows=(replace(row, values={**row.values, "epochs.max": value}),)).save(folder)
    assert page(tmp_path / "docs") != before
    assert "| epochs.max | 6 | 7 |" in page(tmp_path / "docs")


def test_claims_stand_in_one_table_and_what_is_the_other_way_is_said(tmp_path: Path) -> None:
    def claim(says: str, verdict: str, *details: str) -> dict[str, object]:
        return {"says": says, "line": 7, "verdict": verdict, "parts": {verdict: 1}, "details": list(details)}

    def order(column: str, low: float, high: float) -> dict[str, object]:
        return {"column": column, "rows": 4, "tau": -0.5, "low": low, "high": high}

    one = reproduce(entry_of("table8"), World(choices_in(tmp_path)))
    claims = (
        claim("more is better", "seen"),
        claim("less is worse", "not seen", "a in x: seen (+1)", "b in x: not seen (-1)"),
    )
    orders = (order("x.accuracy", -0.9, -0.1), order("x.macro_f1", -0.9, 0.1))
    saved = replace(
        one, scale="small", claims=claims, orderings=orders, users={"movie_tagging": 12, "news_categorize": 3}
    )
    saved.save(tmp_path / "docs" / "small")
    said = page(tmp_path / "docs")
    assert "| more is better | table8 | 7 | **seen** | 12 |" in said
    against = said.partition("## What contradicts the paper here")[2].partition("\n## ")[0]
    assert "- table8: less is worse (line 7). b in x: not seen (-1)" in against
    assert "more is better" not in against
    assert "x.accuracy" in against
    assert "x.macro_f1" not in against
    replace(saved, claims=(), orderings=()).save(tmp_path / "docs" / "small")
    assert "Nothing is clear of chance." in page(tmp_path / "docs")


def test_files_of_results_are_whole_and_name_no_place_of_a_machine() -> None:
    found = outcomes(RESULTS / "small", entries())
    assert found
    for path in RESULTS.rglob("*.json"):
        read_outcome(path)
        assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8")), path.name


def test_a_missing_cell_is_said_to_be_missing() -> None:
    for one in outcomes(RESULTS / "small", entries()):
        if one.done < one.cells:
            # A cell of a table has a place there; a task of a figure of all tasks together has none.
            assert "missing" in section(one) or entries()[one.entry].kind != "compare"
            assert "Missing:" in section(one)


def test_the_index_names_every_entry_and_files_that_are_there() -> None:
    index = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
    for name in entries():
        assert f"`{name}`" in index or f"reproduce {name}`" in index or f"reproduce {name} " in index, name
    named = re.findall(r"`([a-z_]+/[a-z_0-9]+\.py|test_[a-z_]+\.py)`", index)
    assert len(named) > 30
    assert [one for one in named if not ((ROOT / "src/perfit" / one).exists() or (ROOT / "tests" / one).exists())] == []
