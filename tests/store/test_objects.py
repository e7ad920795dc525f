"""Payloads in a bucket: what a store in one file gives, whatever call fails; and of who is erased no object is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bucket import URL, Bucket, in_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import IDENTITY, SPEC, bytes_beside, numbered

from perfit.errors import ConfigError, DamagedError, StoreError, UnknownUserError
from perfit.store import ShiftStore
from perfit.store.digest import shift_digest
from perfit.store.objects import Objects


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with in_memory() as one:
        yield one


@pytest.fixture
def store(bucket: Bucket, tmp_path: Path) -> Iterator[ShiftStore]:
    """A store whose payloads go to the bucket, with two users."""
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC) as made:
        made.put_many((user, numbered(n), {"n": n}) for n, user in enumerate(["anna", "ben"], 1))
        made.move_out(URL)
        yield made


def content(store: ShiftStore) -> dict[str, Any]:
    found = {user: store.get(user) for user in store.users()}
    return {user: (one.meta, shift_digest(one.tensors)) for user, one in found.items()}


def objects_of(store: ShiftStore) -> Objects:
    assert store.objects is not None
    return store.objects


PROGRAMS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "many", "delete", "out", "in", "open"]), st.integers(0, 3), st.integers(0, 9)
    ),
    max_size=8,
)


@given(program=PROGRAMS)
@settings(max_examples=10)
def test_it_is_a_store_in_one_file(
    program: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same programs on both: the same users, records, tensors and errors."""
    folder = tmp_path_factory.mktemp("both")
    plain, mine = (ShiftStore.create(folder / name, IDENTITY, SPEC) for name in ("plain", "mine"))
    with in_memory() as bucket:
        for one in (plain, mine):
            one._database.execute("PRAGMA synchronous = OFF")
        for verb, who, n in [("out", 0, 0), *program]:
            user = f"user{who}/../é"
            if verb == "put":
                plain.put(user, numbered(n), {"n": n})
                mine.put(user, numbered(n), {"n": n})
            elif verb == "many":
                for one in (plain, mine):
                    one.put_many((f"user{m}/../é", numbered(m + n), {}) for m in range(who))
            elif verb == "delete":
                known = user in plain
                for one in (plain, mine):
                    try:
                        one.delete(user)
                        assert known
                    except UnknownUserError:
                        assert not known
                assert not mine.has_objects(user)
            elif verb == "open":
                mine.close()
                mine = ShiftStore.open(folder / "mine")
            elif verb == "out":
                mine.move_out(URL)
                assert len(mine.referred()) == len(mine)
            else:
                mine.move_in()
                assert bucket.objects() == {}
            assert content(mine) == content(plain)
        assert mine.verify() == []
        for one in (plain, mine):
            one.close()


def put_again(store: ShiftStore) -> None:
    store.put("anna", numbered(7), {"n": 7})


def put_many(store: ShiftStore) -> None:
    store.put_many((f"new{n}", numbered(n + 20), {}) for n in range(5))


def delete(store: ShiftStore) -> None:
    if "anna" in store or store.has_objects("anna"):
        store.delete("anna")


def move_in(store: ShiftStore) -> None:
    store.move_in()


def move_out(store: ShiftStore) -> None:
    store.move_out(URL)


