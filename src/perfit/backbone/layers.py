"""Where a decoder-only model keeps its layers: found by structure, not by a table of class names."""

from __future__ import annotations

from typing import Any

from torch import nn

from perfit.errors import BaseModelError


def find_layers(model: nn.Module, override: str | None = None) -> str:
    """Dotted path of the ``ModuleList`` that holds the decoder layers.

    The list that counts is the one with as many equal modules as the config has hidden layers; of several, the one
    with most parameters.

    Args:
        model: A Hugging Face causal language model.
        override: The path, for a model whose structure does not tell.

    Raises:
        BaseModelError: No such list, or ``override`` names something else.
    """
    modules = dict(model.named_modules())
    if override is not None:
        if not isinstance(modules.get(override), nn.ModuleList):
            lists = ", ".join(name for name, module in modules.items() if isinstance(module, nn.ModuleList))
            raise BaseModelError(f"layers_path: {override!r} is not a list of layers in this model; it has: {lists}")
        return override
    config: Any = model.config
    wanted = config.get_text_config().num_hidden_layers
    candidates = [
        (sum(p.numel() for p in module.parameters()), name)
        for name, module in modules.items()
        if isinstance(module, nn.ModuleList) and len(module) == wanted and len({type(m) for m in module}) == 1
    ]
    if not candidates:
        raise BaseModelError(
            f"no list of {wanted} equal decoder layers found in {type(model).__name__}; name it with layers_path"
        )
    path: str = max(candidates)[1]
    return path
