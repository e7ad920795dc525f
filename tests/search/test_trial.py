"""A trial's scores against whole models run row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.inference import edited as edited_module
from perfit.inference.decoding import Decoding
from perfit.search import trial as trial_module
from perfit.search.holdout import hold_out
from perfit.search.trial import LOSS, METRIC, Material, run_trial
from perfit.training import fit_users as fit_module
from perfit.training.examples import RowMaker
from perfit.training.frozen_cache import FrozenHome
from perfit.training.frozen_pass import FrozenPass
from perfit.training.rows import TokenRow
from perfit.training.stages import bank_of, train_collective, train_personal

HELD = hold_out(dataset(history=6), 0.4)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    loaded = load_base(write_base(tmp_path_factory.mktemp("base")), dtype=torch.float32)
    return Backbone(loaded.model, loaded.tokenizer)


def test_the_loss_is_that_of_held_out_answers_under_shifts_of_the_earlier_history(backbone: Backbone) -> None:
    reports: list[tuple[int, float]] = []
    found = run_trial(Material(backbone, TASK, HELD, LOSS), CONFIG, report=lambda *told: reports.append(told))
    maker = RowMaker(TASK, backbone.tokenizer, CONFIG)
    shared = train_collective(backbone, maker.collective_rows(HELD.data.others), CONFIG)
    rows = {user.id: maker.history_rows(user) for user in HELD.data.users}
    assert {len(mine) for mine in rows.values()} == {4}  # of 6
    own = {one.name: one.shifts[0] for one in train_personal(backbone, rows, shared, CONFIG)}
    scores: dict[str, list[float]] = {"own": [], "shared": []}
    for user, items in HELD.later.items():
        for item in items:
            row = maker._row(TASK.history_example(item))
            ids = torch.tensor([row.input_ids])
            for kind, second in (("own", own[user]), ("shared", shared[1])):
                shift = TwoStageShift(CONFIG.layers, bank_of([shared[0]], "cpu"), bank_of([second], "cpu"))
                plan = EditPlan.for_prompts(Positions.parse(CONFIG.positions), [len(row.prompt_ids)], [(1, 1)])
                with torch.no_grad():
                    logits = backbone.logits(ids, torch.ones_like(ids), plan, shift)[0, len(row.prompt_ids) - 1 :]
                picked = logits.log_softmax(-1).gather(1, torch.tensor(row.answer_ids)[:, None])
                scores[kind] += (-picked.squeeze(1)).tolist()
    assert found.score == pytest.approx(fmean(scores["own"]), rel=1e-3)
    assert found.collective == pytest.approx(fmean(scores["shared"]), rel=1e-3)
    assert found.skipped == 0
    assert reports[0] == (0, found.collective)
    assert [step for step, _ in reports] == [0, 1, 2, 3]  # a part per user
    assert reports[-1][1] == found.score


def test_the_metric_is_that_of_generated_answers(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    truths = [item.fields["folder"] for items in HELD.later.values() for item in items]
    asked: list[int] = []

    def answer(backbone: Any, prompts: Any, *rest: Any) -> list[str]:
        asked.append(len(prompts))
        assert next(one for one in rest if isinstance(one, Decoding)).stop == ("\n",)
        # Right for the shared shifts, then wrong for the first user alone.
        return [f" {t} " for t in truths] if len(asked) == 1 else ["?"] * 2 if len(asked) == 2 else truths[2:4]

    monkeypatch.setattr(edited_module, "generate", answer)
    held = hold_out(dataset(("anna", "ben"), history=6), 0.4)
    truths = [item.fields["folder"] for items in held.later.values() for item in items]
    material = Material(backbone, replace(TASK, stop=("\n",)), held, METRIC)
    found = run_trial(material, CONFIG)
    assert asked == [4, 2, 2]
    assert found.collective == 1.0
    assert found.score == 0.5
    assert material.higher_is_better
    assert not Material(backbone, TASK, held, LOSS).higher_is_better


def test_a_user_whose_training_fails_is_scored_with_the_shared_shifts(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfit.training.learner import Trained

    monkeypatch.setattr(
        fit_module,
        "train_personal",
        lambda backbone, users, *rest, **more: (Trained(user, (), (), 1, "its loss is not finite") for user in users),
    )
    found = run_trial(Material(backbone, TASK, HELD, LOSS), CONFIG)
    assert found.skipped == 3
    assert found.score == pytest.approx(found.collective, rel=1e-5)


def test_what_is_judged_has_the_strength_that_ships(backbone: Backbone) -> None:
    material, more = Material(backbone, TASK, HELD, LOSS), {"init": "loreft", "stage2.learning_rate": 0.03}
    whole, none, half = (
        run_trial(material, CONFIG.with_options(strength=strength, **more)) for strength in (1.0, 0.0, 0.5)
    )
    assert whole.collective == none.collective
    assert none.score == pytest.approx(none.collective, rel=1e-5)
    assert len({round(one.score, 4) for one in (whole, none, half)}) == 3


def test_held_out_items_have_the_earlier_ones_before_them(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[TokenRow] = []
    honest = trial_module._Scorer.__init__

    def spy(self: Any, material: Any, config: Any, rows: Any) -> None:
        judged.extend(row for own in rows.values() for row in own)
        honest(self, material, config, rows)

    monkeypatch.setattr(trial_module._Scorer, "__init__", spy)
    config = CONFIG.with_options(retrieved=2)
    run_trial(Material(backbone, TASK, HELD, LOSS), config)
    maker = RowMaker(TASK, backbone.tokenizer, config)
    whole = {user.id: maker.history_rows(user) for user in dataset(history=6).users}
    assert judged == [row for user, items in HELD.later.items() for row in whole[user][-len(items) :]]


def test_layers_the_base_lacks_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="layers: 7"):
        run_trial(Material(backbone, TASK, HELD, LOSS), CONFIG.with_options(layers=(7,)))


def test_a_second_trial_reads_frozen_parts_and_scores_the_same(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[int] = []
    freeze = FrozenPass._freeze
    monkeypatch.setattr(FrozenPass, "_freeze", lambda self, rows: frozen.append(len(rows)) or freeze(self, rows))
    material = Material(backbone, TASK, HELD, LOSS, FrozenHome(tmp_path / "frozen", {"name": "tiny"}))
    scores, passes = [], []
    for rank in (3, 2, 3):
        frozen.clear()
        scores.append(run_trial(material, CONFIG.with_options(personal_rank=rank, engine="frozen")).score)
        passes.append(sum(frozen))
    rows = sum(len(user.history) for user in (*HELD.data.users, *HELD.data.others)) + 3 * 2  # and the others' queries
    assert passes[0] - passes[1] == passes[0] - passes[2] == rows  # what remains are the checks of the engine
    assert scores[0] == scores[2] != scores[1]
    assert scores[0] == pytest.approx(run_trial(Material(backbone, TASK, HELD, LOSS), CONFIG).score, rel=1e-4)