@pytest.mark.parametrize("how", [{}, {"late": True}, {"lasting": True}], ids=["once", "late", "lasting"])
@pytest.mark.parametrize("act", [put_again, put_many, delete, move_in, move_out], ids=lambda act: act.__name__)
def test_the_nth_call_fails(
    bucket: Bucket,
    tmp_path: Path,
    act: Callable[[ShiftStore], None],
    how: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was said to be done is done, else all is as before or as after; and the same call goes on."""
    monkeypatch.setattr("perfit.store.shifts.TOGETHER", 2)
    monkeypatch.setattr("perfit.store.whole.TOGETHER", 2)
    for n in range(1, 50):
        with ShiftStore.create(tmp_path / f"{n}.db", IDENTITY, SPEC) as store:
            store._database.execute("PRAGMA synchronous = OFF")
            store.put_many((user, numbered(m), {}) for m, user in enumerate(["anna", "ben", "cleo"], 1))
            if act is not move_out:
                store.move_out(URL)
            before = content(store)
            bucket.fail(n, **how)
            said = ""
            try:
                act(store)
            except StoreError as error:
                said = str(error)
            assert "secret" not in said
            assert "\n" not in said
            failed = bucket.failed
            bucket.fail(0)
            now = content(store)
            assert bool(said) == bool(failed), n
            act(store)
            after = content(store)
            assert now in ((before, after) if said else (after,))
            assert store.verify() == []
            if act is delete:
                assert "anna" not in store
                assert not store.has_objects("anna")
        bucket.empty()
        if not failed:
            break
    assert 1 < n < 49


CANARY = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(4711))


def traces(folder: Path, bucket: Bucket) -> list[str]:
    """Where pieces of the canary's numbers stand."""
    values = CANARY.bfloat16().view(torch.int16).numpy().tobytes()
    marks = [b"canary", *(values[place : place + 16] for place in range(0, len(values), 16))]
    files = {path.name: bytes_beside(path) for path in folder.iterdir()} | bucket.objects()
    return [name for name, found in files.items() if any(mark in found or mark in name.encode() for mark in marks)]


def test_of_an_erased_user_nothing_is_in_any_object(store: ShiftStore, bucket: Bucket) -> None:
    folder = store.path.parent
    for n in range(3):
        store.put("canary", numbered(n) | {"D": CANARY}, {})
    objects_of(store).put([("canary", b"left by a kill: canary")])
    assert len(objects_of(store).of("canary")) == 4
    assert len(traces(folder, bucket)) == 5
    others = {path: found for path, found in bucket.objects().items() if path[1:] not in traces(folder, bucket)}
    bucket.fail(2)  # of the four, two are removed
    with pytest.raises(StoreError, match=r"s3://bucket/prefix: objects cannot be .* repeat the command"):
        store.delete("canary")
    bucket.fail(0)
    assert "canary" not in store
    assert len(objects_of(store).of("canary")) == 2
    store.delete("canary")
    assert traces(folder, bucket) == []
    assert set(bucket.objects()) <= set(others)
    assert store.verify() == []
    with pytest.raises(UnknownUserError):
        store.delete("canary")


def test_a_changed_object_is_refused(store: ShiftStore, bucket: Bucket) -> None:
    """Every byte, every cut, another user's, one byte more, and one that is not there."""
    ((path, whole),) = [(path, found) for path, found in bucket.objects().items() if path.endswith(_digest(store))]
    theirs = next(found for found in bucket.objects().values() if found != whole)
    assert len(theirs) == len(whole)
    broken = [
        whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :] for place in range(len(whole))
    ]
    for one in [*broken, *(whole[:place] for place in range(0, len(whole), 97)), theirs, whole + b"x", whole * 2]:
        bucket.system.pipe({path: one})
        with pytest.raises(DamagedError, match="is not as it was written"):
            store.get("anna")
    assert store.verify() == ["anna"]
    bucket.system.rm([path])
    with pytest.raises(DamagedError, match="its object is not in s3://bucket/prefix"):
        store.get("anna")
    assert list(store.damage().values()) == ["its shift cannot be used: its object is not in s3://bucket/prefix"]
    assert store.get("ben").meta == {"n": 2}
    with pytest.raises(DamagedError, match="its object is not in"):
        store.move_in()
    store.put("anna", numbered(1), {"n": 1})
    assert bucket.system.cat_file(path) == whole


def _digest(store: ShiftStore) -> str:
    return dict(store._rows.references())["anna"].split()[0]


@pytest.mark.parametrize("said", ["", "x", "0" * 64, f"{'0' * 64} -1", f"../{'0' * 64} 9", "F" * 64 + " 9"])
def test_a_reference_that_is_none_is_damage(store: ShiftStore, said: str) -> None:
    from perfit.store.payload import checksum

    store._database.execute(
        "UPDATE users SET payload = ?1, sha256 = ?2 WHERE user_id = 'anna'",
        (said, checksum("anna", said, store._rows.row("anna")[1], store._rows.row("anna")[2])),  # type: ignore[index]
    )
    with pytest.raises(DamagedError, match="where its payload lies is damaged"):
        store.get("anna")
    assert store.verify() == ["anna"]


