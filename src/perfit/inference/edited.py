"""A base whose every row its owner's shifts edit: the texts it answers with, and the exact scores of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.config import PerFitConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate, stream
from perfit.inference.label_set import by_label_set, labels_after, most_tokens
from perfit.inference.log_probs import label_log_probs
from perfit.owners import Owners

_USERS_AT_ONCE = 256
Slots = tuple[int, int]


class Banks(Protocol):
    """Whoever has the owners' shifts."""

    def rows_of(
        self, users: Sequence[str], backbone: Backbone, layers: tuple[int, ...]
    ) -> tuple[TwoStageShift, list[Slots]]:
        """Banks that hold the shifts of these users, and each row's slots in them."""
        ...


@dataclass(frozen=True)
class Edited:
    """A base, whose shifts edit it, and where.

    Attributes:
        backbone: The base.
        owners: Whose rows there may be.
        layers: Edited ones, zero-based.
        positions: Edited prompt tokens.
    """

    backbone: Backbone
    owners: Banks
    layers: tuple[int, ...]
    positions: Positions

    @classmethod
    def by(cls, config: PerFitConfig, backbone: Backbone, owners: Banks) -> Edited:
        """Edited where the settings say."""
        return cls(backbone, owners, config.layers, Positions.parse(config.positions))

    def groups(self, users: Sequence[str]) -> Iterator[tuple[list[int], TwoStageShift, list[Slots]]]:
        """Numbers of rows, their owners' banks and their slots: so many owners at once and no more, whatever their number."""
        number = {user: place // _USERS_AT_ONCE for place, user in enumerate(dict.fromkeys(users))}
        groups: dict[int, list[int]] = {}
        for row, user in enumerate(users):
            groups.setdefault(number[user], []).append(row)
        for rows in groups.values():
            yield rows, *self.owners.rows_of([users[row] for row in rows], self.backbone, self.layers)

    def texts(
        self,
        prompts: Sequence[Sequence[int]],
        users: Sequence[str],
        decoding: Decoding,
        done: Callable[[int], None] = lambda rows: None,
    ) -> list[str]:
        """The text after each prompt.

        Args:
            prompts: Token ids.
            users: The owner of each.
            decoding: How tokens are chosen, and among which answers.
            done: Told of the number of prompts finished.

        Raises:
            UnknownUserError: An owner has no shift.
            ConfigError: A prompt and its answer do not fit the base.
        """
        self._check_room(prompts, decoding)
        texts = [""] * len(prompts)
        for rows, shift, slots in self.groups(users):
            asked = [prompts[row] for row in rows]
            found = generate(self.backbone, asked, slots, shift, self.positions, decoding, done)
            for row, text in zip(rows, found, strict=True):
                texts[row] = text
        return texts

    def pieces(
        self, prompts: Sequence[Sequence[int]], users: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, str]]:
        """The texts of ``texts`` as they come: (number of the prompt, what its text goes on with).

        Args:
            prompts, users, decoding: As for ``texts``.

        Raises:
            UnknownUserError, ConfigError: As ``texts``; what does not fit the base is refused before the first piece.
        """
        self._check_room(prompts, decoding)
        groups = self.groups(users)
        first = [*islice(groups, 1)]  # now, so that who is unknown is told by the call

        def pieces() -> Iterator[tuple[int, str]]:
            for rows, shift, slots in chain(first, groups):
                asked = [prompts[row] for row in rows]
                for place, piece in stream(self.backbone, asked, slots, shift, self.positions, decoding):
                    yield rows[place], piece

        return pieces()

    def _check_room(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
        if prompts:
            longest = most_tokens(decoding.within, prompts, decoding.max_new_tokens)
            check_room(self.backbone, max(map(len, prompts)), longest)

    def label_scores(
        self,
        prompts: Sequence[Sequence[int]],
        users: Sequence[str],
        labels: Sequence[str],
        done: Callable[[int], None],
        *,
        chat_template: bool = False,
        best_only: bool = False,
    ) -> Tensor:
        """Exact log-probability of every label as the whole answer: [prompts, labels], fp32.

        Args:
            prompts, users, done: As for ``texts``.
            labels: A task's, in its order.
            chat_template: Whether the prompts are turns of a chat.
            best_only: As for ``label_log_probs``.

        Raises:
            ConfigError: Two labels have the same tokens, or they do not fit the base.
        """
        scores = torch.empty(len(prompts), len(labels))
        after = labels_after(labels, self.backbone.tokenizer, chat_template)
        for given, mine in by_label_set(prompts, after):
            check_room(self.backbone, max(len(prompts[row]) for row in mine), given.longest)
            for rows, shift, slots in self.groups([users[row] for row in mine]):
                chosen = [mine[row] for row in rows]
                asked = [prompts[row] for row in chosen]
                scores[chosen] = label_log_probs(
                    self.backbone, asked, slots, shift, self.positions, given, best_only=best_only, done=done
                )
        return scores


def unedited(backbone: Backbone) -> Edited:
    """The base alone, by the same way as an edited one."""
    return Edited(backbone, Owners(), (0,), Positions.parse("l1"))
