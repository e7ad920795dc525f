"""Text from outside (ids, names, values) on one line of a console or an error, as it is or escaped, never obeyed."""

from __future__ import annotations

import unicodedata

# Control, line and paragraph separator, lone surrogate, and invisible formatting: bidi overrides, tags, zero-width space.
_ESCAPED = {"Cc", "Cf", "Zl", "Zp", "Cs"}
# Joiners that Persian words, Indic scripts and emoji are written with.
_JOINERS = "\u200c\u200d"


def shown(text: object, limit: int = 80) -> str:
    """What to print for a text from outside: characters that could move or hide other text are escaped as in Python.

    Args:
        text: Anything; ``str`` is taken of it.
        limit: Most characters to return (at least 1); what is longer ends with ``…``.
    """
    given, parts, room, fits = str(text), [], limit, 0
    for character in given[: limit + 1]:
        part = _escaped(character)
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
        # So many leave a place for the sign that there is more.
        fits += room >= 1
    return "".join(parts) if len(parts) == len(given) else "".join(parts[:fits]) + "…"


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
