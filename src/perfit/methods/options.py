"""Options of a method: typed, checked where they are made, wrong names answered with the right ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from perfit.errors import ConfigError

Options = TypeVar("Options")


def make_options(method: str, kind: type[Options], values: Mapping[str, Any]) -> Options:
    """The options of a method from plain values.

    Raises:
        ConfigError: An unknown name or an impossible value.
    """
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"{method}: {name} is not an option; it has {', '.join(known) or 'none'}")
    return kind(**values)


def check_counts(options: Any, *names: str, least: int = 1) -> None:
    """Each named option is a whole number of at least ``least``, or None where that is its default.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        value = getattr(options, name)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not whole and not _may_be_none(options, name, value):
            raise ConfigError(f"{name}: {value!r} is not possible; give a whole number of at least {least}")


def check_numbers(options: Any, *names: str, least: float = 0.0, below: float = math.inf) -> None:
    """Each named option is a finite number from ``least`` up to below ``below``, or None where that is its default.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        value = getattr(options, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and least <= value < below
        if not number and not _may_be_none(options, name, value):
            limit = f" and below {below}" if below < math.inf else ""
            raise ConfigError(f"{name}: {value!r} is not possible; give a number of at least {least}{limit}")


def _may_be_none(options: Any, name: str, value: object) -> bool:
    return value is None and any(one.name == name and one.default is None for one in fields(options))
