"""How records' names and values are spoken of in messages: never a word of a user's text."""

from __future__ import annotations

import re


def shown_name(name: str) -> str:
    """A field's name for a message: normally safe to print, in a broken file perhaps a piece of somebody's text."""
    return repr(name) if re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", name) else "with an unusual name"


def kind_of(value: object) -> str:
    """What sort of value this is, in words."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", bool: "true/false", str: "text", int: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")
