"""Many new users together get the shifts that each would get alone, and nobody else is touched."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_base import CONFIG, TASK, dataset, person, write_base

from perfit.data.jsonl import own_records
from perfit.data.schema import Dataset, HistoryItem, User
from perfit.edits.shift import Shift
from perfit.errors import DataError, LeakError, StoreError, UnknownUserError
from perfit.events import Skipped
from perfit.personalizer import PerFit
from perfit.tombstones import Tombstones
from perfit.training import fit_users as fit_module
from perfit.training.learner import Trained

NAMES = ["anna", "ben"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomers")
    perfit = PerFit.from_pretrained(write_base(folder / "base"), CONFIG.with_options(strength=0.5), task=TASK)
    perfit.fit(dataset(NAMES), run=folder / "run")
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def payloads(run: Path) -> dict[str, bytes]:
    with sqlite3.connect(run / "personal.sqlite") as database:
        return dict(database.execute("SELECT user_id, payload FROM users"))


def close(a: Shift, b: Shift) -> None:
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(tensor, b.tensors()[name], rtol=1e-3, atol=1e-3)


@settings(max_examples=6)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    together=st.integers(1, 4),
    step_tokens=st.sampled_from([64, 1536]),
)
def test_together_each_gets_the_shift_of_being_alone(
    finished: Path, sizes: list[int], together: int, step_tokens: int
) -> None:
    users = [person(f"new-{place}", history=size) for place, size in enumerate(sizes)]
    one = PerFit.from_pretrained(finished)
    company = PerFit(
        one.backbone, TASK, one.config.with_options(users_together=together, step_tokens=step_tokens), one.identity
    )
    alone = PerFit(one.backbone, TASK, one.config, one.identity)
    for perfit in (company, alone):  # in memory, on the same collective shift
        perfit.owners = replace(perfit.owners, shared=one.owners.shared)
    results = company.personalize_all(users, listener=lambda event: None)
    expected = [alone.personalize(user, listener=lambda event: None) for user in users]
    assert [(r.name, r.steps, r.problem) for r in results] == [(r.name, r.steps, r.problem) for r in expected]
    assert company.users() == alone.users() == sorted(user.id for user in users if user.history)
    for user in company.users():
        close(company.shift_of(user), alone.shift_of(user))
        assert company.strength_of(user) == 0.5


def test_nobody_else_is_touched_and_a_skipped_user_stops_nobody(run: Path) -> None:
    perfit, before = PerFit.from_pretrained(run), payloads(run)
    events: list[dict[str, Any]] = []
    users = [person("dora"), User("empty"), person("emil")]
    results = perfit.personalize_all(users, listener=events.append)
    assert [(r.name, r.problem is None) for r in results] == [("dora", True), ("empty", False), ("emil", True)]
    assert all(r.shifts == () for r in results)
    after = payloads(run)
    assert after.keys() == {*NAMES, "dora", "emil"}
    assert before.items() <= after.items()
    assert [e.learner for e in events if isinstance(e, Skipped)] == ["empty"]
    again = perfit.personalize_all(replace(dataset(("dora",)), users=(person("dora", history=9),)))
    assert [r.name for r in again] == ["dora"]
    assert payloads(run)["dora"] != after["dora"]
    assert {**payloads(run), "dora": b""} == {**after, "dora": b""}


def test_they_come_in_any_form_that_fit_takes(run: Path) -> None:
    perfit = PerFit.from_pretrained(run)
    perfit.personalize_all(own_records(Dataset((person("dora"),))))
    assert perfit.users() == [*NAMES, "dora"]
    events: list[dict[str, Any]] = []
    dated = [{"text": f"a note of {year}", "folder": "work", "date": str(year)} for year in (2020, 2019)]
    perfit.personalize_all([{"user": "emil", "history": dated}], listener=events.append)
    assert any("sorted by date" in getattr(event, "text", "") for event in events)
    events.clear()
    assert perfit.personalize_all([], listener=events.append) == []
    assert events == []


def test_what_is_wrong_with_one_is_said_before_anybody_is_trained(run: Path) -> None:
    perfit, before = PerFit.from_pretrained(run), payloads(run)
    wrong = User("zoe", (HistoryItem("0", {"text": "a", "folder": "nowhere"}),))
    asked = person("yan").queries[0]
    leaky = replace(person("yan"), history=(HistoryItem("0", {"text": asked.input, "folder": asked.gold or ""}),))
    for users, error, said in (
        ([person("dora"), wrong], DataError, "labels"),
        ([person("dora"), person("dora")], DataError, "'dora' comes twice"),
        ([person("dora"), person("base")], DataError, "'base' means"),
        ([person("dora"), leaky], LeakError, "1 leaks"),
    ):
        with pytest.raises(error, match=said):
            perfit.personalize_all(users)
        assert payloads(run) == before
    assert [r.problem for r in perfit.personalize_all([leaky], allow_leaks=True, listener=lambda event: None)] == [None]
    bare = PerFit(perfit.backbone, TASK, CONFIG, perfit.identity)
    with pytest.raises(StoreError, match="no collective shift"):
        bare.personalize_all([person("dora")])


def test_who_was_erased_comes_back_only_by_name(run: Path) -> None:
    perfit, events = PerFit.from_pretrained(run), list[dict[str, Any]]()
    perfit.personalize(person("dora"))
    perfit.erase("dora")
    assert [r.name for r in perfit.personalize_all([person("dora"), person("emil")], listener=events.append)] == [
        "emil"
    ]
    assert any("1 of the users were erased" in getattr(event, "text", "") for event in events)
    assert perfit.users() == [*NAMES, "emil"]
    assert perfit.personalize_all([person("dora")], listener=events.append) == []
    assert "dora" in Tombstones(run)
    perfit.personalize(person("dora"))
    assert "dora" in perfit.users()
    assert "dora" not in Tombstones(run)


def test_who_is_erased_while_they_train_stays_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = fit_module.train_personal

    def train(*arguments: Any, **more: Any) -> Iterator[Trained]:
        for trained in original(*arguments, **more):
            if trained.name == "dora":
                Tombstones(run).put("dora", "done")
            yield trained

    monkeypatch.setattr(fit_module, "train_personal", train)
    perfit = PerFit.from_pretrained(run)
    dora, emil = perfit.personalize_all([person("dora"), person("emil")])
    assert perfit.users() == [*NAMES, "emil"]
    assert (dora.problem, emil.problem) == ("was erased while training", None)


def test_who_is_through_is_kept_whatever_ends_the_call(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Iterator[Trained]] = fit_module.train_personal

    def train(*arguments: Any, **more: Any) -> Iterator[Trained]:
        yield next(original(*arguments, **more))
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "train_personal", train)
    perfit = PerFit.from_pretrained(run)
    with pytest.raises(KeyboardInterrupt):
        perfit.personalize_all([person("dora"), person("emil")])
    assert perfit.users() == [*NAMES, "dora"]


def test_they_are_kept_as_they_finish(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "_FLUSH_USERS", 1)
    perfit, there = PerFit.from_pretrained(run), list[list[str]]()
    original: Callable[..., Iterator[Trained]] = fit_module.train_personal

    def train(*arguments: Any, **more: Any) -> Iterator[Trained]:
        for trained in original(*arguments, **more):
            there.append(perfit.users())
            yield trained

    monkeypatch.setattr(fit_module, "train_personal", train)
    perfit.personalize_all([person("dora"), person("emil")])
    assert there == [NAMES, [*NAMES, "dora"]]


def test_an_unknown_user_is_still_unknown(run: Path) -> None:
    with pytest.raises(UnknownUserError):
        PerFit.from_pretrained(run).shift_of("dora")
