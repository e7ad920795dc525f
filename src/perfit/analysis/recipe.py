"""How δ-vectors are made: everything that decides them, checked where it is made and kept beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from perfit.errors import ConfigError

BARE = "bare"
HISTORY = "history"
CONTROLS = ("random", "other", "shuffled", "half")
VARIANTS = (HISTORY, *CONTROLS)
"""What may stand before a query:

* ``history``: what BM25 finds in the user's own history (the paper's δ-vectors).
* ``random``: random tokens of the vocabulary, as many (Figure 9).
* ``other``: what BM25 finds for the same query in the next user's history, cut at its front to as many tokens.
* ``shuffled``: the words of ``history`` in random order.
* ``half``: what BM25 finds in every second past item; even queries see the even ones, odd queries the odd ones, so that
  a user has two δ-vectors that share neither a query nor a past item.
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How δ-vectors are made.

    Attributes:
        items: Past items put before a query.
        history_tokens: Most tokens of those items; the least relevant ones give way.
        queries: Only each user's first so many queries; None takes all.
        variants: What is put before a query besides nothing, of ``VARIANTS``.
        layers: Decoder layers whose outputs are read, by index from 0.
        max_length: Most tokens of a prompt; a query's text is shortened to leave ``history_tokens`` room.
        seed: Seed of random tokens and word order.

    Raises:
        ConfigError: A field has an impossible value.
    """

    layers: tuple[int, ...]
    items: int = 4
    history_tokens: int = 512
    queries: int | None = None
    variants: tuple[str, ...] = VARIANTS
    max_length: int = 1536
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("items", "history_tokens", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.queries is not None and self.queries < 1:
            raise ConfigError(f"queries is {self.queries}; give at least 1, or nothing for all")
        if self.max_length <= self.history_tokens:
            raise ConfigError(
                f"max_length is {self.max_length}; it must leave room for a query beside {self.history_tokens} "
                "history_tokens"
            )
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown or HISTORY not in self.variants or len(set(self.variants)) != len(self.variants):
            raise ConfigError(f"variants is {list(self.variants)}; name history and any of {', '.join(CONTROLS)} once")
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ConfigError(f"layers is {list(self.layers)}; name at least one layer, each once")

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds of prompts, the bare query first."""
        return (BARE, *self.variants)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of ``as_dict``."""
        lists = {name: tuple(values[name]) for name in ("layers", "variants")}
        return cls(**{**values, **lists})
