"""``perfit report`` of what reproduce made: one page, the paper's numbers beside ours, nothing of a user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from smoke_choices import choices_in

from perfit.cli import main as cli
from perfit.errors import ConfigError
from perfit.experiments.paper.registry import entry_of
from perfit.experiments.report import found_in, render
from perfit.experiments.reproduce import reproduce, results_folder
from perfit.experiments.smoke_data import smoke_dataset
from perfit.experiments.world import World


def test_the_page_has_tables_claims_and_figures_and_no_user(smoke: World) -> None:
    for name in ("table4", "table8", "figure9"):
        reproduce(entry_of(name), smoke)
    page = smoke.choices.out / "report.html"
    cli.app(["report", str(smoke.choices.out)], standalone_mode=False)
    said = page.read_text(encoding="utf-8")
    assert "<td>0.818</td>" in said
    assert "PerFit, practical pool (not the paper&#39;s)" in said
    assert "stage 1 alone is less accurate than both stages (line 197)" in said
    assert "its numbers say nothing of the method" in said
    assert 'id="smoke-figure9-figure"' in said
    assert "://" not in said.replace("http://www.w3.org", "")
    data = smoke_dataset("news_categorize")
    assert not any(user.id in said for user in (*data.users, *data.others))
    assert not any(query.input in said for user in data.users for query in user.queries)
    # One scale's results are a folder of their own, too.
    assert len(found_in(results_folder(smoke.choices))) == len(found_in(smoke.choices.out))


def test_what_a_result_says_is_text_and_a_missing_number_is_missing(tmp_path: Path) -> None:
    outcome = reproduce(entry_of("table8"), World(choices_in(tmp_path)))
    row = outcome.rows[0]
    value = replace(row.values["epochs.max"], mean=None)
    broken = replace(outcome, rows=(replace(row, values={"epochs.max": value}),), notes=("<script>x</script>",), done=0)
    said = render([(tmp_path, broken)])
    assert "&lt;script&gt;x&lt;/script&gt;" in said
    assert "<td>missing</td>" in said
    assert "0 of 1 cells are finished" in said


def test_what_a_reproduction_does_not_need_is_refused(tmp_path: Path) -> None:
    reproduce(entry_of("table8"), World(choices_in(tmp_path)))
    with pytest.raises(ConfigError, match=r"--data, --against: .* leave both out"):
        cli.app(["report", str(tmp_path), "--against", "oppu"], standalone_mode=False)
    assert not (tmp_path / "report.html").exists()
