"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.errors import BaseModelError, ConfigError
from perfit.serving.batched import Batched
from perfit.serving.engine import Engine
from perfit.serving.people import People
from perfit.serving.proof import prove
from perfit.serving.reference import Reference
from perfit.serving.served import Core, Served

NAMES = ("auto", "reference", "transformers")


def open_engine(
    name: str, backbone: Backbone, config: PerFitConfig, people: People, say: Callable[[str], None]
) -> Engine:
    """An engine for one base.

    Args:
        name: "transformers" answers many together, after it has shown on this base that it answers each as alone;
            "reference" one after the other; "auto" is the first where it can, and says so where it cannot.
        backbone: The base.
        config: The run's settings.
        people: Where shifts come from.
        say: Told why "auto" took the reference.

    Raises:
        ConfigError: There is no such engine.
        BaseModelError: The base does not run in it.
    """
    if name not in NAMES:
        raise ConfigError(f"--engine: {name!r} is unknown; choose {', '.join(NAMES)}")
    core: Core | None = None
    if name != "reference":
        try:
            core = _batched(backbone, config)
        except BaseModelError as error:
            if name != "auto":
                raise
            say(f"answers are given one after the other: {error}")
    return Served(core if core is not None else Reference(backbone, config.layers), backbone, people, people.base)


def _batched(backbone: Backbone, config: PerFitConfig) -> Core:
    prove(backbone, config.layers)
    return Batched(backbone, config.layers, (config.collective_rank, config.personal_rank))
