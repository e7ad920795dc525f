"""Where attention keeps its projections, found by structure: for LoRA the inputs' side, for LoFiT the heads' outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from perfit.backbone.model import Backbone
from perfit.errors import BaseModelError

_NAMES = {
    "q": ("q_proj", "query", "q_lin", "wq", "query_proj", "q"),
    "k": ("k_proj", "key", "k_lin", "wk", "key_proj", "k"),
    "v": ("v_proj", "value", "v_lin", "wv", "value_proj", "v"),
    "qkv": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv", "in_proj"),
}


@dataclass(frozen=True)
class Projection:
    """One projection: its dotted name in the model, and its sizes."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Attention:
    """The attention of one layer.

    Attributes:
        parts: "q", "k" and "v", or one "qkv" where the family fuses them.
        out: The projection of all heads' outputs [rows, t, heads · head size] back to the residual stream.
    """

    parts: dict[str, Projection]
    out: Projection

    def only(self, wanted: str) -> list[Projection]:
        """The projections of some of q, k and v; the fused one stands for each of them."""
        return [self.parts["qkv"]] if "qkv" in self.parts else [self.parts[part] for part in wanted]


def find_attention(backbone: Backbone) -> list[Attention]:
    """The attention projections of each layer.

    Raises:
        BaseModelError: A layer has none under a known name, or not exactly one output projection beside them.
    """
    return [
        _of_layer(f"{backbone.layers_path}.{index}", layer, type(backbone.model).__name__)
        for index, layer in enumerate(backbone.layers)
    ]


def _of_layer(path: str, layer: nn.Module, family: str) -> Attention:
    for name, module in layer.named_modules():
        linear = {child: shape for child, part in module.named_children() if (shape := _shape(part)) is not None}
        kinds = {kind: child for kind, names in _NAMES.items() for child in linear if child in names}
        fused = {"qkv"} if "qkv" in kinds else {"q", "k", "v"}
        if not fused <= set(kinds):
            continue
        parts = {kind: kinds[kind] for kind in sorted(fused)}
        rest = [child for child in linear if child not in parts.values()]
        where = f"{path}.{name}" if name else path
        if len(rest) != 1:
            raise BaseModelError(
                f"{family}: {where} has {len(rest)} projections beside q, k and v, not one for the heads' output; "
                "methods that tune attention do not know this family"
            )

        found = {child: Projection(f"{where}.{child}", *sizes) for child, sizes in linear.items()}
        return Attention({kind: found[child] for kind, child in parts.items()}, found[rest[0]])
    raise BaseModelError(
        f"{family}: no q, k and v projections found in {path} (looked for {', '.join(_NAMES['q'][:2])}, "
        f"{', '.join(_NAMES['qkv'][:3])}, ...); methods that tune attention do not know this family"
    )


def _shape(module: Any) -> tuple[int, int] | None:
    """Inputs and outputs of a linear map; transformers' Conv1D (GPT-2) is one too."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)
    if hasattr(module, "nx") and hasattr(module, "nf"):
        return int(module.nx), int(module.nf)
    return None


def heads_of(backbone: Backbone) -> int:
    """Attention heads of a layer."""
    return int(backbone.model.config.get_text_config().num_attention_heads)
