"""What stage 1 learnt from, as far as a run's or a comparison's manifest tells: the one thing no erasure reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def own_histories(manifest: Mapping[str, Any]) -> bool:
    """Whether stage 1 trains on the users themselves."""
    data, config = manifest.get("data"), manifest.get("config")
    alone = isinstance(data, Mapping) and data.get("others") == 0
    return alone or (isinstance(config, Mapping) and config.get("stage1_users") == "all")


def why_it_stays(manifest: Mapping[str, Any], anew: str) -> str:
    """What a collective shift may still hold of a user, and what would be without: ``anew``, such as "run"."""
    if manifest.get("stage1_from"):
        return "trained in another run; what that one learnt from stays in it"
    if own_histories(manifest):
        return f"trained on the users' own histories, this user's among them; only a new {anew} is without"
    if others := (manifest.get("data") or {}).get("others"):
        who = f"{others} other users, who are not listed"
        return f"trained on {who}; if this user was among them, only a new {anew} is without"
    return "what it was trained on is not kept here"
