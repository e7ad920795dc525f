"""peft's LoRA inside the shared base, for as long as a context lasts; the base's weights are never written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
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


class Adapters:
    """The LoRA modules of one base, several adapters each.

    Args:
        model: What peft made.
    """

    def __init__(self, model: Any):
        from peft.tuners.lora import LoraLayer

        self._tuner = model.base_model
        root = self._tuner.model
        self._layers = {name: module for name, module in root.named_modules() if isinstance(module, LoraLayer)}

    def parameters(self, adapter: str) -> dict[str, Tensor]:
        """An adapter's matrices: "<projection>.A" [r, inputs] and "<projection>.B" [outputs, r]."""
        found: dict[str, Tensor] = {}
        for name, layer in self._layers.items():
            if adapter in layer.lora_A:
                found[f"{name}.A"] = layer.lora_A[adapter].weight
                found[f"{name}.B"] = layer.lora_B[adapter].weight
        return found

    def start(self, adapter: str, seed: int, learner: str) -> None:
        """A fresh adapter: A as peft draws it, B zero, so that it does nothing yet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stable_random(seed, learner, "lora").getrandbits(62))
            for layer in self._layers.values():
                if adapter in layer.lora_A:
                    layer.reset_lora_parameters(adapter, init_lora_weights=True)

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


@contextmanager
def adapted(backbone: Backbone, targets: Mapping[str, Sequence[Projection]], shape: LoraShape) -> Iterator[Adapters]:
    """Put LoRA adapters into the base, all of them at work together, and take them out again.

    Two adapters at work add up, which is what merging the first and training the second on top would give, but for the
    rounding that merging into low-precision weights costs.

    Args:
        backbone: The base; its own weights are neither merged into nor copied.
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

    configs = {name: config(projections) for name, projections in targets.items()}
    first, *more = configs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers in words that are to be renamed
        model = peft.get_peft_model(backbone.model, configs[first], adapter_name=first)
    try:
        for name in more:
            model.add_adapter(name, configs[name])
        model.base_model.set_adapter(list(configs))
        adapters = Adapters(model)
        adapters.train(None)
        yield adapters
    finally:
        model.unload()
        backbone.model.eval().requires_grad_(False)
