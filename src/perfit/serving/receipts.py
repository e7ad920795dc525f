"""A receipt: what one answer was given with, signed by the run, in one line that names nobody."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from perfit.durable.records import NotAsWrittenError, parse_object
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.serving.version import ShiftVersion

_FORMAT = "perfit-receipt-1"
_LONGEST = 8192
_MOST_SPANS = 64


@dataclass(frozen=True)
class Receipt:
    """What one answer was given with.

    Attributes:
        base: Digest of the base's identity.
        collective: SHA-256 of the file of both shared shifts; None where the untouched base answered.
        user: ``shift_digest`` of the personal shift; None where none was used.
        version: The number of the user's version; 0 where none was used.
        strength: How far the answer goes from the shared second shift (0) to the user's own (1).
        positions: The rule of edited tokens; "" for the base.
        edited: The edited prompt tokens as spans ``[first, behind the last]``.
        prompt_tokens: Tokens of the prompt.
        engine: Which engine answered.
    """

    base: str
    collective: str | None
    user: str | None
    version: int
    strength: float
    positions: str
    edited: tuple[tuple[int, int], ...]
    prompt_tokens: int
    engine: str

    @classmethod
    def of(cls, version: ShiftVersion | None, base: str, prompt_tokens: int, engine: str) -> Receipt:
        """The receipt of an answer that is about to be given."""
        if version is None:
            return cls(base, None, None, 0, 0.0, "", (), prompt_tokens, engine)
        return cls(
            version.base,
            version.collective,
            version.personal,
            version.version,
            version.strength if version.personal is not None else 0.0,
            version.positions,
            spans(Positions.parse(version.positions).of(prompt_tokens)),
            prompt_tokens,
            engine,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"edited": [list(span) for span in self.edited]}

    def signed(self, key: bytes) -> str:
        """The receipt as text for a header: its JSON and its signature, base64url each, with a dot between."""
        content = json.dumps({"format": _FORMAT} | self.as_dict(), separators=(",", ":"), sort_keys=True).encode()
        return f"{_text(content)}.{_text(_signature(content, key))}"


def read_receipt(text: str, key: bytes) -> Mapping[str, Any]:
    """What a receipt says, if this run signed it.

    Raises:
        ConfigError: It is no receipt, was changed, or is another run's.
    """
    content, _, signature = text.strip().partition(".")
    try:
        if len(text) > _LONGEST:
            raise ValueError
        said, claimed = _bytes(content), _bytes(signature)
        found = parse_object(said)
    except (ValueError, binascii.Error, NotAsWrittenError):
        raise ConfigError("receipt: it cannot be read; give the whole text of the header x-perfit-receipt") from None
    if not hmac.compare_digest(claimed, _signature(said, key)) or found.get("format") != _FORMAT:
        raise ConfigError("receipt: its signature is not this run's; it was changed, or another run answered")
    return found


def spans(places: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as spans ``(first, behind the last)``; of very many the first 64."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return tuple(found[:_MOST_SPANS])


def _signature(content: bytes, key: bytes) -> bytes:
    return hmac.new(key, b"receipt\0" + content, hashlib.sha256).digest()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
