"""Several variants of one method in one comparison: ``perfit[retrieved=2]`` is a name of its own with its own options."""

from __future__ import annotations


def split_names(text: str) -> list[str]:
    """Names of methods, separated by commas that stand in no brackets; blanks do not count."""
    names, depth = [""], 0
    for sign in "".join(text.split()):
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            names.append("")
        else:
            names[-1] += sign
    return [name for name in names if name]


def settings_of(name: str) -> tuple[str, list[str]]:
    """The method of a variant's name, and its ``option=value`` texts, none where it is the method itself."""
    method, bracket, rest = name.partition("[")
    if not bracket or not rest.endswith("]"):
        return name, []
    return method, split_names(rest[:-1])
