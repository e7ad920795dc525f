"""The paper's own size without weights: its arithmetic, its slips by name, and a cost that adds up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset, User
from perfit.errors import ConfigError
from perfit.experiments.cost import Accelerator, Load, estimate
from perfit.experiments.dry_run import (
    OTHER,
    SAME,
    SLIP,
    base_parameters,
    check_data,
    check_parameters,
    dry_run,
    load_of,
)
from perfit.experiments.paper.registry import entries, entry_of
from perfit.experiments.scale import Choices, scale_of
from perfit.experiments.smoke_data import smoke_dataset


@pytest.fixture
def choices(tmp_path: Path) -> Choices:
    return Choices(scale_of("paper"), tmp_path)


def test_the_bases_have_the_parameters_their_names_promise() -> None:
    assert base_parameters("llama-2-7b") == 6_738_415_616
    counts = {name: base_parameters(name) for name in ("llama-3-8b", "qwen2.5-7b", "llama-3.2-3b", "llama-3.2-1b")}
    assert [round(count / 1e9, 2) for count in counts.values()] == [8.03, 7.62, 3.21, 1.24]


@pytest.mark.parametrize("name", ["table2", "table3", "table12", "table13"])
def test_every_count_is_the_papers_or_its_slip_has_a_name(name: str) -> None:
    found = check_parameters(entry_of(name))
    assert found
    assert [one for one in found if one.verdict == OTHER] == []
    slips = {one.what.rpartition(" ")[0] for one in found if one.verdict == SLIP}
    bases = ("LLaMA3-8B", "Qwen2.5-7B", "LLaMA3-3B", "LLaMA3-1B")
    wanted = {f"{b} movie_tagging {m}" for b in bases for m in ("oppu", "perfit")} if name == "table13" else set()
    assert slips == wanted


def test_a_wrong_count_is_different() -> None:
    entry = entry_of("table2")
    wrong = replace(entry, parameters=tuple(replace(one, value=one.value + 0.01) for one in entry.parameters))
    assert {one.verdict for one in check_parameters(wrong)} == {OTHER}


def test_data_are_held_against_table_6(tmp_path: Path, choices: Choices) -> None:
    assert check_data(choices) == []
    data = smoke_dataset("news_categorize")
    as_many = tuple(User(f"other-{n}", (), ()) for n in range(274))
    write_jsonl(Dataset(data.users, as_many, task="news_categorize"), tmp_path / "news_categorize.jsonl")
    found = {one.what: one.verdict for one in check_data(replace(choices, data=tmp_path))}
    assert found["news_categorize.stage1_users"] == SAME
    assert found["news_categorize.stage2_users"] == OTHER
    assert found["news_categorize.classes"] == SAME


def test_a_cell_that_tables_share_costs_once(choices: Choices) -> None:
    gpu = Accelerator()
    one, two = dry_run(["table4"], choices, gpu), dry_run(["table4", "figure4"], choices, gpu)
    assert 0 < one.hours < two.hours < one.hours + dry_run(["figure4"], choices, gpu).hours
    assert one.wrong == []


def test_cost_grows_with_work_and_size_and_falls_with_speed() -> None:
    load = Load(1e6, 1e5, 100, 20)
    whole = estimate(load, 7_000_000_000, 4096, 32, 2000, Accelerator())
    assert whole.hours == pytest.approx(
        (4 * 7e9 * 1e6 + 2 * 7e9 * 1e5) / 150e12 / 3600 + 100 / 16 * 20 * 14e9 / 1.5e12 / 3600
    )
    assert whole.gib > 14e9 / 2**30
    faster = estimate(load, 7_000_000_000, 4096, 32, 2000, Accelerator(tflops=300))
    assert faster.hours < whole.hours
    assert load_of("movie_tagging", "base")[0].train_tokens == 0
    few, all_ = load_of("movie_tagging", "perfit", 10)[0], load_of("movie_tagging", "perfit")[0]
    assert few.train_tokens < all_.train_tokens
    with pytest.raises(ConfigError, match="tflops: 0"):
        Accelerator(tflops=0)


def test_every_entry_can_be_run_dry(choices: Choices) -> None:
    found = dry_run(list(entries()), choices, Accelerator())
    assert found.cells > 300
    assert sum(one.verdict == SAME for one in found.parameters) == 52
    assert sum(one.verdict == SLIP for one in found.parameters) == 8
