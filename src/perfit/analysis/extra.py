"""What the extra ``analysis`` brings, imported when used."""

from __future__ import annotations

import importlib
from typing import Any

from perfit.errors import MissingExtraError


def extra(module: str) -> Any:
    """A module such as "scipy.stats".

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("analysis", module.partition(".")[0]) from None
