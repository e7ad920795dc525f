"""PerFit by code: shifts that mix shared directions, codes that are fitted alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import ANNA, BEN, CONFIG, OTHERS, asks, base, make, ready, setting
from safetensors.torch import load_file

from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, new_shift
from perfit.errors import ConfigError, StoreError
from perfit.events import Warned
from perfit.methods.codes import CodedLoss, Directions
from perfit.methods.prompts import Prompts
from perfit.training.plain import PlainRunner
from perfit.training.stages import bank_of

WIDTH = base("llama").hidden_size
K = 3


def some(rank: int, seed: int) -> Shift:
    return new_shift((2, rank, WIDTH), init="loreft", generator=torch.Generator().manual_seed(seed))


def directions() -> Directions:
    draw = torch.Generator().manual_seed(5)
    shared = some(3, 1)
    return Directions(shared, torch.randn(K, 2, 3, WIDTH, generator=draw) / 9, torch.randn(K, 2, 3, generator=draw) / 9)


def test_a_code_mixes_the_directions_into_the_shared_shift() -> None:
    mixed, codes = directions(), torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])
    bank = mixed.bank(codes)
    x = torch.randn(2, 4, WIDTH)
    by_hand = mixed.shared.D + 0.5 * mixed.D[0] - mixed.D[1] + 2 * mixed.D[2]
    bias = mixed.shared.b + 0.5 * mixed.b[0] - mixed.b[1] + 2 * mixed.b[2]
    torch.testing.assert_close(bank.get(1)(x), x + (x @ by_hand.mT + bias[:, None]) @ mixed.shared.R)
    torch.testing.assert_close(bank.get(2)(x), mixed.shared(x))
    torch.testing.assert_close(bank.get(0)(x), x)  # nobody's slot


@pytest.mark.parametrize("positions", ["l3", "f2+l2"])
def test_losses_are_those_of_whole_forwards_with_each_row_s_own_code(positions: str, tmp_path: Path) -> None:
    where, mixed, first = setting(tmp_path, positions=positions), directions(), some(4, 2)
    maker = Prompts(where).maker
    owned = [(n, row) for n, user in enumerate((ANNA, BEN)) for row in maker.history_rows(user)]
    codes = torch.tensor([[0.7, -0.4, 1.0], [-1.0, 0.2, 0.3]], requires_grad=True)
    coded = CodedLoss(where.backbone, where.config, first, owned, lambda event: None)
    chosen = [owned[i] for i in (5, 0, 6, 2)]
    loss = coded([row for _, row in chosen], mixed, codes)
    shift = TwoStageShift(CONFIG.layers, bank_of([first], "cpu"), mixed.bank(codes))
    plain = PlainRunner(where.backbone, Positions.parse(positions))
    wanted = plain.answer_loss([row for _, row in chosen], [(1, owner + 1) for owner, _ in chosen], shift)
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=1e-3)
    (mine,) = torch.autograd.grad(loss.sum(), codes, retain_graph=True)
    (theirs,) = torch.autograd.grad(wanted.sum(), codes)
    torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-3)
    assert bool((mine != 0).any(1).all())
    alone = coded([owned[6][1]], mixed, codes)  # of one owner, not the first
    torch.testing.assert_close(alone, loss[2:3], rtol=1e-3, atol=1e-3)


def kept(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "shared").glob("directions-*/collective.safetensors")
    return load_file(path)


def test_directions_are_learnt_and_a_user_is_a_few_numbers(tmp_path: Path) -> None:
    where = setting(tmp_path)
    method = ready("perfit-code", where, [ANNA, BEN], directions=K)
    bank = kept(tmp_path)
    assert bank["D"].shape == (K, 2, 3, WIDTH)
    assert bank["codes"].shape == (len(OTHERS), K)
    assert float(bank["D"].abs().max()) > 0
    codes = [load_file(path)["code"] for path in (tmp_path / "own" / "users").iterdir()]
    assert [code.shape for code in codes] == [(K,)] * 2
    assert not torch.equal(*codes)
    cost = method.cost()
    assert (cost.personal_parameters, cost.user_bytes) == (K, 2 * K)
    again = make("perfit-code", where, directions=K)
    again.fit(OTHERS)
    assert again.predict(asks(ANNA, BEN)) == method.predict(asks(ANNA, BEN))
    for path in tmp_path.rglob("*"):  # ids of the pool are in no file
        assert not path.is_file() or b"other-" not in path.read_bytes()


def test_directions_of_another_collective_shift_are_refused(tmp_path: Path) -> None:
    where = setting(tmp_path)
    ready("perfit-code", where, [ANNA], directions=K)
    (shift,) = (tmp_path / "shared").glob("collective-shift-*/collective.safetensors")
    make("perfit-code", where, directions=K).fit(OTHERS)  # all is there
    shift.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda *shape, **more: torch.ones(*shape) + torch.arange(shape[-1]) ** 2 / 99)
        make("perfit-stage-1", where).fit(OTHERS)
    with pytest.raises(StoreError, match="another collective shift"):
        make("perfit-code", where, directions=K).fit(OTHERS)


def test_who_is_in_the_pool_starts_from_the_own_code_and_others_from_their_likes(tmp_path: Path) -> None:
    where = setting(tmp_path)
    method = make("perfit-code", where, directions=K, neighbours=1)
    method.fit([*OTHERS, replace(ANNA, queries=())])
    codes = kept(tmp_path)["codes"]
    assert torch.equal(method._start(ANNA), codes[-1])  # type: ignore[attr-defined]
    # The same texts with other answers are another person's, however alike.
    other_way = tuple(replace(item, fields={**item.fields, "folder": "family"}) for item in ANNA.history)
    twin = make("perfit-code", setting(tmp_path / "twin"), directions=K, neighbours=1)
    twin.fit([replace(ANNA, id="twin", history=other_way, queries=()), replace(ANNA, queries=())])
    (path,) = (tmp_path / "twin" / "shared").glob("directions-*/collective.safetensors")
    assert torch.equal(twin._start(ANNA), load_file(path)["codes"][1])  # type: ignore[attr-defined]
    stranger = replace(BEN, history=(*OTHERS[1].history, BEN.history[0]))
    torch.testing.assert_close(method._start(stranger), codes[1])  # type: ignore[attr-defined]


def test_a_strength_of_nothing_is_the_collective_shift(tmp_path: Path) -> None:
    asked = asks(ANNA, BEN)
    method = ready("perfit-code", setting(tmp_path, init="loreft"), [ANNA, BEN], directions=K, strength=0)
    shared = ready("perfit-stage-1", setting(tmp_path / "1", init="loreft"), [ANNA, BEN])
    assert method.predict(asked) == shared.predict(asked)


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    for name, value in (("directions", 0), ("strength", 1.5), ("neighbours", 0), ("bank_learning_rate", -1)):
        with pytest.raises(ConfigError, match=name):
            make("perfit-code", setting(tmp_path), **{name: value})


def test_a_trial_on_held_out_history_is_none_of_codes_and_that_is_said(tmp_path: Path) -> None:
    told: list[Any] = []
    ready("perfit-code", setting(tmp_path, held_out=0.4, strength=0.5, listener=told.append), [ANNA])
    assert [event.text for event in told if isinstance(event, Warned) and "held_out" in event.text] == [
        "perfit-code: held_out finds strengths of shifts; every user's code has strength 0.5"
    ]
