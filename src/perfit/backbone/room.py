"""How many positions a base has, and whether what is asked of it fits."""

from __future__ import annotations

from perfit.backbone.model import Backbone
from perfit.errors import ConfigError


def positions_of(backbone: Backbone) -> int | None:
    """The base's number of positions, or None where its config does not say."""
    limit = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None


def check_length(backbone: Backbone, max_length: int) -> None:
    """Refuse training rows longer than the base's positions.

    Raises:
        ConfigError: They are.
    """
    limit = positions_of(backbone)
    if limit is not None and max_length > limit:
        raise ConfigError(
            f"max_length: {max_length} is more than the {limit} positions of this base; give at most {limit}"
        )


def check_room(backbone: Backbone, longest: int, new: int) -> None:
    """Refuse to generate beyond the base's positions.

    Args:
        longest: Tokens of the longest prompt.
        new: Tokens that may follow it.

    Raises:
        ConfigError: They do not fit.
    """
    limit = positions_of(backbone)
    if limit is not None and longest + new > limit:
        raise ConfigError(
            f"max_new_tokens: {new} after a prompt of {longest} tokens is more than the {limit} positions of this base; "
            f"give at most {limit - longest}"
        )
