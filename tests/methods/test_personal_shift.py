"""Users' own shifts in a comparison: what is kept decides, its strength too, and who cannot be trained stops nobody."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import ANNA, BEN, OTHERS, asks, make, ready, setting

from perfit.data.schema import HistoryItem, User
from perfit.durable.tensors import read_tensors, write_tensors
from perfit.edits.shift import blended, from_stored
from perfit.errors import DataError
from perfit.methods.perfit_config import Options
from perfit.methods.work import Work, user_file


def note(folder: Path, user: User, **changes: Any) -> None:
    """What is noted with a user's shift, changed; None leaves a note out."""
    path = folder / "own" / "users" / user_file(user.id)
    kept = read_tensors(path, mend="")
    assert kept is not None
    notes = {name: value for name, value in (kept.notes | changes).items() if value is not None}
    write_tensors(path, kept.tensors, notes)


def deltas(method: Any) -> list[torch.Tensor]:
    """How each ask's second shift moves some states."""
    edited, users = method.stage2.edited(asks(ANNA, BEN))
    ((_, shift, slots),) = edited.groups(users)
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    return [shift.personal.get(own).delta(x) for _, own in slots]


def test_each_user_is_answered_with_the_strength_kept_with_the_shift(tmp_path: Path) -> None:
    method: Any = ready("perfit", setting(tmp_path), [ANNA, BEN], strength=0.6)
    assert [method.stage2.work.adapted(user).notes["strength"] for user in (ANNA, BEN)] == [0.6, 0.6]
    note(tmp_path, BEN, strength=0.25)
    second = method.stage1.shared().shifts[1]
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    found = deltas(method)
    for got, user, strength in zip(found, (ANNA, ANNA, BEN, BEN), (0.6, 0.6, 0.25, 0.25), strict=True):
        own = from_stored(method.stage2.work.adapted(user).tensors)
        torch.testing.assert_close(got, blended(second, own, strength).delta(x), rtol=1e-4, atol=1e-5)


def test_work_that_says_nothing_of_strengths_has_the_settings_one(tmp_path: Path) -> None:
    method: Any = ready("perfit", setting(tmp_path), [ANNA, BEN], strength=0.6)
    wanted = deltas(method)
    note(tmp_path, ANNA, strength=None, problem=None)
    note(tmp_path, BEN, strength=None, problem=None)
    assert all(torch.equal(one, two) for one, two in zip(deltas(method), wanted, strict=True))


def test_without_a_shared_second_shift_users_own_act_whole(tmp_path: Path) -> None:
    method: Any = ready("reft-p", setting(tmp_path, strength=0.5), [ANNA])
    assert method.stage2.work.adapted(ANNA).notes["strength"] == 1.0


def test_a_user_named_like_a_pseudo_user_is_refused(tmp_path: Path) -> None:
    method = make("reft-p", setting(tmp_path))
    with pytest.raises(DataError, match="'base' means a pseudo-user"):
        method.adapt([User("base", ANNA.history, ANNA.queries)])


@pytest.mark.parametrize(("name", "fallback"), [("perfit", "perfit-stage-1"), ("reft-p", "base")])
def test_a_user_with_unusable_records_is_named_and_the_others_train(name: str, fallback: str, tmp_path: Path) -> None:
    wrong = User("wrong", (HistoryItem("1", {**ANNA.history[0].fields, "folder": "nowhere"}),), ANNA.queries)
    method = make(name, setting(tmp_path))
    method.fit(OTHERS)
    for _ in range(2):  # the second time it is read from the folder
        problems = method.adapt([wrong, BEN])
        assert list(problems) == ["wrong"]
        assert "the answer is not one of the 3 labels" in problems["wrong"]
    texts = method.predict(asks(wrong, BEN))
    assert texts[:2] == ready(fallback, setting(tmp_path), []).predict(asks(wrong))
    assert texts[2:] == ready(name, setting(tmp_path / "alone"), [BEN]).predict(asks(BEN))


def test_options_that_came_later_and_are_not_given_leave_work_whose_it_was(tmp_path: Path) -> None:
    where, later = setting(tmp_path), ("held_out", "strength_prior", "collective")
    before = {name: value for name, value in asdict(Options(strength=0.5)).items() if name not in later}
    assert (
        Work(tmp_path, where, "perfit", Options(strength=0.5)).context
        == Work(tmp_path, where, "perfit", before).context
    )
    given = Options(strength=0.5, held_out=0.2)
    assert Work(tmp_path, where, "perfit", given).context != Work(tmp_path, where, "perfit", before).context
