"""What a run keeps of its users, looked through: no changed byte goes unseen, no id is told, nothing live is swept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from small_base import person

from perfit.belonging import open_store
from perfit.cli import main as cli
from perfit.cli.ending import run as end_of
from perfit.durable.files import _part_beside
from perfit.edits.shift import new_shift, to_stored
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.items import Items
from perfit.notebook.jobs import Jobs
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.store.digest import shift_digest
from perfit.tombstones import DONE, Tombstones
from perfit.upkeep.fsck import Finding, fsck, pseudonym
from perfit.upkeep.gc import gc


@contextmanager
def raw(run: RunDirectory, name: str) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(run.path / name)
    yield database
    database.commit()
    database.close()


def test_what_is_as_it_was_written_has_no_findings(run: RunDirectory) -> None:
    assert fsck(run) == []
    (run.path / FILE).unlink()
    assert fsck(run) == []  # a run that was never served
    assert not (run.path / FILE).exists()


@pytest.mark.parametrize("name", ["personal.sqlite", FILE])
def test_every_byte_of_a_payload_that_is_changed_is_found(
    run: RunDirectory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all bytes of a small one: names, shapes, sizes, values and padding alike."""
    table, column = ("users", "user_id") if name == "personal.sqlite" else ("versions", "user")
    if name == "personal.sqlite":
        with open_store(run, readonly=False) as store:
            store._rows.sizes = {}
            small = to_stored(new_shift((1, 1, 4), init="loreft", generator=torch.Generator().manual_seed(2)))
            store.put("anna", small, {})

    @contextmanager
    def one_store(*given: object, **more: object) -> Iterator[object]:
        yield opened

    with raw(run, name) as database:
        payload = database.execute(f"SELECT payload FROM {table} WHERE {column} = 'anna'").fetchone()[0]
    who, missed = pseudonym(run, "anna"), []
    with open_store(run) as opened:
        opened._rows.sizes = {}
        monkeypatch.setattr("perfit.upkeep.fsck.open_store", one_store)  # opened once: a second a flip otherwise
        assert fsck(run) == []
        database = sqlite3.connect(run.path / name, isolation_level=None)
        database.execute("PRAGMA synchronous = OFF")
        for place in range(len(payload)):
            broken = payload[:place] + bytes([payload[place] ^ (1 << place % 8)]) + payload[place + 1 :]
            database.execute(f"UPDATE {table} SET payload = ? WHERE {column} = 'anna'", (broken,))
            found = fsck(run)
            if [(one.file, one.user, one.damage) for one in found] != [(name, who, True)]:
                missed.append(place)
        database.close()
    assert missed == []
    assert len(payload) > 200


Damage = Callable[[RunDirectory], None]


def in_notebook(statement: str) -> Damage:
    def act(run: RunDirectory) -> None:
        with raw(run, FILE) as database:
            assert database.execute(statement).rowcount == 1

    return act


def orphaned(run: RunDirectory) -> None:
    with open_store(run, readonly=False) as store:
        store.delete("anna")


def returned(run: RunDirectory) -> None:
    Tombstones(run.path).put("anna", DONE)


@pytest.mark.parametrize(
    ("harm", "file", "who", "said"),
    [
        (in_notebook("UPDATE versions SET digest = 'x'"), FILE, "anna", "version 1 is another shift"),
        (in_notebook("UPDATE versions SET note = '[]'"), FILE, "anna", "version 1 is not as it was written"),
        (in_notebook("UPDATE versions SET user = 'ben'"), FILE, "ben", "version 1 is not as it was written"),
        (in_notebook("UPDATE items SET fields = '{' WHERE place = 2"), FILE, "anna", "item 2 of the history"),
        (in_notebook("UPDATE items SET turns = '[[1, 2]]' WHERE place = 3"), FILE, "anna", "item 3 of the history"),
        (in_notebook("UPDATE items SET held_out = 7 WHERE place = 4"), FILE, "anna", "item 4 of the history"),
        (in_notebook("UPDATE feedback SET verdict = 'liked'"), FILE, "ben", "verdict 0"),
        (in_notebook("UPDATE jobs SET state = 'lost'"), FILE, "anna", "training 1"),
        (orphaned, FILE, "anna", "no shift is stored"),
        (returned, "personal.sqlite", "anna", "was erased, and is stored again"),
    ],
)
def test_damage_is_a_line_that_names_nobody(
    run: RunDirectory,
    harm: Damage,
    file: str,
    who: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harm(run)
    found = fsck(run)
    assert [(one.file, one.user, one.damage) for one in found] == [(file, pseudonym(run, who), True)], found
    assert said in found[0].what
    monkeypatch.setattr("sys.argv", ["perfit", "store", "fsck", str(run.path)])
    assert end_of(cli.app) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [found[0].line()]
    assert not {"anna", "ben"} & set(printed.out.replace(":", " ").split())
    assert "1 damaged" in printed.err


def test_what_a_kill_left_is_said_and_is_no_damage(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        Jobs(notebook).ask("ben")
        Jobs(notebook).take()
        with notebook.writing() as database:
            database.execute("INSERT INTO meta VALUES ('forget abc', '')")
    (run.path / "predictions" / f".a.jsonl.{'0' * 16}.part").write_bytes(b"x" * 70)
    found = fsck(run)
    assert [(one.file, one.user) for one in found] == [
        (FILE, pseudonym(run, "ben")),
        (FILE, None),
        (f"predictions/.a.jsonl.{'0' * 16}.part", None),
    ]
    assert not any(one.damage for one in found)
    swept = gc(run)
    assert swept.bytes == 70
    assert [one.user for one in fsck(run)] == [pseudonym(run, "ben")]


def test_sweeping_frees_what_nothing_points_at_and_nothing_else(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        items = Items(notebook)
        items.replace(person("cleo", history=900))
        items.replace(person("cleo", history=3))
    left = run.path / f".metrics.json.{'0' * 16}.part"
    left.write_bytes(b"x" * 1000)

    def state() -> list[object]:
        with open_store(run) as store, Notebook(run.path) as notebook:
            versions = Versions(notebook)
            shifts = [shift_digest(store.get(user).tensors) for user in store.users()]
            return [
                shifts,
                versions.of("anna"),
                versions.stored("anna", 1).meta,
                Items(notebook).of("cleo"),
                notebook.key,
            ]

    before, size = state(), (run.path / FILE).stat().st_size
    with _part_beside(run.path / "being-written") as (part, _):
        planned = gc(run, dry_run=True)
        assert planned.dry_run
        assert left.exists()
        assert (run.path / FILE).stat().st_size == size
        swept = gc(run)
        assert part.exists()  # somebody writes it now
    assert not left.exists()
    freed = size - (run.path / FILE).stat().st_size
    assert freed >= 4096
    assert swept.bytes == 1000 + freed
    assert planned.bytes == swept.bytes
    assert state() == before
    assert gc(run).removed == ()
    assert fsck(run) == []


def test_a_damaged_file_is_a_finding_and_the_others_are_still_read(run: RunDirectory) -> None:
    in_notebook("UPDATE jobs SET state = 'lost'")(run)
    run.store_path.write_bytes(run.store_path.read_bytes()[:-4096])
    found = fsck(run)
    assert [one.file for one in found] == ["personal.sqlite", FILE]
    assert "the file is damaged" in found[0].what
    assert isinstance(found[0], Finding)
