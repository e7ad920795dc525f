"""A key for each user: nothing of theirs on the disk can be read without it, and without it no backup can either."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from small_base import TASK, person

from perfit.belonging import open_store
from perfit.data.schema import HistoryItem, User
from perfit.erasure import erase_user
from perfit.errors import ConfigError, DamagedError, MissingExtraError, StoreError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.items import Items
from perfit.notebook.served import serving
from perfit.notebook.versions import Versions
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.store.data_keys import KEY, DataKeys
from perfit.store.digest import shift_digest
from perfit.store.payload import checksum
from perfit.upkeep.encrypt import encrypt
from perfit.upkeep.fsck import fsck
from perfit.upkeep.gc import gc

CANARY = "canary-9d3b"


def told(name: str, items: int = 6) -> User:
    """A history with the canary in every text: of items, of turns, and of dates as far as they are texts."""
    return User(
        name,
        tuple(
            HistoryItem(str(n), {**item.fields, "text": f"{item.fields['text']} {CANARY}"}, f"2020-01-0{n + 1}")
            for n, item in enumerate(person(name, history=items).history)
        ),
    )


def planted(folder: Path, *texts: bytes) -> list[str]:
    return [
        path.name for path in folder.rglob("*") if path.is_file() and any(text in path.read_bytes() for text in texts)
    ]


def values_of(run: RunDirectory, user: str) -> bytes:
    """Bytes of the user's shift as they would lie in a payload."""
    import torch

    with open_store(run) as store:
        return store.get(user).tensors["D"].flatten().view(torch.uint8).numpy().tobytes()[64:128]


def state(run: RunDirectory) -> list[object]:
    with open_store(run) as store, Notebook(run.path) as notebook:
        shifts = [(shift_digest(store.get(user).tensors), store.get(user).meta) for user in store.users()]
        versions = Versions(notebook)
        kept = [(one, shift_digest(versions.stored("anna", one.number).tensors)) for one in versions.of("anna")]
        return [shifts, kept, Items(notebook).of("anna"), Items(notebook).of("ben")]


def test_everything_reads_as_before_and_no_byte_of_it_can_be_read(run: RunDirectory, tmp_path: Path) -> None:
    with Notebook(run.path) as notebook:
        Items(notebook).replace(told("anna"))
        with notebook.reading() as database:
            version = database.execute("SELECT payload FROM versions").fetchone()[0]
    values, before = values_of(run, "anna"), state(run)
    secret = (CANARY.encode(), values, version[-24:], b"2020-01-03")
    assert set(planted(run.path, *secret)) == {"personal.sqlite", FILE}
    encrypt(run, tmp_path / "keys")
    assert planted(tmp_path, *secret) == []
    assert state(run) == before
    assert fsck(run) == []
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    assert (tmp_path / "keys.key").stat().st_mode & 0o077 == 0
    assert planted(tmp_path / "keys", b"anna") == []

    # What is written from now on, in every state of the files in between, the journal's among them.
    seen: set[str] = set()
    with Notebook(run.path) as notebook:
        items = Items(notebook)

        def look(statement: str) -> None:
            seen.update(planted(run.path, *secret), *[[path.name] for path in run.path.glob("*-journal")])

        with notebook.reading() as database:
            database.execute("PRAGMA cache_size = 1")
            database.set_trace_callback(look)
        items.replace(told("ben", 9))
        items.replace(told("ben", 8))
        asked = HistoryItem("x", {"text": f"storm {CANARY}", "folder": "work"})
        for verdict in ("accepted", "rejected", "accepted", "accepted"):
            items.judge("ben", verdict, asked, TASK)  # type: ignore[arg-type]
        with notebook.reading() as database:
            database.set_trace_callback(None)
        assert seen == {"serving.sqlite-journal"}
        both = items.of("ben")
        texts = [item.fields["text"] for item in (*both.training.history, *both.held_out.history)]
        assert len(texts) == 10  # equal texts were found: rejected leaves none, a copy is held out like the first
        assert all(CANARY in text for text in texts)
    assert planted(run.path, *secret) == []
    perfit = PerFit.from_pretrained(run.path)
    perfit.personalize(told("cleo"), listener=lambda event: None)
    assert planted(run.path, CANARY.encode(), values_of(run, "cleo")) == []
    assert fsck(run) == []


def test_without_the_key_no_copy_of_before_the_erasure_can_be_read(run: RunDirectory, tmp_path: Path) -> None:
    with Notebook(run.path) as notebook:
        Items(notebook).replace(told("anna"))
    keys = encrypt(run, tmp_path / "keys")
    backup = RunDirectory(tmp_path / "backup")
    shutil.copytree(run.path, backup.path)
    with open_store(backup) as store, Notebook(backup.path) as notebook:
        assert store.get("anna").tensors
        assert Items(notebook).of("anna").training.history
    done = erase_user("anna", run.path)
    assert keys.path in [deed.path for deed in done.deeds]
    assert not keys.has("anna")
    with open_store(backup) as store, Notebook(backup.path) as notebook:
        with pytest.raises(StoreError, match="has no data key of this user"):
            store.get("anna")
        with pytest.raises(StoreError, match="has no data key of this user"):
            Items(notebook).of("anna")
        with pytest.raises(StoreError, match="has no data key of this user"):
            Versions(notebook).stored("anna", 1)
        assert store.get("ben").tensors  # whose key is there
    # Who comes again has another key: it does not open what the first one hid.
    with Notebook(run.path) as notebook:
        Items(notebook).replace(told("anna"))
    with open_store(backup) as store, pytest.raises(DamagedError, match="does not open with their data key"):
        store.get("anna")


