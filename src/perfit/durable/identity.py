"""What decides the numbers of something kept, part by part: one hash over it, and the parts in which two differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def digest_of(*parts: Any) -> str:
    """SHA-256 over plain JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differing(theirs: Mapping[str, Any], mine: Mapping[str, Any], parts: Iterable[str] | None = None) -> list[str]:
    """Names of the parts that are not the same, as JSON keeps them; one that is missing is the same as None.

    Args:
        theirs: What was kept.
        mine: What it would be now.
        parts: Which are looked at, in this order; all by default.
    """
    return [
        name
        for name in ({**mine, **theirs} if parts is None else parts)
        if digest_of(theirs.get(name)) != digest_of(mine.get(name))
    ]
