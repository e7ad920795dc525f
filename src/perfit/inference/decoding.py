"""How the tokens of an answer are chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perfit.errors import ConfigError
from perfit.inference.batches import BATCH_ROWS, BATCH_TOKENS
from perfit.inference.label_set import Within
from perfit.inference.repetition import Repetition, repetition_of
from perfit.stop_strings import checked_stop
from perfit.tasks.task import Task, check_repetition


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
        repetition_penalty: Above 1, tokens that the prompt or the answer holds are chosen less easily; 1 leaves them
            (transformers' rule of this name).
        no_repeat_ngram: So many tokens in a row never come twice in prompt and answer; 0 allows them (transformers'
            ``no_repeat_ngram_size``).
    """

    max_new_tokens: int = 200
    sample: bool = False
    temperature: float = 0.1
    top_k: int = 10
    top_p: float = 0.9
    beams: int = 1
    seed: int = 0
    batch_tokens: int = BATCH_TOKENS
    batch_rows: int = BATCH_ROWS
    stop: tuple[str, ...] = ()
    within: Within | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

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
        check_repetition(self.repetition_penalty, self.no_repeat_ngram)
        if self.within is not None and self.stop:
            raise ConfigError("within: given answers are whole; leave out stop")
        if self.within is not None and self.repetition is not None:
            raise ConfigError("within: given answers are whole; leave out repetition_penalty and no_repeat_ngram")

    @property
    def repetition(self) -> Repetition | None:
        """What makes repeated tokens' scores smaller; None where nothing does."""
        return repetition_of(self.repetition_penalty, self.no_repeat_ngram)

    def of(self, task: Task, most: int) -> Decoding:
        """This one with the ends and the repetition control of a task, and at most so many new tokens."""
        return replace(
            self,
            max_new_tokens=most,
            stop=task.stop,
            repetition_penalty=task.repetition_penalty,
            no_repeat_ngram=task.no_repeat_ngram,
        )
