"""The residual stream at the last prompt token, at many layers, in one forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.backbone.taps import looking, running


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Places of prompts, sorted by length and packed so that rows times the longest are at most ``batch_tokens``.

    A prompt longer than that is a batch of its own.
    """
    packed: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i), reverse=True):
        if packed and (len(packed[-1]) + 1) * lengths[packed[-1][0]] <= batch_tokens:
            packed[-1].append(place)
        else:
            packed.append([place])
    return packed


@torch.inference_mode()
def last_states(
    backbone: Backbone, prompts: Sequence[Sequence[int]], layers: Sequence[int], batch_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Outputs of ``layers`` at each prompt's last token.

    The decoder runs without its head, and without a mask: padding stands on the right, where causal attention does
    not see it.

    Yields:
        Places of some prompts, and their states [prompts, layers, d] in fp32 on the CPU.
    """
    backbone.check_layers(tuple(layers))
    owner, _, _ = backbone.layers_path.rpartition(".")
    decoder = backbone.model.get_submodule(owner)
    for places in batches([len(prompt) for prompt in prompts], batch_tokens):
        rows = [prompts[place] for place in places]
        last = torch.tensor([len(row) - 1 for row in rows], device=backbone.device)
        ids = torch.zeros(len(rows), len(rows[0]), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        yield places, _run(decoder, backbone, ids.to(backbone.device), last, layers)


def _run(decoder: nn.Module, backbone: Backbone, ids: Tensor, last: Tensor, layers: Sequence[int]) -> Tensor:
    found: dict[int, Tensor] = {}
    rows = torch.arange(len(last), device=last.device)

    def keep(layer: int, hidden: Tensor) -> None:
        found[layer] = hidden[rows.to(hidden.device), last.to(hidden.device)].float().cpu()

    running(
        lambda: decoder(input_ids=ids, use_cache=False),
        {backbone.output_of(layer): looking(partial(keep, layer)) for layer in layers},
    )
    return torch.stack([found[layer] for layer in layers], dim=1)
