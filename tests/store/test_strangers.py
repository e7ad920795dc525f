"""Files of strangers: a store or an export that somebody else made is checked before it is used, and refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from numbered import IDENTITY, SPEC, numbered
from safetensors.torch import save

from perfit.errors import DamagedError, PerfitError, StoreError
from perfit.store import ShiftStore, payload
from perfit.store.export import read_export


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC) as store:
        store.put_many((f"user{n}", numbered(n), {"n": n}) for n in range(3))
    return store.path


@pytest.fixture
def exported(path: Path, tmp_path: Path) -> Path:
    with ShiftStore.open(path) as store:
        store.export_user("user1", tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER stays BEFORE DELETE ON users BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW more AS SELECT * FROM users",
        "CREATE TABLE other (a)",
        "CREATE INDEX also ON users (sha256)",
        "ALTER TABLE users ADD COLUMN more TEXT",
        "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people",
        "DROP TABLE users; CREATE TABLE users (user_id TEXT, sha256 TEXT, meta TEXT, created TEXT, payload BLOB)",
        "ANALYZE",
    ],
)
@pytest.mark.parametrize("readonly", [False, True])
def test_another_schema_is_refused(path: Path, change: str, readonly: bool) -> None:
    database = sqlite3.connect(path)
    database.executescript(change)
    database.close()
    with pytest.raises(StoreError, match="tables, views or triggers that perfit did not make") as caught:
        ShiftStore.open(path, readonly=readonly)
    one_line(caught)


def forge(path: Path, user: object, content: bytes, meta: str = "{}") -> None:
    """A row whose checksum is right: whoever makes a file can make that, too."""
    text = user if isinstance(user, str) else "x"
    row = (user, payload.checksum(text, content, meta, "now"), meta, "now", content)
    database = sqlite3.connect(path)
    database.execute("DELETE FROM users WHERE user_id = ?", (user,))
    database.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()


def bf16(n: int = 1) -> dict[str, torch.Tensor]:
    return {name: tensor.bfloat16() for name, tensor in numbered(n).items()}


def wrong(name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {key: value for key, value in (bf16() | {name: tensor}).items() if value is not None}


WRONG = {
    "no b": (wrong("b", None), "R, D and b"),
    "a fourth tensor": (wrong("x\n\x1b[31m", torch.zeros(1)), r"x\\n\\x1b\[31m"),
    "another rank": ({name: tensor[:, 1:] for name, tensor in bf16().items()}, "rank 3, but the store holds 4"),
    "another width": (
        bf16() | {"R": torch.eye(16)[:4].bfloat16().expand(2, 4, 16), "D": bf16()["D"][..., :16]},
        "hidden size 16",
    ),
    "whole numbers": (wrong("b", torch.zeros(2, 4, dtype=torch.int16)), "bfloat16, int16"),
    "another dtype": (numbered(1), "float32, not all bf16"),
    "NaN": (wrong("D", torch.full((2, 4, 32), float("nan"), dtype=torch.bfloat16)), "D has values that are not finite"),
    "infinite": (
        wrong("b", torch.full((2, 4), float("inf"), dtype=torch.bfloat16)),
        "b has values that are not finite",
    ),
    "R twice as long": (wrong("R", bf16()["R"] * 2), "rows of R are not orthonormal"),
    "R of equal rows": (wrong("R", bf16()["R"][:, [0, 0, 1, 2]]), "rows of R are not orthonormal"),
    "R of zeros": (wrong("R", torch.zeros(2, 4, 32, dtype=torch.bfloat16)), "rows of R are not orthonormal"),
    "huge D": (wrong("D", bf16()["D"] + 2000), "D has norm"),
    "huge b": (wrong("b", bf16()["b"] + 6000), "b has norm"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_is_no_shift_of_this_store_is_not_used(path: Path, name: str) -> None:
    tensors, says = WRONG[name]
    forge(path, "user1", save({key: tensor.contiguous() for key, tensor in tensors.items()}))
    with ShiftStore.open(path, IDENTITY) as store:
        assert store.verify() == ["user1"]
        with pytest.raises(DamagedError, match=says) as caught:
            store.get("user1")
        assert "'user1'" in one_line(caught)
        assert store.get("user2").meta == {"n": 2}
        store.delete("user1")
        assert store.verify() == []


@pytest.mark.parametrize("name", [name for name in WRONG if name != "another dtype"])
def test_a_shift_that_is_none_is_not_stored_either(path: Path, name: str) -> None:
    tensors, says = WRONG[name]
    says = "not floating point" if name == "whole numbers" else says
    with ShiftStore.open(path) as store:
        with pytest.raises(StoreError, match=says):
            store.put("user1", tensors)
        assert store.get("user1").meta == {"n": 1}


def test_rounding_to_bf16_is_no_damage(path: Path) -> None:
    with ShiftStore.open(path) as store:
        for seed in range(50):
            R = torch.linalg.qr(torch.randn(2, 32, 4, generator=torch.Generator().manual_seed(seed)))[0].mT
            store.put("user1", numbered(1) | {"R": R})
            assert torch.equal(store.get("user1").tensors["R"], R.bfloat16())


@pytest.mark.parametrize(
    ("content", "meta"),
    [
        (b"\xff" * 8 + b"{}", "{}"),
        (b"", "{}"),
        (b"\x02" + bytes(7) + b"{}", "{}"),
        (save(bf16()), "[1]"),
        (save(bf16()), "[" * 100_000 + "]" * 100_000),
        (save(bf16()), json.dumps({"x": "x" * (1 << 20)})),
    ],
)
def test_other_made_up_rows_are_damaged_in_one_line(path: Path, content: bytes, meta: str) -> None:
    forge(path, "user1", content, meta)
    with ShiftStore.open(path) as store:
        with pytest.raises(DamagedError, match="'user1'") as caught:
            store.get("user1")
        assert len(one_line(caught)) < 500


def test_a_row_larger_than_any_shift_of_the_store_is_not_read(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE users SET payload = zeroblob(5000000) WHERE user_id = 'user1'")
    database.commit()
    database.close()
    with ShiftStore.open(path) as store, pytest.raises(DamagedError, match="too big"):
        store.get("user1")


def test_an_id_that_lies_there_twice_is_not_called_erased(path: Path) -> None:
    forge(path, b"user1", save(bf16()))
    with ShiftStore.open(path) as store:
        with pytest.raises(DamagedError, match="'user1' is stored more than once"):
            store.delete("user1")
        with pytest.raises(DamagedError, match="an id is no text"):
            store.users()


def links(path: Path, victim: Path) -> dict[str, Callable[[], None]]:
    journal = path.with_name("users.db-journal")
    return {
        "journal": lambda: journal.symlink_to(victim),
        "dangling journal": lambda: journal.symlink_to(path.with_name("nowhere")),
        "pipe": lambda: os.mkfifo(journal),
        "journal that names another file": lambda: (
            journal.write_bytes(bytes(600) + bytes.fromhex("d9d505f920a163d7")) and None
        ),
        "wal": lambda: path.with_name("users.db-wal").symlink_to(victim),
        "shm": lambda: path.with_name("users.db-shm").write_bytes(b"") and None,
    }


@pytest.mark.parametrize(
    "kind", ["journal", "dangling journal", "pipe", "journal that names another file", "wal", "shm"]
)
@pytest.mark.parametrize("readonly", [False, True])
def test_files_beside_a_store_that_are_not_sqlites_are_refused(path: Path, kind: str, readonly: bool) -> None:
    victim = path.with_name("victim")
    victim.write_bytes(b"precious" * 100)
    links(path, victim)[kind]()
    before = sorted(entry.name for entry in path.parent.iterdir())
    with pytest.raises(StoreError, match=r"is no journal of perfit|is in WAL mode") as caught:
        ShiftStore.open(path, readonly=readonly)
    one_line(caught)
    assert victim.read_bytes() == b"precious" * 100
    assert sorted(entry.name for entry in path.parent.iterdir()) == before


@pytest.mark.parametrize("readonly", [False, True])
def test_a_store_in_wal_mode_is_refused_as_it_is(path: Path, readonly: bool) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL").fetchone()
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="switched to WAL by another program"):
        ShiftStore.open(path, readonly=readonly)
    assert path.read_bytes() == before


def test_a_link_to_a_store_is_read_and_never_written_through(path: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    link = tmp_path / "snapshot" / "users.db"
    link.symlink_to(path)
    before = path.read_bytes()
    with ShiftStore.open(link, IDENTITY) as store:
        assert store.get("user1").meta == {"n": 1}
        for change in (lambda: store.put("new", numbered(4)), lambda: store.delete("user1")):
            with pytest.raises(StoreError, match="symbolic link, which is never written through"):
                change()
    assert path.read_bytes() == before


def test_a_writers_journal_is_not_played_back_through_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    torn, link = tmp_path / "torn" / "users.db", tmp_path / "link.db"
    link.symlink_to(torn)

    def entries() -> Iterator[tuple[str, dict[str, torch.Tensor], dict[str, int]]]:
        for n in range(60):
            yield f"user{n}", numbered(n + 1), {"n": n + 1}
        for suffix in ("", "-journal"):
            shutil.copy(path.with_name(path.name + suffix), torn.with_name(torn.name + suffix))

    whole = path.read_bytes()
    with ShiftStore.open(path) as store:
        store._database.execute("PRAGMA cache_size = 1")
        store.put_many(entries())
    left = {file.name: file.read_bytes() for file in torn.parent.iterdir()}
    assert len(left) == 2
    assert left["users.db"] != whole
    with pytest.raises(StoreError):
        ShiftStore.open(link)
    assert {file.name: file.read_bytes() for file in torn.parent.iterdir()} == left
    with ShiftStore.open(torn) as store:
        assert (store.users(), store.verify()) == (["user0", "user1", "user2"], [])


def test_what_lies_beside_the_store_at_the_end_of_a_link_is_looked_at(path: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    link = tmp_path / "snapshot" / "users.db"
    link.symlink_to(path)
    path.with_name("users.db-wal").touch()
    with pytest.raises(StoreError, match="WAL mode of another program"):
        ShiftStore.open(link, readonly=True)


@pytest.mark.skipif(os.name == "nt", reason="modes of Unix")
def test_stores_and_exports_are_for_their_owner_alone(path: Path, exported: Path) -> None:
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, exported)} == {0o600}


def test_every_changed_byte_of_an_export_is_refused(exported: Path, path: Path) -> None:
    whole = exported.read_bytes()
    read_export(exported)
    header = 8 + int.from_bytes(whole[:8], "little")
    changes = [(place, 1 << place % 8) for place in range(len(whole))]
    changes += [(place, 1 << bit) for place in range(0, header, 16) for bit in range(8)]
    for place, bits in changes:
        damaged = bytearray(whole)
        damaged[place] ^= bits
        exported.write_bytes(damaged)
        with pytest.raises(StoreError) as caught:
            read_export(exported)
        one_line(caught)
    for place in (place for place in range(header) if whole[place : place + 1] == b" "):
        exported.write_bytes(whole[:place] + b"\n" + whole[place + 1 :])
        with pytest.raises(DamagedError):
            read_export(exported)
    for cut in (0, 7, 8, header - 1, header, len(whole) - 1):
        exported.write_bytes(whole[:cut])
        with pytest.raises(StoreError):
            read_export(exported)
    exported.write_bytes(whole + b"\x00")
    with pytest.raises(StoreError):
        read_export(exported)


def make_export(file: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> None:
    """An export whose checksum is right."""
    texts = {"identity": json.dumps(IDENTITY), "spec": json.dumps(SPEC), "meta": "{}"}
    head = {"format": "perfit-user-shift/2", "user": "user9", "sha256": "0" * 64}
    plain = {key: tensor.contiguous() for key, tensor in tensors.items()}
    content = save(plain, {**head, **texts, **metadata})
    file.write_bytes(content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1))


@pytest.mark.parametrize("name", [name for name in WRONG if name != "another dtype"])
def test_an_export_that_is_no_shift_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    tensors, says = WRONG[name]
    make_export(tmp_path / "x.safetensors", tensors)
    with ShiftStore.open(path) as store:
        with pytest.raises(StoreError, match=says) as caught:
            store.import_user(tmp_path / "x.safetensors")
        one_line(caught)
        assert "user9" not in store
        make_export(tmp_path / "x.safetensors", bf16())
        assert store.import_user(tmp_path / "x.safetensors") == "user9"


@pytest.mark.parametrize(
    "metadata",
    [
        {"identity": "{"},
        {"spec": "[]"},
        {"meta": "[" * 100_000},
        {"meta": json.dumps({"x": "x" * (1 << 20)})},
        {"identity": json.dumps(IDENTITY | {"hidden_size": 64})},
        {"spec": json.dumps(SPEC | {"collective": "\x1b[2K\n" * 20})},
        {"user": ""},
        {"user": "x" * 10_001},
        {"format": "perfit-user-shift/3\n\x1b"},
    ],
)
def test_an_export_with_another_description_is_one_line(path: Path, tmp_path: Path, metadata: dict[str, str]) -> None:
    make_export(tmp_path / "x.safetensors", bf16(), **metadata)
    with ShiftStore.open(path) as store:
        with pytest.raises(StoreError) as caught:
            store.import_user(tmp_path / "x.safetensors")
        line = one_line(caught)
        assert "\x1b" not in line
        assert len(line) < 500
        assert len(store) == 3


@pytest.mark.parametrize("kind", ["pipe", "folder", "huge", "header"])
def test_what_is_no_file_of_bounded_size_is_not_read(path: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.safetensors"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "huge":
        with open(file, "wb") as sparse:
            sparse.truncate(50 << 30)
    else:
        file.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with ShiftStore.open(path) as store, pytest.raises(StoreError) as caught:
        store.import_user(file)
    one_line(caught)


FORGED = "eve\nerror: all is well\x1b[2K\x00\u202e"


def acts(store: ShiftStore) -> list[Callable[[], Any]]:
    return [
        lambda: store.get(FORGED),
        lambda: store.delete(FORGED),
        lambda: store.get(FORGED[:-1]),
        lambda: store.put(FORGED, numbered(1) | {"b": torch.zeros(1)}),
        lambda: store.put("", numbered(1)),
    ]


def said(act: Callable[[], Any]) -> str:
    try:
        act()
    except PerfitError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("there", [False, True])
def test_ids_cannot_forge_lines(path: Path, there: bool) -> None:
    with ShiftStore.open(path) as store:
        for number in range(5):
            if there:
                forge(path, FORGED, b"no shift")
            assert said(acts(store)[number]).isprintable()
        # Deleting what is damaged works; all else was refused.
        assert (FORGED in store) is there


def test_personal_shifts_in_memory_are_checked_alike() -> None:
    from perfit.store.payload import StoredShift
    from perfit.store.personal import PersonalShifts

    shifts = PersonalShifts()
    shifts.put_stored([("ann", StoredShift(numbered(1), {}))])
    with pytest.raises(StoreError, match="orthonormal"):
        shifts.put_stored([("ben", StoredShift(numbered(2), {})), ("ann", StoredShift(WRONG["R of zeros"][0], {}))])
    assert shifts.users() == ["ann"], "all or none"
    assert torch.equal(shifts.stored("ann").tensors["D"], bf16()["D"])
