"""Optional dependencies, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from perfit.errors import MissingExtraError


def import_extra(module: str, package: str, extra: str = "eval") -> Any:
    """Import an optional dependency when it is used.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra, package) from error