def test_a_reference_of_somebody_else_is_damage(store: ShiftStore) -> None:
    both = dict(store._rows.references())
    store._database.execute("UPDATE users SET payload = ? WHERE user_id = 'anna'", (both["ben"],))
    with pytest.raises(DamagedError, match="is damaged"):
        store.get("anna")


def test_a_reader_between_the_row_and_the_object(
    store: ShiftStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced and swept, or erased, after the row was read."""
    real = Objects.get

    def meanwhile(act: Callable[[], None]) -> None:
        def get(objects: Objects, user: str, reference: str) -> bytes:
            monkeypatch.setattr(Objects, "get", real)
            act()
            return real(objects, user, reference)

        monkeypatch.setattr(Objects, "get", get)

    def replaced() -> None:
        old = objects_of(store).of("anna")
        store.put("anna", numbered(5), {"n": 5})
        objects_of(store).remove(old)

    meanwhile(replaced)
    assert store.get("anna").meta == {"n": 5}
    meanwhile(lambda: store.delete("anna"))
    assert store.find("anna") is None


def test_nobody_waits_for_somebody_elses_object(store: ShiftStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one object does not come: others are read, written and deleted, of the same store."""
    real, asked, go = Objects.get, threading.Event(), threading.Event()

    def slow(objects: Objects, user: str, reference: str) -> bytes:
        if user == "anna":
            asked.set()
            assert go.wait(60)
        return real(objects, user, reference)

    monkeypatch.setattr(Objects, "get", slow)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(store.get("anna").meta))
    waiting.start()
    assert asked.wait(60)
    assert store.get("ben").meta == {"n": 2}
    store.put("cleo", numbered(3), {})
    store.delete("ben")
    assert found == []
    go.set()
    waiting.join(60)
    assert found == [{"n": 1}]


def test_where_objects_may_lie(store: ShiftStore) -> None:
    for url in (
        "", "s3://", "s3:/bucket", "file:///etc", "memory://x", "s3://k:canary-secret@bucket/x", "s3://b/x?secret=canary-secret",
        "s3://b/a b", "s3://b/../c", "s3://b/x::memory://y", "http://host/x", "/tmp/x", "s3://b/*", "s3://b/\n",
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="give s3://BUCKET/PREFIX") as caught:
            Objects.at(url)
        assert "k:canary" not in str(caught.value)
    with pytest.raises(StoreError, match="lie in s3://bucket/prefix already"):
        store.move_out("s3://bucket/other")
    assert Objects.at("s3://bucket/a/").url == "s3://bucket/a"
    one = objects_of(store)
    assert one.key not in repr(one)
    assert Objects.of_text(one.text()) == one
    for text in ("", "[]", "{}", one.text().replace("s3:", "file:"), one.text().replace(one.name, "../../x")):
        with pytest.raises(DamagedError, match="where payloads lie is damaged"):
            Objects.of_text(text)


def test_two_stores_below_one_prefix_are_strangers(store: ShiftStore, tmp_path: Path) -> None:
    with ShiftStore.create(tmp_path / "other.db", IDENTITY, SPEC) as other:
        other.put("anna", numbered(9), {})
        other.move_out(URL)
        assert not set(objects_of(other).all()) & set(objects_of(store).all())
        store.delete("anna")
        store.move_in()
        assert other.verify() == []


def test_who_has_the_store_open_writes_no_row_that_is_kept_in_another_way(store: ShiftStore) -> None:
    with ShiftStore.open(store.path) as other:
        store.move_in()
        with pytest.raises(StoreError, match="was encrypted or moved while it was open"):
            other.put("anna", numbered(4), {})
    with ShiftStore.open(store.path) as again:
        again.put("anna", numbered(4), {})
        assert again.verify() == []
