"""The residual stream at the last prompt token, at many layers, in one forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.backbone.padding import padded
from perfit.backbone.taps import looking, running
from perfit.inference.batches import batches


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
    for batch in batches(prompts, batch_tokens, None):
        ids, mask = padded([prompts[place] for place in batch], backbone.device)
        yield batch, _run(decoder, backbone, ids, mask.sum(1) - 1, layers)


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
