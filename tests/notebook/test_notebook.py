"""The notebook at rest: durable, private, refused when it is another's, and torn out without a trace."""

from __future__ import annotations

import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked
import pytest
import torch
from small_base import person

from perfit.data.schema import HistoryItem, User
from perfit.edits.shift import new_shift, to_stored
from perfit.errors import DamagedError, StoreError, UnknownUserError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.items import Items
from perfit.notebook.jobs import Jobs
from perfit.notebook.versions import Versions
from perfit.store.payload import StoredShift


def planted(folder: Path, text: str) -> list[str]:
    return [path.name for path in folder.iterdir() if text.encode() in path.read_bytes()]


def shift(seed: int = 0) -> StoredShift:
    made = to_stored(new_shift((1, 2, 8), init="loreft", generator=torch.Generator().manual_seed(seed)))
    return StoredShift(made, {"strength": 0.5})


def test_it_is_for_its_owner_alone_and_keeps_its_key(tmp_path: Path) -> None:
    with Notebook(tmp_path) as first:
        key = first.key
    with Notebook(tmp_path) as again:
        assert again.key == key
        assert len(key) == 32
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE something (a)")
    with pytest.raises(StoreError, match="another SQLite file"):
        Notebook(tmp_path)
    path.write_bytes(b"no database at all, and long enough to be looked at" * 40)
    with pytest.raises(StoreError):
        Notebook(tmp_path)
    path.unlink()
    Notebook(tmp_path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="format 9"):
        Notebook(tmp_path)


def test_versions_come_back_as_they_were_and_no_other_bytes_do(tmp_path: Path) -> None:
    with Notebook(tmp_path) as notebook:
        versions, kept = Versions(notebook), shift()
        assert versions.add("anna", kept, "d1", state="kept", note={"steps": 3}) == 1
        assert versions.add("anna", kept, "d1", state="kept", note={}) == 1
        assert versions.add("ben", kept, "d1", state="kept", note={}) == 1
        found = versions.stored("anna", 1)
        assert found.meta == kept.meta
        assert all(torch.equal(found.tensors[name], kept.tensors[name]) for name in kept.tensors)
        with pytest.raises(UnknownUserError):
            versions.stored("anna", 2)
        with notebook.writing() as database:
            payload = bytearray(database.execute("SELECT payload FROM versions WHERE user = 'anna'").fetchone()[0])
        for place in range(0, len(payload), 7):
            broken = bytes(payload[:place]) + bytes([payload[place] ^ 1]) + bytes(payload[place + 1 :])
            with notebook.writing() as database:
                database.execute("UPDATE versions SET payload = ? WHERE user = 'anna'", (broken,))
            with pytest.raises(DamagedError):
                versions.stored("anna", 1)
        # A row of one user is not another's.
        with notebook.writing() as database:
            database.execute("UPDATE versions SET payload = ? WHERE user = 'anna'", (bytes(payload),))
            database.execute("UPDATE versions SET user = 'cleo' WHERE user = 'ben'")
        versions.stored("anna", 1)
        with pytest.raises(DamagedError):
            versions.stored("cleo", 1)


def test_one_job_waits_for_a_user_and_the_oldest_is_taken_first(tmp_path: Path) -> None:
    with Notebook(tmp_path) as notebook:
        jobs = Jobs(notebook)
        first, second = jobs.ask("anna"), jobs.ask("ben")
        assert jobs.ask("anna").id == first.id
        taken = jobs.take()
        assert taken is not None
        assert (taken.id, taken.state) == (first.id, "running")
        assert jobs.runs(first.id)
        # While one runs another may wait: what was told meanwhile is learnt too.
        assert jobs.ask("anna").id not in (first.id, second.id)
        jobs.end(first.id, "live", {"version": 2})
        assert not jobs.runs(first.id)
        assert jobs.waiting() == 2
        notebook.erase("ben")
        assert not jobs.runs(second.id)
        third = jobs.take()
        assert third is not None
        assert third.user == "anna"


