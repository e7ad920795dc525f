"""Prompt templates: named slots such as ``{text}``. Every other brace is an ordinary character."""

from __future__ import annotations

import re
from collections.abc import Callable

_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")


def slots(template: str) -> list[str]:
    """The names of a template's slots, in order, repeated ones included."""
    return _SLOT.findall(template)


def fill(template: str, value: Callable[[str], str]) -> str:
    """The template with each slot replaced by ``value(name)``; braces inside values are left alone."""
    return _SLOT.sub(lambda slot: value(slot[1]), template)
