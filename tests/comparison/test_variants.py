"""Several variants of one method in one comparison: rows, folders and options of their own, and resumed after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_base import CONFIG, TASK, dataset, write_base

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Trial, folder_of
from perfit.comparison.results import load_results
from perfit.comparison.runner import run
from perfit.comparison.table import make_table
from perfit.errors import ConfigError
from perfit.events import Answered, Event
from perfit.how_to_open import HowToOpen
from perfit.methods.registry import METHODS
from perfit.opening import open_base

# One option of each method that has any, other than its default.
OPTIONS: dict[str, dict[str, Any]] = {
    "pag": {"items": 2},
    "rag-1": {"k": 3},
    "rag-2": {"k": 3},
    "rag-4": {"k": 3},
    "full-history": {"max_length": 128},
    "cos": {"strength": 0.25},
    "style-vector": {"strengths": (0.5,)},
    "lora-c": {"rank": 2},
    "lora-p": {"rank": 2},
    "lofit": {"heads": 2},
    "oppu": {"rank": 2},
    "reft-c+p": {"layers": (1,)},
    "reft-p": {"layers": (1,)},
    "perfit-stage-1": {"layers": (1,)},
    "perfit-stage-2": {"layers": (1,)},
    "lora-c-all+perfit-p": {"rank": 2},
    "lora-c-partial+perfit-p": {"rank": 2},
    "perfit-code": {"directions": 4},
    "perfit": {"layers": (1,)},
}
WITH_OPTIONS = [name for name, maker in METHODS.items() if maker.options().__dataclass_fields__]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    opened = open_base(str(write_base(tmp_path_factory.mktemp("base"))), HowToOpen(dtype="float32", device="cpu"))
    config = CONFIG.with_options(**{"stage1.epochs": 1, "stage2.epochs": 1})
    return Bench(dataset(("anna", "ben"), history=3, queries=1), TASK, opened.backbone, opened.identity, config)


def test_each_method_with_options_is_tried_here() -> None:
    assert sorted(OPTIONS) == sorted(WITH_OPTIONS)


@pytest.mark.parametrize(
    "name", [name if name in ("rag-1", "perfit") else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]
)
def test_a_variant_of_any_method_stands_beside_it_and_is_what_the_option_alone_makes(
    name: str, bench: Bench, tmp_path: Path
) -> None:
    ((option, value),) = OPTIONS[name].items()
    variant = f"{name}[{option}={json.dumps(value, separators=(',', ':'))}]"
    run(bench, Plan((name, variant), options={variant: OPTIONS[name]}), tmp_path / "both")
    rows = {row.name: row for row in make_table(load_results(ComparisonFolder(tmp_path / "both"))).rows}
    assert [row.problem for row in rows.values()] == [None, None]
    assert rows[variant].label == METHODS[name].label + variant.removeprefix(name)
    # By option, in a comparison of its own: the same answers and the same cost.
    run(bench, Plan((name,), options={name: OPTIONS[name]}), tmp_path / "alone")
    both, alone = ComparisonFolder(tmp_path / "both"), ComparisonFolder(tmp_path / "alone")
    theirs, mine = Trial(name, 0), Trial(variant, 0)
    assert both.predictions(mine) == alone.predictions(theirs)
    assert both.record(mine).cost == alone.record(theirs).cost
    # Kept apart: the plain one is what it is alone, whatever stands beside it.
    run(bench, Plan((name,)), tmp_path / "plain")
    assert both.predictions(theirs) == ComparisonFolder(tmp_path / "plain").predictions(theirs)


def test_variants_go_on_after_a_stop_and_end_with_the_same_table(bench: Bench, tmp_path: Path) -> None:
    names = ("perfit[layers=0]", "perfit[layers=1]", "perfit[personal_rank=2]", "perfit")
    options = {names[0]: {"layers": (0,)}, names[1]: {"layers": (1,)}, names[2]: {"personal_rank": 2}}
    plan = Plan(names, options=options, against="perfit")
    run(bench, plan, tmp_path / "whole")

    def stop(event: Event) -> None:
        # In the middle of the second: one is through, one begun, two not.
        if isinstance(event, Answered) and (tmp_path / "cut" / "trials" / names[1]).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(bench, plan, tmp_path / "cut", listener=stop)
    folder = ComparisonFolder(tmp_path / "cut")
    assert [folder.record(Trial(name, 0)).status for name in names] == ["done", "running", "running", "running"]
    run(bench, plan, tmp_path / "cut")
    told = []
    for where in ("whole", "cut"):
        results = load_results(ComparisonFolder(tmp_path / where))
        told.append((results.scored, [(row.name, row.differences, row.p_holm) for row in make_table(results).rows]))
    assert told[0] == told[1]
    parameters = [folder.record(Trial(name, 0)).cost["personal_parameters"] for name in names]
    assert parameters == [195, 195, 260, 390]


def test_a_name_is_a_folders_name() -> None:
    assert folder_of("perfit[layers=[9,10]]") == "perfit[layers=[9,10]]"
    assert folder_of("ours.here:Last[back=2]") == "ours.here@Last[back=2]"
    for wrong in ("ours/here:Last", "..:Last", "a:b:c", "C:", "perfit[writer=a/b]"):
        with pytest.raises(ConfigError, match="cannot be a method's name"):
            Plan((wrong,))
    with pytest.raises(ConfigError, match="is too long for a folder's name; give its options by --option"):
        Plan((f"perfit[layers=[{','.join(map(str, range(90)))}]]",))
