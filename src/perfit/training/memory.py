"""Where a training's memory goes: planned from the base and the settings alone, and looked at while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.errors import ConfigError
from perfit.process_memory import process_bytes

_LIBRARIES = 0.6 * 2**30  # Python, torch, transformers and their thread pools, as measured
_STEP_SHARE = 0.3  # of what base, libraries and shifts leave
_LEAST = 64 * 2**20


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes of each use; together they are the budget.

    Attributes:
        step: Of one forward and backward.
        frozen: Of frozen parts kept in memory.
    """

    total: float
    base: float
    libraries: float
    shifts: float
    step: float
    frozen: float

    def line(self) -> str:
        """For printing."""
        parts = {
            "base": self.base,
            "libraries": self.libraries,
            "shifts": self.shifts,
            "one step": self.step,
            "frozen parts": self.frozen,
        }
        uses = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in parts.items())
        return f"memory {self.total / 2**30:.1f} GiB: {uses}"


def memory_budget(backbone: Backbone, config: PerFitConfig, slots: int) -> MemoryBudget:
    """Split ``memory_gib`` of the device the base runs on.

    Args:
        backbone: The base.
        config: The settings.
        slots: Learners that train at once.

    Raises:
        ConfigError: The base, the libraries and the smallest step alone take more.
    """
    total = config.memory_gib * 2**30
    base = float(sum(p.numel() * p.element_size() for p in backbone.model.parameters()))
    libraries = _LIBRARIES if backbone.device.type == "cpu" else 0.0
    rank = config.collective_rank + config.personal_rank
    # Value, gradient, two moments, and two of an update under way, in fp32.
    shifts = 6 * 4.0 * (slots + 1) * len(config.layers) * (2 * rank * backbone.hidden_size + rank)
    rest = total - base - libraries - shifts
    if rest < 2 * _LEAST:
        least = math.ceil((base + libraries + shifts + 4 * _LEAST) / 2**30 * 10) / 10
        raise ConfigError(
            f"memory_gib: {config.memory_gib:g} is too little: the base holds {base / 2**30:.1f} GiB, the libraries "
            f"{libraries / 2**30:.1f}, the shifts {shifts / 2**30:.1f}; give at least {least:.1f}, such as --memory {math.ceil(least)}GiB"
        )
    step = max(rest * _STEP_SHARE, _LEAST)
    return MemoryBudget(total, base, libraries, shifts, step, rest - step)


def token_bytes(backbone: Backbone, layers: int) -> int:
    """What the backward pass of one token keeps at so many layers: measured on Llama, about 12 d and 4 times the MLP."""
    config = backbone.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * backbone.hidden_size
    return int(layers * (12 * backbone.hidden_size + 4 * int(inner)) * backbone.dtype.itemsize)


def logit_bytes(backbone: Backbone) -> int:
    """What one answer token's logits take: once in the base's dtype, and in fp32 as logits, as log-probabilities and
    as their gradient."""
    return int(backbone.model.config.get_text_config().vocab_size * (2 * backbone.dtype.itemsize + 12))


def held_bytes(device: torch.device) -> int:
    """Memory in use now: of this process without mapped files, which the system may drop, or of a CUDA device's peak."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return process_bytes("RssAnon")