def test_an_acknowledged_job_is_there_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from perfit.notebook.database import Notebook; from perfit.notebook.jobs import Jobs\n"
        "print(Jobs(Notebook(Path(sys.argv[1]))).ask('anna').id, flush=True); os.kill(os.getpid(), 9)"
    )
    done = forked.python(code, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (-9, "1")
    with Notebook(tmp_path) as notebook:
        assert Jobs(notebook).waiting() == 1


def test_erasing_leaves_nothing_and_others_whole(tmp_path: Path) -> None:
    with Notebook(tmp_path) as notebook:
        items = Items(notebook)
        for name in ("anna", "canary-77", "ben"):
            items.replace(person(name, history=40))
            Jobs(notebook).ask(name)
            Versions(notebook).add(name, shift(), name, state="kept", note={})
        items.replace(person("canary-77", history=3))
        text = items.of("canary-77").training.history[0].fields["text"]
        before = items.of("anna"), items.of("ben"), notebook.key
        assert planted(tmp_path, "canary-77")
        notebook.erase("canary-77")
        assert not notebook.knows("canary-77")
        assert planted(tmp_path, "canary-77") == []
        assert planted(tmp_path, text) == []
        assert (items.of("anna"), items.of("ben"), notebook.key) == before
        assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_erasure_that_was_cut_off_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Notebook(tmp_path) as notebook:
        Items(notebook).replace(person("canary-77", history=40))
        with monkeypatch.context() as patch:
            patch.setattr(Notebook, "_rewrite", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                notebook.erase("canary-77")
        assert notebook.erasing()
        assert not notebook.knows("canary-77")
    with Notebook(tmp_path) as again:
        again.finish_erasing()
        assert not again.erasing()
    assert planted(tmp_path, "canary-77") == []


@pytest.mark.parametrize("place", ["drop_journal", "_rewrite"])
def test_a_kill_leaves_no_journal_that_a_next_opening_does_not_overwrite(tmp_path: Path, place: str) -> None:
    """What an erasure writes goes through a journal that is kept; a kill before it was overwritten left the user in it."""
    with Notebook(tmp_path) as notebook:
        Items(notebook).replace(person("canary-77", history=1000))
    code = (
        "import os, sys; from pathlib import Path; import perfit.store.erasure as erasure\n"
        "from perfit.notebook.database import Notebook\n"
        "die = lambda *given: os.kill(os.getpid(), 9)\n"
        f"setattr(erasure if {place!r} == 'drop_journal' else Notebook, {place!r}, die)\n"
        "Notebook(Path(sys.argv[1])).erase('canary-77')"
    )
    done = forked.python(code, tmp_path)
    assert done.returncode == -9, done.stderr
    assert planted(tmp_path, "canary-77"), "the kill came too early or too late to prove anything"
    with Notebook(tmp_path) as again:
        again.finish_erasing()
    assert planted(tmp_path, "canary-77") == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_key_is_there_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    """Every answer signs its receipt in the event loop: it must not wait for an erasure, or for a training's writing."""
    with Notebook(tmp_path) as notebook, ThreadPoolExecutor(1) as pool:
        key = notebook.key
        with notebook.writing():
            assert pool.submit(lambda: notebook.key).result(timeout=2) == key


def test_what_is_replaced_or_deleted_is_overwritten(tmp_path: Path) -> None:
    """Not erasing alone: a history that was replaced is no text that lies on in the file's free pages."""
    with Notebook(tmp_path) as notebook:
        items, whole = Items(notebook), person("dora", history=9).history
        marked = HistoryItem("x", {"text": f"canary-77 {'long ' * 3000}", "folder": "work"})
        items.replace(User("dora", (*whole[:4], marked, *whole[4:])))
        assert planted(tmp_path, "canary-77") == [FILE]
        items.replace(User("dora", whole))
        assert planted(tmp_path, "canary-77") == []


def test_copies_of_rows_that_moved_between_pages_go_too(tmp_path: Path) -> None:
    """SQLite overwrites a row that is deleted, not what it left behind when pages were split: only a file written anew is
    without them."""
    chance = random.Random(0)
    rows = [(user, place) for place in range(400) for user in ("anna", "canary-77", "ben", "dora", "zoe")]
    chance.shuffle(rows)
    with Notebook(tmp_path) as notebook:
        with notebook.writing() as database:
            for user, place in rows:
                text = f"{user} asks {'x' * chance.randrange(200)}"
                database.execute("INSERT INTO feedback VALUES (?, ?, 'accepted', ?, 'work', '')", (user, place, text))
        with notebook.writing() as database:
            for user, place in rows[::3]:
                text = f"{user} asks {'y' * chance.randrange(900)}"
                database.execute("UPDATE feedback SET input = ? WHERE user = ? AND place = ?", (text, user, place))
        notebook.erase("canary-77")
        assert planted(tmp_path, "canary-77") == []
        with notebook.reading() as database:
            assert database.execute("SELECT count(*) FROM feedback").fetchone() == (1600,)
