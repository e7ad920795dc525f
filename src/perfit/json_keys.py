"""Names of things as keys of JSON: small letters, digits and underscores (docs/cli.md)."""

from __future__ import annotations

import re


def json_key(name: str) -> str:
    """A name or phrase as a key: ``floor: user_mean`` becomes ``floor_user_mean``."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")
