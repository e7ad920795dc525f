"""What is loaded is what the version names, finite and bounded; anything else is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from served_world import LAYERS, World

from perfit.edits.shift import from_stored
from perfit.errors import BaseModelError, ConfigError, DamagedError, UnknownUserError
from perfit.serving.loading import MOST_OFFSET, MOST_STRETCH, Loader, check_bounded
from perfit.serving.version import ShiftVersion
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift

WIDTH = 32


def loader(world: World) -> Loader:
    return Loader(world, len(LAYERS), WIDTH)


def test_a_version_brings_its_own_shifts() -> None:
    world = World()
    version = world.train("anna")
    found = loader(world).load(version)
    stored = world.kept["t", "anna", 1][1]
    assert found.own is not None
    assert torch.equal(found.own.W, from_stored(stored.tensors).W)
    assert torch.equal(found.first.W, world.collectives[version.collective].shifts[0].W)
    assert loader(world).load(world.shared()).own is None


def test_a_shift_of_somebody_else_is_refused_whoever_hands_it_out() -> None:
    world = World()
    mine, other = world.train("anna"), world.train("ben")
    world.kept["t", "anna", 1] = mine, world.kept["t", "ben", 1][1]
    with pytest.raises(DamagedError, match="not the one"):
        loader(world).load(mine)
    world.collectives[other.collective] = world.collectives[list(world.collectives)[1]]
    with pytest.raises(DamagedError, match="collective"):
        loader(world).load(other)


def test_a_version_that_is_gone_is_an_unknown_user() -> None:
    world = World()
    version = world.train("anna")
    world.delete("t", "anna")
    with pytest.raises(UnknownUserError):
        loader(world).load(version)


def test_a_shift_for_other_layers_is_refused() -> None:
    world = World()
    with pytest.raises(BaseModelError, match="2 layers of width 32"):
        Loader(world, 3, WIDTH).load(world.train("anna"))


@pytest.mark.parametrize(
    ("name", "value"),  # R is made orthonormal again, whatever its size
    [(name, value) for name in "RDb" for value in (torch.nan, torch.inf, 1e30) if (name, value) != ("R", 1e30)],
)
def test_numbers_that_could_harm_a_neighbour_are_refused(name: str, value: float) -> None:
    world = World()
    version = world.train("anna")
    tensors = {key: tensor.clone() for key, tensor in world.kept["t", "anna", 1][1].tensors.items()}
    tensors[name].view(-1)[-1] = value
    version = replace(version, personal=shift_digest(tensors))
    world.kept["t", "anna", 1] = version, StoredShift(tensors, {})
    with pytest.raises(DamagedError, match="personalise the user again"):
        loader(world).load(version)


def test_bounds_are_of_each_layer() -> None:
    D, b = torch.zeros(2, 3, 8), torch.zeros(2, 3)
    D[:, 0, 0], b[:, 0] = MOST_STRETCH, MOST_OFFSET  # together they would be beyond
    check_bounded({"D": D, "b": b})
    for tensor in (D, b):
        tensor[1].view(-1)[0] *= 1.001
        with pytest.raises(DamagedError):
            check_bounded({"D": D, "b": b})
        tensor[1].view(-1)[0] /= 1.001


def test_a_digest_changes_with_every_part() -> None:
    version = ShiftVersion("t", "u", 1, "p", "c", "b", 0.5, "l7")
    changes = {"tenant": "v", "user": "w", "version": 2, "personal": "q", "collective": "d", "base": "e"}
    others = [replace(version, **{name: value}) for name, value in changes.items()]
    others += [replace(version, strength=1.0), replace(version, positions="l6")]
    assert len({version.digest, *(other.digest for other in others)}) == 9
    tensors = {"b": torch.zeros(2)}
    same_bytes = {"b": torch.zeros(1, 2)}, {"b": torch.zeros(4, dtype=torch.bfloat16)}, {"c": torch.zeros(2)}
    assert len({shift_digest(one) for one in (tensors, *same_bytes)}) == 4


def test_a_version_is_of_a_user_with_a_shift_or_of_nobody() -> None:
    with pytest.raises(ConfigError, match="both"):
        ShiftVersion("t", "u", 1, None, "c", "b", 0.5, "l7")
    with pytest.raises(ConfigError, match="strength"):
        ShiftVersion("t", "u", 1, "p", "c", "b", 1.5, "l7")
