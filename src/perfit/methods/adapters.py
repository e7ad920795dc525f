"""peft's LoRA in a copy of the base that shares its weights: the base is never written, and runs as it is meanwhile."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.backbone.twin import twin
from perfit.errors import MissingExtraError
from perfit.methods.attention import Projection
from perfit.methods.options import check_counts, check_numbers
from perfit.training.schedule import stable_random

COLLECTIVE, PERSONAL = "collective", "personal"


@dataclass(frozen=True)
class LoraShape:
    """Size and strength of a LoRA.

    Attributes:
        rank: r.
        alpha: Its product is scaled by alpha / rank.
        dropout: Of its input while it trains.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05

    def __post_init__(self) -> None:
        check_counts(self, "rank")
        check_numbers(self, "alpha")
        check_numbers(self, "dropout", below=1.0)

    def parameters(self, targets: Sequence[Projection]) -> int:
        """Numbers of a LoRA on these projections: r (inputs + outputs) each."""
        return sum(self.rank * (target.inputs + target.outputs) for target in targets)


class _Dropout(nn.Module):
    """Dropout that draws from a generator of its own: torch's one draws from one that all threads share."""

    def __init__(self, share: float, generator: torch.Generator):
        super().__init__()
        self.share, self.generator = share, generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.generator)
        return x * kept.div_(1 - self.share)


class Adapters:
    """The LoRA modules in a copy of a base, several adapters each.

    Args:
        backbone: The copy.
        model: What peft made of it.
        dropout: Share of dropout in training.

    Attributes:
        backbone: The copy, with all adapters at work in its forward.
    """

    def __init__(self, backbone: Backbone, model: Any, dropout: float):
        from peft.tuners.lora import LoraLayer

        self.backbone = backbone
        self._generator = torch.Generator(backbone.device)
        root = model.base_model.model
        self._layers = {name: module for name, module in root.named_modules() if isinstance(module, LoraLayer)}
        for layer in self._layers.values():
            for name in layer.lora_dropout:
                layer.lora_dropout[name] = _Dropout(dropout, self._generator)

    def reseed(self, seed: int) -> None:
        """Let dropout draw from here on what it draws after this seed, whatever ran before."""
        self._generator.manual_seed(seed)

    def parameters(self, adapter: str) -> dict[str, Tensor]:
        """An adapter's matrices: "<projection>.A" [r, inputs] and "<projection>.B" [outputs, r]."""
        found: dict[str, Tensor] = {}
        for name, layer in self._layers.items():
            if adapter in layer.lora_A:
                found[f"{name}.A"] = layer.lora_A[adapter].weight
                found[f"{name}.B"] = layer.lora_B[adapter].weight
        return found

    @torch.no_grad()
    def start(self, adapter: str, seed: int, learner: str) -> None:
        """A fresh adapter: A as peft draws it, B zero, so that it does nothing yet."""
        drawn = torch.Generator().manual_seed(stable_random(seed, learner, "lora").getrandbits(62))
        for layer in self._layers.values():
            if adapter in layer.lora_A:
                first = layer.lora_A[adapter].weight
                first.copy_(nn.init.kaiming_uniform_(torch.empty(first.shape), a=math.sqrt(5), generator=drawn))
                layer.lora_B[adapter].weight.zero_()

    @torch.no_grad()
    def load(self, adapter: str, tensors: Mapping[str, Tensor]) -> None:
        """Write an adapter's matrices; without any, it does nothing."""
        for name, parameter in self.parameters(adapter).items():
            if tensors:
                parameter.copy_(tensors[name])
            else:
                parameter.zero_()

    def train(self, adapter: str | None) -> None:
        """Let one adapter learn, with dropout, while the others act as they are; None lets all only act."""
        for layer in self._layers.values():
            for name, dropout in layer.lora_dropout.items():
                dropout.train(name == adapter)
            for name in layer.lora_A:
                layer.lora_A[name].requires_grad_(name == adapter)
                layer.lora_B[name].requires_grad_(name == adapter)


def adapted(backbone: Backbone, targets: Mapping[str, Sequence[Projection]], shape: LoraShape) -> Adapters:
    """LoRA adapters in a copy of the base, all of them at work together.

    Two adapters at work add up, which is what merging the first and training the second on top would give, but for the
    rounding that merging into low-precision weights costs.

    Args:
        backbone: The base; its modules stay as they are, and its weights are shared.
        targets: By adapter, the projections it changes.
        shape: Of all adapters.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtraError("baselines", "peft") from None
    from transformers.pytorch_utils import Conv1D

    def config(projections: Sequence[Projection]) -> Any:
        transposed = isinstance(backbone.model.get_submodule(projections[0].name), Conv1D)
        return peft.LoraConfig(
            r=shape.rank,
            lora_alpha=shape.alpha,
            lora_dropout=shape.dropout,
            target_modules=[projection.name for projection in projections],
            fan_in_fan_out=transposed,
        )

    # Peft asks transformers in words that are to be renamed. The filter stays: putting it on for a while would change
    # what other threads hear.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    configs = {name: config(projections) for name, projections in targets.items()}
    first, *more = configs
    copied = Backbone(twin(backbone.model), backbone.tokenizer, name=backbone.name, layers_path=backbone.layers_path)
    model = peft.get_peft_model(copied.model, configs[first], adapter_name=first)
    for name in more:
        model.add_adapter(name, configs[name])
    model.base_model.set_adapter(list(configs))
    adapters = Adapters(copied, model, shape.dropout)
    adapters.train(None)
    return adapters
