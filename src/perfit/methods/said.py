"""What rows of a base, with whatever shifts are theirs, say: greedily, or all labels scored and the rating they expect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perfit.backbone.generate import Decoding, generate
from perfit.backbone.label_trie import LabelTrie, label_log_probs
from perfit.backbone.model import Backbone
from perfit.backbone.within import Answers, Within
from perfit.plan import TwoStageShift
from perfit.positions import Positions
from perfit.tasks.expected import Expected


@dataclass(frozen=True)
class ByProbability:
    """Ratings that a prompt may get, all of which are scored exactly: the answer is what they expect."""

    after: Within

    def __call__(self, prompt: Sequence[int]) -> Answers:
        """The ratings with their tokens after this prompt."""
        return self.after(prompt)


def said(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    limit: int,
    within: Within | None,
    done: Callable[[int], None],
) -> list[str]:
    """The answer to each prompt, in order.

    Args:
        backbone, prompts, slots, shift, positions, done: As for ``generate``.
        limit: Most new tokens.
        within: The answers a prompt may get; None for any text; ``ByProbability`` for the rating that they expect, as
            ``tasks.expected`` writes it.
    """
    if not isinstance(within, ByProbability):
        decoding = Decoding(max_new_tokens=limit, within=within)
        return generate(backbone, prompts, slots, shift, positions, decoding, done)
    texts = [""] * len(prompts)
    # A label's tokens may depend on what they follow; in a task's prompts that is one and the same token.
    for last in dict.fromkeys(prompt[-1] for prompt in prompts):
        rows = [row for row, prompt in enumerate(prompts) if prompt[-1] == last]
        labels = within(prompts[rows[0]]).texts
        scores = label_log_probs(
            backbone,
            [prompts[row] for row in rows],
            [slots[row] for row in rows],
            shift,
            positions,
            LabelTrie.of(list(labels)),
            done=done,
        )
        for row, own in zip(rows, scores.tolist(), strict=True):
            texts[row] = Expected.of(list(labels.values()), own).text()
    return texts
