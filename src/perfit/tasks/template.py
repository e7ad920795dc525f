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


def first_words(text: str, limit: int | None) -> str:
    """The text up to the end of its ``limit``-th whitespace word; unchanged, spaces included, when it has no more.

    The reference rejoins words with single blanks even when nothing is cut, in training only; keeping the user's
    spacing makes training and evaluation prompts the same.
    """
    if limit is None:
        return text
    end = 0
    for count, word in enumerate(re.finditer(r"\S+", text)):
        if count == limit:
            return text[:end]
        end = word.end()
    return text
