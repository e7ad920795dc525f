"""A copy that shares every weight: what is set or put on it stays its own."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from families import tiny
from torch import Tensor, nn

from perfit.backbone.twin import twin


class Noting(nn.Module):
    """Doubles, and notes which object ran."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.ran.append(id(self))
        return 2 * x


def test_a_forward_put_on_a_module_runs_the_copy_in_the_copy() -> None:
    module = Noting()
    original = module.forward

    def wrapped(self: Noting, x: Tensor) -> Tensor:
        return original.__func__(self, x) + 1  # type: ignore[attr-defined, no-any-return]

    for put_on in (original, functools.partial(wrapped, module)):
        module.forward = put_on  # type: ignore[method-assign]
        copied = twin(module)
        module.ran.clear()
        copied(torch.ones(1))
        module(torch.ones(1))
        assert module.ran == [id(copied), id(module)]


def test_hooks_of_accelerate_see_the_copys_modules() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    backbone = tiny("llama")
    ids = torch.tensor([[5, 9, 7, 30, 12]])
    plain = backbone.model(input_ids=ids).logits
    layer = backbone.layers[1]
    hooks.add_hook_to_module(layer, hooks.ModelHook())
    try:
        copied = twin(backbone.model)
        copied.model.layers[1].self_attn = Silent()
        assert torch.equal(backbone.model(input_ids=ids).logits, plain)
        assert not torch.allclose(copied(input_ids=ids).logits, plain, atol=1e-3)
    finally:
        hooks.remove_hook_from_module(layer)


class Silent(nn.Module):
    """Attention that adds nothing."""

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        return torch.zeros_like(hidden_states), None


def test_one_module_in_two_places_stays_one() -> None:
    one, other = nn.Linear(2, 3), nn.Linear(3, 2)
    copied = twin(nn.ModuleList([one, other, one]))
    assert copied[0] is copied[2]
    assert copied[0] is not one
    assert copied[0].weight is one.weight
    assert copied[1] is not copied[0]


def test_what_is_put_on_the_copy_is_not_on_the_base() -> None:
    module = nn.Linear(2, 3)
    copied = twin(module)
    copied.register_forward_hook(lambda m, args, out: out + 1)
    copied.register_parameter("more", nn.Parameter(torch.ones(1)))
    copied.eval()
    assert not module._forward_hooks
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias"]
    assert module.training
