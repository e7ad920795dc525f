"""Which device a base runs on: the one that is named, or the fastest kind that is there."""

from __future__ import annotations

import torch

from perfit.errors import ConfigError
from perfit.events import Listener, Warned, nobody

AUTO = "auto"


def choose_device(wanted: str | torch.device = AUTO, listener: Listener = nobody) -> str:
    """The device of this name, made sure to be there; for "auto" cuda, else mps, else cpu.

    Args:
        wanted: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        listener: Hears a warning where "auto" had a choice, that is, where it found an accelerator.

    Raises:
        ConfigError: There is no such device.
    """
    if str(wanted) != AUTO:
        return _checked(str(wanted))
    for kind, there in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if there():
            name = f" ({torch.cuda.get_device_name()})" if kind == "cuda" else ""
            listener(Warned(f"device: {kind}{name} is chosen; cpu would be the other choice"))
            return kind
    return "cpu"


def _checked(wanted: str) -> str:
    try:
        where = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"device: {wanted!r} is not possible; give auto, cpu, cuda, cuda:1, mps, ...") from error
    if where.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (where.index or 0) >= count:
            remedy = f"give cuda:0 to cuda:{count - 1}, or cpu" if count else "give cpu, or auto for what is there"
            raise ConfigError(f"device: there is no {wanted!r}, torch sees {count} CUDA devices; {remedy}")
        return wanted
    if where.type == "meta":
        raise ConfigError(f"device: {wanted!r} holds no numbers; give auto or cpu")
    try:
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device: there is no {wanted!r} here; give cpu, or auto for what is there") from error
    return wanted
