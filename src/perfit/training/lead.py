"""The tokens that all prompts begin with, edited with each owner's shift: run once a step, whatever forwards rows take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from perfit.backbone.prefix_cache import KeysValues
from perfit.edits.edit_plan import SlotGroups
from perfit.training.rows import Slots


class Lead:
    """Keys and values of one step's owners; gradients of all forwards are summed and go back once.

    Args:
        owners: (collective slot, personal slot) of each.
        computed: By layer, keys and values [owners, heads, s, size], with their graph.
    """

    def __init__(self, owners: Sequence[Slots], computed: Mapping[int, KeysValues]):
        self._place = {owner: number for number, owner in enumerate(owners)}
        self._computed = computed
        # Sums of gradients are kept in fp32: an owner's rows may come in many forwards.
        self._leaves = {layer: (_leaf(keys), _leaf(values)) for layer, (keys, values) in computed.items()}

    def of(self, slots: Sequence[Slots], groups: SlotGroups) -> dict[int, KeysValues]:
        """The keys and values of the groups of some rows, in the base's dtype, [groups, heads, s, size]."""
        places = [self._place[slots[row]] for row in groups.firsts()]
        found: dict[int, KeysValues] = {}
        for layer, leaves in self._leaves.items():
            dtype = self._computed[layer][0].dtype
            chosen = [_chosen(leaf, places).to(dtype) for leaf in leaves]
            found[layer] = chosen[0], chosen[1]
        return found

    def backward(self) -> None:
        """Hand the summed gradients on to the shifts."""
        ends, gradients = [], []
        for layer, leaves in self._leaves.items():
            for end, leaf in zip(self._computed[layer], leaves, strict=True):
                if end.requires_grad and leaf.grad is not None:
                    ends.append(end)
                    gradients.append(leaf.grad.to(end.dtype))
        if ends:
            torch.autograd.backward(ends, gradients)


def _leaf(computed: Tensor) -> Tensor:
    return computed.detach().float().requires_grad_(computed.requires_grad)


def _chosen(leaf: Tensor, places: Sequence[int]) -> Tensor:
    if list(places) == list(range(len(leaf))):
        return leaf
    return leaf.index_select(0, torch.tensor(places, device=leaf.device))
