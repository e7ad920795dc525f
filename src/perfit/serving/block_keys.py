"""What a block of keys and values is known by, so that no request reads what was computed otherwise.

Keys and values of a token depend on every token before it, and on every edit before it. So a block is known by the chain
of all blocks up to it, each with its tokens and, where one of them is edited, whose version edits it and at which places.
A block that no edit has reached is the same for all users of a tenant; one behind an edit is its version's alone; and when
the next turn moves the suffix, the places no longer agree and it is computed anew.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edits:
    """What of a request decides its keys and values, beside its tokens.

    Attributes:
        tenant: Who may share with it at all.
        version: Digest of the shifts; "" for the base.
        positions: Edited positions, ascending; counted on the request's own prompt, whatever was generated since.
    """

    tenant: str
    version: str
    positions: tuple[int, ...]


class BlockKeys:
    """Keys of 128 bits by BLAKE2b, keyed with a secret of this process: nobody outside can make two blocks agree.

    Args:
        size: Tokens of a block.
    """

    def __init__(self, size: int):
        self.size = size
        self._secret = secrets.token_bytes(32)

    def root(self, edits: Edits) -> bytes:
        """What the chain of a request begins with."""
        return self._hash(b"tenant", edits.tenant.encode())

    def next(self, before: bytes, number: int, tokens: Sequence[int], edits: Edits) -> bytes:
        """The key of a block.

        Args:
            before: The key of the block before it, or ``root``.
            number: Which block of the request it is, from 0.
            tokens: Its tokens.
            edits: The request's.
        """
        begin = number * self.size
        low, high = (bisect_left(edits.positions, place) for place in (begin, begin + self.size))
        inside = [place - begin for place in edits.positions[low:high]]
        whose = edits.version.encode() if inside else b""
        return self._hash(before, array("q", tokens).tobytes(), whose, array("q", inside).tobytes())

    def _hash(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(digest_size=16, key=self._secret)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()
