"""Versions in flight: what is held is there, what is erased is not, and nobody is kept without a holder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from perfit.edits.shift import new_shift, to_stored
from perfit.errors import StoreError, UnknownUserError
from perfit.notebook.database import Notebook
from perfit.personalizer import PerFit
from perfit.serving.people import Lease, People
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift


@pytest.fixture
def people(own_run: Path) -> Iterator[People]:
    with Notebook(own_run) as notebook:
        yield People(PerFit.from_pretrained(own_run), notebook)


def other_shift() -> StoredShift:
    return StoredShift(to_stored(new_shift((2, 3, 32), generator=torch.Generator().manual_seed(9))), {"strength": 0.5})


def test_a_held_version_outlives_a_swap(people: People) -> None:
    version = people.hold("shop", "anna")
    assert version is not None
    before = people.personal(version)
    people.perfit.owners.personal.put_stored([("anna", other_shift())])
    assert people.personal(version) is before
    later = people.hold("shop", "anna")
    assert later is not None
    assert later.digest != version.digest
    assert (later.strength, later.personal) == (0.5, shift_digest(people.stored("anna").tensors))
    people.let_go(version)
    with pytest.raises(UnknownUserError):
        people.personal(version)
    people.personal(later)
    people.let_go(later)
    assert not people._held


def test_a_version_held_twice_is_let_go_twice(people: People) -> None:
    first, second = Lease(people), Lease(people)
    assert first.take("shop", "anna") == second.take("shop", "anna")
    version = first.version
    assert version is not None
    first.end()
    first.end()
    people.personal(version)
    second.end()
    assert not people._held


def test_tenants_and_users_are_told_apart_and_no_id_is_in_a_version(people: People) -> None:
    versions = [people.hold(tenant, user) for tenant, user in (("shop", "anna"), ("bank", "anna"), ("shop", "ben"))]
    assert len({version.digest for version in versions if version is not None}) == 3
    assert "anna" not in repr(versions)
    marks = [people._notebook.mark(user) for user in ("anna", "ben")]
    assert len({people.hidden(tenant, mark) for tenant in ("shop", "bank") for mark in marks}) == 4
    assert people.hold("shop", "base") is None
    shared = people.hold("shop", "collective")
    assert shared is not None
    assert (shared.user, shared.personal) == ("", None)
    people.collective(shared.collective)
    with pytest.raises(StoreError):
        people.collective("other")


def test_who_is_erased_in_the_middle_of_being_held_is_not_held(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at the store and the holding are two steps; an erasure between them must not be undone by the second."""
    whole, looked = people.stored, []

    def stored(user: str) -> StoredShift:
        found = whole(user)
        if not looked:
            looked.append(user)
            people.perfit.erase(user)
            people.drop("shop", people._notebook.mark(user))
        return found

    monkeypatch.setattr(people, "stored", stored)
    with pytest.raises(UnknownUserError):
        people.hold("shop", "anna")
    assert not people._held


def test_dropping_takes_what_is_in_flight(people: People) -> None:
    anna, ben = people.hold("shop", "anna"), people.hold("shop", "ben")
    assert anna is not None
    assert ben is not None
    people.drop("shop", people._notebook.mark("anna"))
    with pytest.raises(UnknownUserError):
        people.personal(anna)
    people.personal(ben)
    people.let_go(anna)
    people.let_go(ben)
    assert not people._held


def test_an_answer_cut_off_by_an_erasure_lets_go_of_nobody_elses(people: People) -> None:
    """Erased and imported again, a user has the same version: what was held before counts no more."""
    before, other = people.hold("shop", "anna"), people.hold("shop", "anna")
    people.drop("shop", people._notebook.mark("anna"))
    after = people.hold("shop", "anna")
    assert after is not None
    assert before == other == after
    people.let_go(before)
    people.personal(after)
    people.let_go(other)
    people.personal(after)
    people.let_go(after)
    assert not people._held
    with pytest.raises(UnknownUserError):
        people.personal(after)