def test_rows_are_bound_to_their_user_and_their_place(run: RunDirectory, tmp_path: Path) -> None:
    """Whoever can write the file can make its checksums: what is hidden still opens as nothing else."""
    keys = encrypt(run, tmp_path / "keys")
    with open_store(run, readonly=False) as store:
        for user, wrong in (("anna", "ben"), ("ben", "ben")):
            _, meta, created, payload = store._rows.row(wrong)
            if user == wrong:
                payload = keys.of(user).hide("meta", b"no payload")
            row = (checksum(user, payload, meta, created), meta, payload, user)
            store._database.execute("UPDATE users SET sha256 = ?, meta = ?, payload = ? WHERE user_id = ?", row)
            with pytest.raises(DamagedError, match="data key"):
                store.get(user)


def test_what_is_wrong_with_the_keys_is_one_line(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="outside the run"):
        encrypt(run, run.path / "keys")
    with serving(run.path), pytest.raises(StoreError, match="another perfit serve"):
        encrypt(run, tmp_path / "keys")
    keys = encrypt(run, tmp_path / "keys")
    encrypt(run, tmp_path / "keys")  # done already
    with pytest.raises(StoreError, match="encrypted already"):
        encrypt(run, tmp_path / "others")

    def problem() -> str:
        with open_store(run) as store:
            assert store.users() == ["anna", "ben"]  # ids are not hidden
            with pytest.raises((StoreError, ConfigError, MissingExtraError)) as caught:
                store.get("anna")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    with monkeypatch.context() as patch:
        patch.setenv(KEY, "ab" * 64)
        assert "the run's key does not open it" in problem()
        patch.setenv(KEY, "short")
        assert f"{KEY}: is no key" in problem()
        patch.setenv(KEY, (tmp_path / "keys.key").read_text())
        (tmp_path / "keys.key").rename(tmp_path / "away")
        with open_store(run) as store:
            assert store.get("anna")
    assert "the run's key is not there" in problem()
    (tmp_path / "away").rename(tmp_path / "keys.key")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
        assert "perfit[encrypted]" in problem()
    other = DataKeys.create(tmp_path / "theirs", "another run")
    with pytest.raises(StoreError, match="of another run"):
        DataKeys.create(tmp_path / "theirs", "this run")
    with monkeypatch.context() as patch:
        patch.setenv("PERFIT_DATA_KEYS", str(other.path))
        assert "of another run" in problem()
        shutil.move(tmp_path / "keys", tmp_path / "moved")
        shutil.move(tmp_path / "keys.key", tmp_path / "moved.key")
        patch.setenv("PERFIT_DATA_KEYS", str(tmp_path / "moved"))
        with open_store(run) as store:
            assert store.get("anna")
    assert "the file of data keys is not there" in problem()
    assert keys.path == tmp_path / "keys"


def test_a_kill_between_store_and_notebook_is_finished_by_the_next_opening(run: RunDirectory, tmp_path: Path) -> None:
    with Notebook(run.path) as notebook:
        Items(notebook).replace(told("anna"))
    before = state(run)
    with open_store(run, readonly=False) as store:
        store.hide(DataKeys.create(tmp_path / "keys", "run"))
    assert planted(run.path, CANARY.encode()) == [FILE]
    Notebook(run.path).close()
    assert planted(run.path, CANARY.encode()) == []
    assert state(run) == before
    assert [name for name in os.listdir(run.path) if name.endswith("-journal")] == []


def test_keys_of_nobody_are_swept_and_no_others(run: RunDirectory, tmp_path: Path) -> None:
    with Notebook(run.path) as notebook:
        Items(notebook).replace(told("dora"))  # known by her history alone
    keys, before = encrypt(run, tmp_path / "keys"), state(run)
    assert gc(run).removed == ()
    for user in ("eve", "finn"):
        keys.of(user, new=True)  # and killed there
    planned = gc(run, dry_run=True)
    assert planned.removed == ("personal.sqlite: 2 data keys of nobody, 0 bytes",)
    assert keys.has("eve")
    assert gc(run).removed == planned.removed
    assert [keys.has(user) for user in ("anna", "ben", "dora", "eve", "finn")] == [True, True, True, False, False]
    assert state(run) == before
    with Notebook(run.path) as notebook:
        assert Items(notebook).of("dora").training.history
    assert gc(run).removed == ()
    assert fsck(run) == []


def test_a_key_is_made_in_the_write_that_needs_it(run: RunDirectory, tmp_path: Path) -> None:
    """Whoever sweeps keys, or erases, while a text is on its way to the disk waits, or comes first."""
    keys = encrypt(run, tmp_path / "keys")
    with Notebook(run.path) as notebook, Notebook(run.path) as other:
        with other.reading() as database:
            database.execute("PRAGMA busy_timeout = 0")
        asked = HistoryItem("x", {"text": "storm", "folder": "work"})
        with notebook.writing():
            for act in (
                lambda: Items(other).replace(told("eve")),
                lambda: Items(other).judge("eve", "accepted", asked, TASK),
            ):
                with pytest.raises(StoreError, match="has been writing"):
                    act()
    assert not keys.has("eve")
