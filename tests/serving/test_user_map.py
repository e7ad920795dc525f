"""Points of a plane from shifts: held to dense matrices, blind to how a shift is written down, and to foreign users."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from served_run import site
from torch import Tensor

from perfit.edits.shift import Shift, new_shift, thin_qr
from perfit.serving import user_map as room
from perfit.serving.key_file import KeyFile
from perfit.serving.keys import add_key
from perfit.serving.user_map import user_map


def shift(seed: int, rank: int) -> Shift:
    chance = torch.Generator().manual_seed(seed)
    made = new_shift((2, rank, 12), init="loreft", generator=chance)
    return Shift(made.R, made.W, torch.randn(2, rank, generator=chance))


def dense(one: Shift) -> Tensor:
    """All that a shift adds to a state, as one vector of numbers."""
    wide = torch.cat([one.D, one.b.unsqueeze(-1)], dim=-1)
    return (one.R.mT @ wide).flatten().double()


def distances(places: Tensor) -> Tensor:
    return torch.cdist(places, places)


@pytest.fixture(autouse=True)
def _in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ROWS_AT_ONCE", 3)


def test_three_shifts_lie_as_far_apart_as_their_matrices() -> None:
    shared, own = shift(0, 4), [(shift(1, 3), 1.0), (shift(2, 3), 0.3)]
    drawn = user_map(shared, own)
    far = dense(shared)
    acting = torch.stack([far, *(strength * dense(one) + (1 - strength) * far for one, strength in own)])
    wanted, found = distances(acting), distances(drawn.places)
    torch.testing.assert_close(found / found.max(), wanted / wanted.max(), atol=1e-5, rtol=1e-5)
    assert drawn.places.abs().max() == pytest.approx(1)
    assert drawn.held == pytest.approx(1)


def test_how_a_shift_is_written_down_moves_no_point() -> None:
    shared, own = shift(0, 4), [shift(n, 3) for n in (1, 2, 3, 4)]
    turn = thin_qr(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(9)))
    turned = [Shift(turn @ one.R, turn @ one.W, (turn @ one.b.unsqueeze(-1)).squeeze(-1)) for one in own[:1]]
    first = user_map(shared, [(one, 0.7) for one in own])
    second = user_map(shared, [(one, 0.7) for one in [*turned, *own[1:]]])
    torch.testing.assert_close(first.places, second.places, atol=1e-4, rtol=1e-4)
    assert 0 < first.held < 1


def test_whom_nothing_tells_from_the_collective_lies_on_it() -> None:
    shared = shift(0, 4)
    drawn = user_map(shared, [(shift(1, 3), 0.0), (shift(2, 3), 1.0)])
    torch.testing.assert_close(drawn.places[0], drawn.places[1], atol=1e-6, rtol=0)
    assert not torch.allclose(drawn.places[0], drawn.places[2])
    alone = user_map(shared, [(shift(1, 3), 0.0), (shared, 1.0)])
    assert torch.equal(alone.places, torch.zeros(3, 2, dtype=torch.float64))
    assert torch.equal(user_map(shared, []).places, torch.zeros(1, 2, dtype=torch.float64))


def test_a_key_sees_its_own_users_and_not_how_many_others_there_are(own_run: Path, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "shop", ["anna", "cleo", "nobody"], ["answer", "learn"], None)
    asks = add_key(tmp_path / "keys.json", "asker", ["anna"], ["answer"], None)
    with site(own_run, keys=KeyFile(tmp_path / "keys.json")) as one:
        found = one.http.get("/v1/map", headers={"authorization": f"Bearer {key}"})
        assert [point["user"] for point in found.json()["points"]] == ["anna", "cleo"]
        assert "ben" not in found.text
        assert "-0.0," not in found.text
        assert "-0.0}" not in found.text
        assert one.http.get("/v1/map", headers={"authorization": f"Bearer {asks}"}).status_code == 403
        people = one.perfit.owners.personal
        shared = one.gateway.people.shared.shifts[1]
        wanted = user_map(shared, [(people.shift("anna"), 1.0), (people.shift("cleo"), 1.0)]).places
        told = [found.json()["collective"], *found.json()["points"]]
        torch.testing.assert_close(
            torch.tensor([[point["x"], point["y"]] for point in told]).double(), wanted, atol=1e-3, rtol=0
        )
        assert found.json()["more"] is False
