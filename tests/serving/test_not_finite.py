"""One row's numbers without bounds reach no other row, and nobody later."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch
from served_world import SMALL, Stepped, World, answered, batched, core_of, end_of, prompt, reference, same

from perfit.serving import loading
from perfit.serving.batched import Batched
from perfit.serving.continuous import Pages
from perfit.serving.engine import Request
from perfit.serving.piecewise import NAME
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift


def poisoned(world: World, value: float, positions: str) -> Any:
    """A user whose shift gives such numbers."""
    version = world.train("broken", positions=positions)
    tensors = {name: tensor.clone() for name, tensor in world.kept["t", "broken", version.version][1].tensors.items()}
    tensors["b"][:] = value
    made = type(version)(
        "t", "broken", version.version, shift_digest(tensors), version.collective, version.base, 1.0, positions
    )
    world.kept["t", "broken", version.version] = made, StoredShift(tensors, {})
    return made


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("positions", ["f1", "l3"])
def test_a_neighbour_is_not_touched(value: float, family: str, positions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "check_bounded", lambda tensors: None)  # the fence that stands before this one
    world, backbone = World(), families.tiny(family)
    broken = poisoned(world, value, positions)
    others = [world.train("anna"), None, world.train("ben", positions="f2+l3")]
    asked = [Request(f"{n}", prompt(n, 13), who, max_new_tokens=5) for n, who in enumerate(others)]
    plain = answered(reference(world, backbone), asked)
    engine: Stepped = batched(world, backbone)
    found = answered(engine, [Request("broken", prompt(0, 13), broken, max_new_tokens=5), *asked])
    assert end_of(found[0]).reason == "error"
    assert "not finite" in str(end_of(found[0]).problem)
    assert all(same(one, other) for one, other in zip(found[1:], plain, strict=True))
    # Nor whoever comes to the same pages, or asks the same.
    again = [Request(f"again {n}", one.prompt, one.who, max_new_tokens=5) for n, one in enumerate(asked)]
    assert all(same(one, other) for one, other in zip(answered(engine, again), plain, strict=True))
    assert (
        end_of(
            answered(reference(world, backbone), [Request("alone", prompt(0, 13), broken, max_new_tokens=2)])[0]
        ).reason
        == "error"
    )


@pytest.mark.parametrize(("attention", "base_ends"), [("sdpa", "error"), (NAME, "length")])
def test_without_the_fence_all_would_be_lost(attention: str, base_ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fence is for, so that nobody takes it away as needless: attention request by request is on CPUs alone."""
    monkeypatch.setattr(loading, "check_bounded", lambda tensors: None)
    monkeypatch.setattr(Pages, "_sound", lambda self, states: states)
    world, backbone = World(), families.tiny("llama")
    broken = poisoned(world, torch.nan, "f1")
    asked = [
        Request("broken", prompt(0, 13), broken, max_new_tokens=2),
        Request("base", prompt(1, 13), max_new_tokens=2),
    ]
    engine = batched(world, backbone)
    core = core_of(engine)
    assert isinstance(core, Batched)
    core._pages.backbone.model.config._attn_implementation = attention
    assert [end_of(one).reason for one in answered(engine, asked)] == ["error", base_ends]


def test_a_fault_of_a_forward_ends_those_in_it_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world, backbone = World(), families.tiny("llama")
    engine = batched(world, backbone, SMALL)
    core = core_of(engine)
    assert isinstance(core, Batched)
    forward = core._pages.forward

    def fails(*args: Any) -> Any:
        monkeypatch.setattr(core._pages, "forward", forward)
        raise RuntimeError("out of memory, says a text that names a user")

    monkeypatch.setattr(core._pages, "forward", fails)
    request = Request("a", prompt(0, 13), world.train("anna"), max_new_tokens=3)
    (found,) = answered(engine, [request])
    assert end_of(found).reason == "error"
    assert "names a user" not in str(end_of(found).problem)
    again = Request("b", request.prompt, request.who, max_new_tokens=3)
    assert same(answered(engine, [again])[0], answered(reference(world, backbone), [again])[0])
    assert engine.stats().pinned == 0


@pytest.mark.parametrize(
    ("value", "wrong"),
    [((), []), ((torch.nan,), [2]), ((torch.inf, -torch.inf), [2]), ((3e38, 3e38), []), ((-torch.inf,), [2])],
)
def test_the_quick_look_at_states_sees_what_the_slow_one_does(value: tuple[float, ...], wrong: list[int]) -> None:
    """A sum is not finite where one number is not, and may be so where all are; then each is looked at."""
    pages = Pages(families.tiny("llama"), SMALL)
    states = torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    for place, one in enumerate(value):
        states[0, place, 2, 1] = one
    found = pages._sound(states)
    assert found.isfinite().all()
    sound = [place for place in range(5) if place not in wrong]
    assert found[:, :, sound].equal(states[:, :, sound])
    assert ([] if pages._unsound is None else pages._unsound.nonzero().flatten().tolist()) == wrong
