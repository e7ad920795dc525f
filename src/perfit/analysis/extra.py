"""What the extra ``analysis`` brings, imported when used."""

from __future__ import annotations

from typing import Any

from perfit.extras import import_extra

NAME = "analysis"


def extra(module: str) -> Any:
    """A module such as "scipy.stats".

    Raises:
        MissingExtraError: It is not installed.
    """
    return import_extra(module, module.partition(".")[0], NAME)
