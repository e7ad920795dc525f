"""Text from outside in Markdown: read as it is, never as HTML, a link, an image, emphasis or another cell."""

from __future__ import annotations

import re

from perfit.shown import shown

_LONGEST = 4000
_SIGNS = re.compile(
    r"""
    [\\|`*\[\]~]            # code, emphasis, links, images, strike-through, the end of a cell
    | <(?=[A-Za-z/!?])      # HTML and links in angle brackets; not the sign before a number
    | &(?=[A-Za-z#])        # entities
    | (?<!\w)_ | _(?!\w)    # emphasis; not the line inside a metric's name
    | :(?=//) | (?<=www)\.  # addresses that become links by themselves
    """,
    re.VERBOSE,
)


def markdown(text: str) -> str:
    """One line of Markdown that shows ``text``."""
    return _SIGNS.sub(r"\\\g<0>", shown(text, _LONGEST))
