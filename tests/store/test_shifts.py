"""The store gives back what was put, for any id, refuses what does not fit, and erases what is deleted."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered import bytes_beside

from perfit.errors import StoreError, UnknownUserError
from perfit.store import ShiftStore

IDENTITY = {"architecture": "LlamaForCausalLM", "hidden_size": 32, "n_layers": 2, "weights": "a" * 64}
SPEC = {"rank": 4, "layers": [0, 1], "positions": "f7+l7"}


def shift(seed: int = 0, layers: int = 2, rank: int = 4, width: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"R": (layers, rank, width), "D": (layers, rank, width), "b": (layers, rank)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return tensors | {"R": torch.linalg.qr(tensors["R"].mT)[0].mT}


def same(stored: dict[str, torch.Tensor], given_: dict[str, torch.Tensor], dtype: torch.dtype = torch.bfloat16) -> bool:
    return set(stored) == set(given_) and all(torch.equal(stored[name], given_[name].to(dtype)) for name in stored)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ShiftStore]:
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC) as made:
        yield made


def test_what_is_put_comes_back_after_reopening(store: ShiftStore) -> None:
    store.put("ann", shift(1), {"items": 12})
    store.put("bob", shift(2))
    store.put("ann", shift(3), {"items": 13})
    with ShiftStore.open(store.path, IDENTITY, readonly=True) as again:
        assert again.users() == ["ann", "bob"]
        assert len(again) == 2
        assert "ann" in again
        assert "eve" not in again
        assert 3 not in again
        assert same(again.get("ann").tensors, shift(3))
        assert again.get("ann").meta == {"items": 13}
        assert same(again.get("bob").tensors, shift(2))
        assert again.get("bob").meta == {}
        assert (again.identity, again.spec, again.dtype) == (IDENTITY, SPEC, "bf16")
        assert again.verify() == []
    assert [path.name for path in store.path.parent.iterdir()] == ["users.db"]


def test_fp32_is_kept_exactly(tmp_path: Path) -> None:
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC, dtype="fp32") as store:
        store.put("ann", shift(1))
        assert same(store.get("ann").tensors, shift(1), torch.float32)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_slots_of_a_bank_are_stored_as_they_are(tmp_path: Path, dtype: str) -> None:
    bank = torch.linalg.qr(torch.randn(500, 2, 32, 4))[0].mT
    views = {"R": bank[3], "D": bank[3], "b": bank[5, :, :, 0]}
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC, dtype=dtype) as store:
        store.put("ann", views)
        assert store.path.stat().st_size < 50_000
        assert same(store.get("ann").tensors, views, torch.bfloat16 if dtype == "bf16" else torch.float32)


IDS = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    st.sampled_from(
        ["../../x", "/", "a\x00b", "a", "A", "é", "e\u0301", " ", "%", "'; DROP TABLE users; --", "nul", "🙂" * 200]
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(IDS, min_size=1, max_size=6, unique=True))
def test_any_text_is_an_id_and_never_a_path(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    with ShiftStore.create(folder / "users.db", IDENTITY, SPEC) as store:
        assert store.put_many((user, shift(number), {"n": number}) for number, user in enumerate(ids)) == len(ids)
        assert set(store.users()) == set(ids)
        assert store.verify() == []
        for number, user in enumerate(ids):
            assert same(store.get(user).tensors, shift(number))
            assert store.get(user).meta == {"n": number}
        store.export_user(ids[0], folder / "one.safetensors")
        store.delete(ids[0])
        assert set(store.users()) == set(ids[1:])
        assert store.import_user(folder / "one.safetensors") == ids[0]
        assert same(store.get(ids[0]).tensors, shift(0))
    assert {path.name for path in folder.iterdir()} == {"users.db", "one.safetensors"}


@pytest.mark.parametrize("user", ["", "\ud800", 7, None])
def test_impossible_ids_are_refused(store: ShiftStore, user: Any) -> None:
    with pytest.raises(StoreError, match="user id"):
        store.put(user, shift())
    with pytest.raises(UnknownUserError):
        store.get(user)
    assert user not in store


def _broken(name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    tensors = shift()
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    return tensors


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (_broken("b", None), "R, D and b"),
        (_broken("W", torch.zeros(2, 4, 32)), "R, D and b"),
        (_broken("D", torch.zeros(2, 4, 31)), r"D has shape \[2, 4, 31\]"),
        (_broken("b", torch.zeros(2, 4, 1)), "b has shape"),
        (_broken("R", torch.zeros(4, 32)), "R has shape"),
        (_broken("R", torch.full((2, 4, 32), float("nan"))), "R has values that are not finite"),
        (_broken("D", torch.full((2, 4, 32), float("inf"))), "not finite"),
        (_broken("D", torch.full((2, 4, 32), 3.4e38)), "not finite in bf16"),
        (_broken("b", torch.zeros(2, 4, dtype=torch.int64)), "not floating point"),
        (shift(width=16), "hidden size 16, but the store holds 32"),
        (shift(rank=8), "rank 8, but the store holds 4"),
        (shift(layers=3), "layers 3, but the store holds 2"),
    ],
)
def test_what_is_not_a_shift_of_this_store_is_refused(
    store: ShiftStore, tensors: dict[str, torch.Tensor], says: str
) -> None:
    with pytest.raises(StoreError, match=says):
        store.put("ann", tensors)
    assert len(store) == 0


def test_put_many_is_all_or_nothing_and_names_the_culprit(store: ShiftStore) -> None:
    store.put("old", shift(9))
    with pytest.raises(StoreError, match="'bad'"):
        store.put_many([("good", shift(1), {}), ("bad", shift(rank=2), {})])
    with pytest.raises(StoreError, match="plain JSON"):
        store.put("meta", shift(), {"x": torch.zeros(1)})
    assert store.users() == ["old"]
    store.put("after", shift())


def test_unknown_users_are_named_with_their_neighbours(store: ShiftStore) -> None:
    store.put("user-17", shift())
    with pytest.raises(UnknownUserError, match=r"'user-18'.*'user-17'"):
        store.get("user-18")
    with pytest.raises(UnknownUserError):
        store.delete("user-18")


def test_another_base_is_refused_by_name_of_the_difference(store: ShiftStore) -> None:
    with pytest.raises(StoreError, match="hidden_size is 32 there, 64 here") as caught:
        ShiftStore.open(store.path, IDENTITY | {"hidden_size": 64})
    assert "architecture" not in str(caught.value)


def test_creating_over_something_is_refused(store: ShiftStore) -> None:
    with pytest.raises(StoreError, match="exists already"):
        ShiftStore.create(store.path, IDENTITY, SPEC)
    with pytest.raises(StoreError, match="dtype"):
        ShiftStore.create(store.path.with_name("new"), IDENTITY, SPEC, dtype="int8")
    with pytest.raises(StoreError, match="folder"):
        ShiftStore.create(store.path.parent / "missing" / "x", IDENTITY, SPEC)


def test_readonly_refuses_changes_and_closed_says_so(store: ShiftStore) -> None:
    store.put("ann", shift())
    with ShiftStore.open(store.path, readonly=True) as reader:
        for change in (lambda: reader.put("bob", shift()), lambda: reader.delete("ann")):
            with pytest.raises(StoreError, match="reading only"):
                change()
    with pytest.raises(StoreError, match="closed"):
        reader.get("ann")


def test_a_deleted_user_is_gone_from_the_bytes_of_the_file(store: ShiftStore) -> None:
    secret, name = shift(5), "someone-with-a-rare-name"
    for number in range(20):
        store.put(f"user{number}", shift(number + 100))
    store.put(name, secret, {"note": "private-note"})
    marks = [secret["D"].to(torch.bfloat16).view(torch.int16).numpy().tobytes()[:64], name.encode(), b"private-note"]
    assert all(mark in bytes_beside(store.path) for mark in marks)
    store.put(name, shift(6))
    assert marks[0] not in bytes_beside(store.path)
    store.delete(name)
    assert not any(mark in bytes_beside(store.path) for mark in marks)
    assert len(store) == 20
    assert store.verify() == []


def test_readers_see_whole_users_while_one_writes(store: ShiftStore) -> None:
    store.put("ann", shift(0))
    faults: list[BaseException] = []

    def read() -> None:
        try:
            with ShiftStore.open(store.path, IDENTITY, readonly=True) as reader:
                for _ in range(60):
                    got = reader.get("ann")
                    assert same(got.tensors, shift(got.meta.get("n", 0)))
        except (AssertionError, StoreError) as error:
            faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for number in range(40):
        store.put("ann", shift(number), {"n": number})
    for thread in readers:
        thread.join()
    assert not faults


def test_a_locked_store_says_so(store: ShiftStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfit.store.database._BUSY_SECONDS", 0.05)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="another process"):
        ShiftStore.open(store.path)
    other.close()


def test_import_checks_base_kind_and_overwriting(store: ShiftStore, tmp_path: Path) -> None:
    store.put("ann", shift(1), {"k": "v"})
    store.export_user("ann", tmp_path / "ann.safetensors")
    with pytest.raises(StoreError, match="stored already"):
        store.import_user(tmp_path / "ann.safetensors")
    assert store.import_user(tmp_path / "ann.safetensors", user="../copy") == "../copy"
    assert same(store.get("../copy").tensors, shift(1))
    assert store.get("../copy").meta == {"k": "v"}
    store.put("ann", shift(2))
    store.import_user(tmp_path / "ann.safetensors", overwrite=True)
    assert same(store.get("ann").tensors, shift(1))
    with (
        ShiftStore.create(tmp_path / "b.db", IDENTITY | {"weights": "b" * 64}, SPEC) as other,
        pytest.raises(StoreError, match="weights"),
    ):
        other.import_user(tmp_path / "ann.safetensors")
    with (
        ShiftStore.create(tmp_path / "c.db", IDENTITY, SPEC | {"positions": "l7"}) as other,
        pytest.raises(StoreError, match=r"positions is f7\+l7 there, l7 here"),
    ):
        other.import_user(tmp_path / "ann.safetensors")


def test_files_that_are_no_exports_are_refused(store: ShiftStore, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(StoreError, match="folder"):
        store.import_user(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(StoreError, match="safetensors"):
        store.import_user(path)
    save_file(shift(), path)
    with pytest.raises(StoreError, match="not a user's shift"):
        store.import_user(path)
    save_file(shift(), path, {"format": "perfit-user-shift/1", "user": "x", "identity": "{"})
    with pytest.raises(StoreError, match="old export format 1, which had no checksum; export the user again"):
        store.import_user(path)
    save_file(shift(), path, {"format": "perfit-user-shift/2", "user": "x", "identity": "{"})
    with pytest.raises(StoreError, match="has no checksum; export the user again"):
        store.import_user(path)
    store.put("ann", shift())
    with pytest.raises(StoreError, match="folder"):
        store.export_user("ann", tmp_path / "missing" / "x.safetensors")
    assert {entry.name for entry in tmp_path.iterdir()} == {"users.db", "x.safetensors"}
