"""An edited base: rows by their owners, a few owners at a time, with the answers that each would get alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from small_base import CONFIG, LABELS, write_base

from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.edits.shift import Shift, new_shift, to_stored
from perfit.errors import ConfigError
from perfit.inference import edited as module
from perfit.inference.decoding import Decoding
from perfit.inference.edited import Edited
from perfit.owners import Owners
from perfit.store.collective_file import Collective
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts

NAMES = ("anna", "ben", "cleo")
WHOSE = ["ben", "collective", "anna", "ben", "base", "cleo", "anna"]
FREE = Decoding(max_new_tokens=4)


def some(rank: int, seed: int, width: int) -> Shift:
    shift = new_shift((len(CONFIG.layers), rank, width), init="loreft", generator=torch.Generator().manual_seed(seed))
    return Shift(shift.R, shift.W, shift.b + seed)


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Edited:
    loaded = load_base(write_base(tmp_path_factory.mktemp("base")), dtype=torch.float32)
    backbone = Backbone(loaded.model, loaded.tokenizer)
    personal, width = PersonalShifts(), backbone.hidden_size
    personal.put_stored(
        (user, StoredShift(to_stored(some(3, seed, width)), {"strength": 1.0 / seed}))
        for seed, user in enumerate(NAMES, start=1)
    )
    return Edited.by(CONFIG, backbone, Owners(Collective.of_shifts((some(4, 8, width), some(3, 9, width))), personal))


def prompts(edited: Edited, count: int) -> list[Sequence[int]]:
    """They end with one of two tokens, in turn: a label's tokens may depend on what they follow."""
    texts = [f"note {'stone ' * n}about a {('river', 'lamp')[n % 2]}" for n in range(count)]
    return [edited.backbone.tokenizer.encode(text) for text in texts]


def test_groups_hold_few_owners_and_all_of_their_rows(edited: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_USERS_AT_ONCE", 2)
    groups = [(rows, shift.personal.slots, len(slots)) for rows, shift, slots in edited.groups(WHOSE)]
    # Slots: nobody's, the shared one, and users' own.
    assert groups == [([0, 1, 3], 3, 3), ([2, 4, 6], 3, 3), ([5], 3, 1)]


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_rows_answer_and_score_as_each_would_alone(
    edited: Edited, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompts(edited, len(WHOSE))
    assert len({prompt[-1] for prompt in asked}) == 2
    alone = [edited.texts([prompt], [user], FREE)[0] for prompt, user in zip(asked, WHOSE, strict=True)]
    scores = [
        edited.label_scores([prompt], [user], LABELS, lambda n: None) for prompt, user in zip(asked, WHOSE, strict=True)
    ]
    monkeypatch.setattr(module, "_USERS_AT_ONCE", at_once)
    told: list[int] = []
    assert edited.texts(asked, WHOSE, FREE, told.append) == alone
    found = edited.label_scores(asked, WHOSE, LABELS, told.append)
    torch.testing.assert_close(found, torch.cat(scores), rtol=1e-4, atol=1e-4)
    assert sum(told) == 2 * len(WHOSE)


def test_nothing_asked_is_nothing_answered(edited: Edited) -> None:
    assert edited.texts([], [], FREE) == []
    assert edited.label_scores([], [], LABELS, lambda n: None).shape == (0, len(LABELS))


def test_what_does_not_fit_the_base_is_refused(edited: Edited) -> None:
    limit = edited.backbone.model.config.max_position_embeddings
    with pytest.raises(ConfigError, match="positions of this base"):
        edited.texts([[5] * limit], ["base"], FREE)
    with pytest.raises(ConfigError, match="positions of this base"):
        edited.label_scores([[5] * limit], ["base"], LABELS, lambda n: None)
