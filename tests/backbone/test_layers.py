from __future__ import annotations

import pytest
from families import DEPTH, FAMILIES, NAMES, tiny
from torch import nn

from perfit.backbone.layers import find_layers
from perfit.errors import BaseModelError


@pytest.mark.parametrize("family", NAMES)
def test_layers_are_found_in_every_family(family: str) -> None:
    backbone = tiny(family)
    assert backbone.layers_path == FAMILIES[family][2]
    assert len(backbone.layers) == DEPTH


def test_the_override_is_taken() -> None:
    assert find_layers(tiny("llama").model, "model.layers") == "model.layers"


@pytest.mark.parametrize("path", ["model", "model.layer", "lm_head"])
def test_an_override_that_is_no_list_of_layers_is_refused_with_the_choice(path: str) -> None:
    with pytest.raises(BaseModelError, match=r"layers_path: .* it has: model\.layers"):
        find_layers(tiny("llama").model, path)


class Config:
    num_hidden_layers = 3

    def get_text_config(self) -> Config:
        return self


class Odd(nn.Module):
    def __init__(self, **lists: nn.ModuleList) -> None:
        super().__init__()
        self.config = Config()
        for name, value in lists.items():
            setattr(self, name, value)


def linears(count: int, size: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(size, size) for _ in range(count))


def test_of_several_lists_the_heaviest_of_the_right_length_counts() -> None:
    assert find_layers(Odd(adapters=linears(3, 2), blocks=linears(3, 8), heads=linears(4, 99))) == "blocks"


def test_a_model_without_such_a_list_is_refused() -> None:
    with pytest.raises(BaseModelError, match=r"no list of 3 equal decoder layers found in Odd; name it"):
        find_layers(Odd(blocks=linears(2, 8)))
    mixed = nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)])
    with pytest.raises(BaseModelError):
        find_layers(Odd(blocks=mixed))
