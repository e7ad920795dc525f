"""Which tokens of a prompt are edited: "f7+l7" (paper, 4 and Table 8) -> token indices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfit.errors import ConfigError

_PART = re.compile(r"([fl])(\d+)")
_HOW = "write f<n>, l<n>, f<n>+l<n>, all, or indices such as 0,1,-1"


@dataclass(frozen=True, slots=True)
class Positions:
    """A rule that picks tokens of a prompt, counted on the prompt's own tokens: padding and answer never count.

    Attributes:
        first: Number of tokens from the prompt's start.
        last: Number of tokens up to and including the prompt's last token.
        every: Edit the whole prompt.
        indices: Explicit indices; negative ones count from the prompt's end (-1 is its last token).
    """

    first: int = 0
    last: int = 0
    every: bool = False
    indices: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Positions:
        """Read a rule from text.

        Args:
            text: "f7+l7", "l7", "f5", "all", or comma-separated indices such as "0,3,-1".

        Raises:
            ConfigError: The text is none of these, or picks nothing.
        """
        rule = text.strip().lower()
        if rule == "all":
            return cls(every=True)
        if re.fullmatch(r"-?\d+(\s*,\s*-?\d+)*", rule):
            return cls(indices=tuple(dict.fromkeys(int(part) for part in rule.split(","))))
        counts = {"f": 0, "l": 0}
        for part in rule.split("+"):
            match = _PART.fullmatch(part.strip())
            if match is None or counts[match[1]]:
                raise ConfigError(f"positions: {text!r} is not a rule; {_HOW}")
            counts[match[1]] = int(match[2])
            if int(match[2]) == 0:
                raise ConfigError(f"positions: {text!r} picks nothing at {part!r}; {_HOW}")
        return cls(first=counts["f"], last=counts["l"])

    def __str__(self) -> str:
        if self.every:
            return "all"
        if self.indices:
            return ",".join(str(index) for index in self.indices)
        return "+".join(f"{name}{count}" for name, count in (("f", self.first), ("l", self.last)) if count)

    def of(self, length: int) -> tuple[int, ...]:
        """Indices picked in a prompt of ``length`` tokens, ascending, each at most once.

        A prompt shorter than first + last is edited whole, once per token; explicit indices that fall outside the
        prompt are left out.
        """
        if self.every:
            return tuple(range(length))
        if self.indices:
            own = (index + length if index < 0 else index for index in self.indices)
            return tuple(sorted({index for index in own if 0 <= index < length}))
        head = range(min(self.first, length))
        tail = range(max(length - self.last, len(head)), length)
        return (*head, *tail)

    @property
    def suffix_reach(self) -> int | None:
        """How many last tokens hold all edits, or None when edits may also stand earlier in the prompt.

        With a finite reach all earlier tokens never see an edit at any layer (attention is causal), so their keys
        and values are constants of training.
        """
        if self.every or self.first:
            return None
        if self.indices:
            return -min(self.indices) if max(self.indices) < 0 else None
        return self.last
