"""Last-token states in batches against one prompt at a time, for every family."""

from __future__ import annotations

from collections.abc import Callable

import families
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfit.errors import ConfigError
from perfit.inference.batches import batches
from perfit.inference.last_states import last_states

PROMPTS = [[(7 * row + 3 * place) % 90 + 2 for place in range(length)] for row, length in enumerate((5, 17, 9, 1, 30))]


@given(st.lists(st.integers(1, 300), max_size=30), st.integers(1, 1000))
def test_batches_hold_every_prompt_once_and_no_more_tokens_than_said(lengths: list[int], batch_tokens: int) -> None:
    packed = batches([(7,) * length for length in lengths], batch_tokens, None)
    assert sorted(place for batch in packed for place in batch) == list(range(len(lengths)))
    for batch in packed:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= batch_tokens


@pytest.mark.parametrize("family", families.NAMES)
def test_states_are_those_of_each_prompt_alone(family: str, tiny: Callable[..., object]) -> None:
    backbone = families.tiny(family)
    layers = (3, 0, 2)
    found = torch.full((len(PROMPTS), len(layers), families.WIDTH), float("nan"))
    for places, states in last_states(backbone, PROMPTS, layers, 64):
        found[places] = states
    for row, prompt in enumerate(PROMPTS):
        for place, layer in enumerate(layers):
            seen: list[torch.Tensor] = []
            module = backbone.model.get_submodule(families.FAMILIES[family][2])[layer]
            handle = module.register_forward_hook(
                lambda m, a, out, seen=seen: seen.append(out[0] if isinstance(out, tuple) else out)
            )
            with torch.no_grad():
                backbone.model(input_ids=torch.tensor([prompt]), use_cache=False)
            handle.remove()
            torch.testing.assert_close(found[row, place], seen[0][0, -1], atol=2e-5, rtol=1e-4)


def test_unknown_layers_are_refused() -> None:
    backbone = families.tiny("llama")
    with pytest.raises(ConfigError, match="9 is not a layer"):
        list(last_states(backbone, PROMPTS, (9,), 64))
