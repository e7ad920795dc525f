"""How the tokens of an answer are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from perfit.errors import ConfigError
from perfit.inference.label_set import Within
from perfit.stop_strings import checked_stop


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: Limit per prompt.
        sample: Greedy when False; otherwise temperature, top-k and top-p sampling.
        temperature, top_k, top_p: The paper's values (D.5.2).
        beams: Beam search width; 1 is greedy.
        seed: Seed of sampling; a row's draws depend on it and on the row's prompt alone.
        batch_tokens: Most prompt tokens, padding included, of one batch.
        batch_rows: Most prompts of one batch.
        stop: Texts that end an answer and are no part of it: a row ends where the first of them is complete, and no other
            row with it. With beams they are looked for in the finished answer.
        within: The answers a prompt may get, one of which is then chosen greedily; None for any text.
    """

    max_new_tokens: int = 200
    sample: bool = False
    temperature: float = 0.1
    top_k: int = 10
    top_p: float = 0.9
    beams: int = 1
    seed: int = 0
    batch_tokens: int = 16384
    batch_rows: int = 64
    stop: tuple[str, ...] = ()
    within: Within | None = None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "beams", "batch_tokens", "batch_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not possible; give at least 1")
        if self.sample and self.beams > 1:
            raise ConfigError(f"beams: {self.beams} does not go with sampling; choose one of the two")
        if self.sample and not self.temperature > 0:
            raise ConfigError(f"temperature: {self.temperature!r} is not possible; give a positive number")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: {self.top_p!r} is not possible; give a share above 0, at most 1")
        if self.within is not None and (self.sample or self.beams > 1):
            raise ConfigError("within: given answers are chosen greedily; leave out sampling and beams")
        object.__setattr__(self, "stop", checked_stop(self.stop))
        if self.within is not None and self.stop:
            raise ConfigError("within: given answers are whole; leave out stop")
