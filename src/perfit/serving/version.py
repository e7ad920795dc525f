"""Which shifts one answer is given with: the identity that banks, caches, receipts and requests in flight go by."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from perfit.durable.identity import digest_of
from perfit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ShiftVersion:
    """One user's shifts at one moment, or the shared ones alone; it never changes and is never used for anything else.

    Attributes:
        tenant: Who the user belongs to.
        user: A keyed digest of the user's id, never the id; "" for the collective alone.
        version: Number of the user's version, counted up with each training; 0 for the collective alone.
        personal: ``shift_digest`` of the user's stored shift; None for the collective alone.
        collective: SHA-256 of the file of both shared shifts (``Collective.file``).
        base: One digest of the base they were trained on.
        strength: How far answers go from the shared second shift (0) to the user's own (1).
        positions: The rule of edited prompt tokens, such as ``f7+l7``.
    """

    tenant: str
    user: str
    version: int
    personal: str | None
    collective: str
    base: str
    strength: float
    positions: str

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength: {self.strength!r} is not possible; give a number from 0 to 1")
        if (self.personal is None) != (self.user == ""):
            raise ConfigError("user: a version names both a user and a personal shift, or neither")

    @property
    def digest(self) -> str:
        """SHA-256 over all of it: equal for equal versions alone."""
        return digest_of(asdict(self))
