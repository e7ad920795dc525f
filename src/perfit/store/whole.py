"""What is done to all rows of a store at once: looked through, hidden, moved to objects and back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from perfit.errors import DamagedError, StoreError
from perfit.store import erasure
from perfit.store.data_keys import DataKeys
from perfit.store.description import DATA_KEYS, OBJECTS
from perfit.store.objects import TOGETHER, GoneError, Objects, check_place
from perfit.store.rows import Row, Rows


def damage(rows: Rows) -> dict[str, str]:
    """What is wrong with whose shift, by ids, in words that name nobody; nothing where all is well.

    Raises:
        StoreError: The file cannot be read, or the objects cannot be reached.
    """
    with rows.using() as database:
        found = database.execute("SELECT CAST(user_id AS BLOB), sha256, meta, created, payload FROM users NOT INDEXED")
        bad, seen, elsewhere = dict[str, str](), set(), []
        for raw, *rest in found:
            user = bytes(raw).decode(errors="replace")
            seen.add(user)
            if isinstance(rest[-1], str):
                elsewhere.append(user)  # read below: who would write must not wait for a bucket
            else:
                bad |= _problem(user, partial(rows.stored, user, *rest))
        lost = seen ^ {user for (user,) in database.execute("SELECT user_id FROM users ORDER BY user_id")}
    with ThreadPoolExecutor(TOGETHER) as pool:
        for problem in pool.map(lambda user: _problem(user, partial(rows.find, user)), elsewhere):
            bad |= problem
    return bad | dict.fromkeys(lost, "its shift is lost to the index")


def _problem(user: str, read: Callable[[], object]) -> dict[str, str]:
    try:
        read()
    except DamagedError as error:
        # Of a cause it is the codec that speaks, which knows no users.
        why = f"cannot be used: {error.__cause__}" if error.__cause__ else "is not as it was written"
        return {user: f"its shift {why}"}
    return {}


def hide(rows: Rows, users: list[str], keys: DataKeys) -> None:
    """See ``ShiftStore.hide``."""
    if rows.about.objects is not None:
        raise StoreError(
            f"{rows.path}: payloads lie in {rows.about.objects.url} as they are; take them back (perfit store move RUN "
            "--payloads sqlite), encrypt, and move them out again"
        )
    keys.make(users)
    about = rows.about.changed(rows.path, DATA_KEYS, keys.text())
    with rows.using() as database, erasure.without_traces(rows.path, database):
        with rows.writing():
            for user in users:
                _, meta, created, payload = rows.read(user, *(rows.row(user) or (None,) * 4))
                key = keys.of(user)
                rows.write([Row(user, key.hide("meta", meta), created, key.hide("shift", payload))], None)
            about.write(database)
            erasure.set_pending(database)
        erasure.rewrite(database)
    rows.about = about


def move_out(rows: Rows, url: str) -> None:
    """See ``ShiftStore.move_out``."""
    url, objects = check_place(url), rows.about.objects
    if objects is None:
        objects = Objects.at(url)
        objects.all()  # a bucket that is not there is no place
        about = rows.about.changed(rows.path, OBJECTS, objects.text())
        with rows.writing() as database:
            about.write(database)
        rows.about = about
    elif objects.url != url:
        raise StoreError(
            f"{rows.path}: payloads lie in {objects.url} already; take them back first (--payloads sqlite)"
        )
    _move(rows, "blob", objects)
    with rows.using() as database:
        erasure.compact(rows.path, database)  # without what is left of them in its pages


def move_in(rows: Rows) -> None:
    """See ``ShiftStore.move_in``."""
    objects = rows.about.objects
    if objects is None:
        return
    _move(rows, "text", None)
    about = rows.about.changed(rows.path, OBJECTS, None)
    with rows.writing() as database:
        if rows.references():
            raise StoreError(f"{rows.path}: another process writes; repeat the command when it is done")
        objects.remove(list(objects.all()))
        about.write(database)
    rows.about = about


def _move(rows: Rows, kind: str, to: Objects | None) -> None:
    """Write every row anew whose payload is of this SQL type, some in a transaction, each with its old date."""
    query = "SELECT user_id, sha256, meta, created, payload FROM users WHERE typeof(payload) = ? LIMIT ?"
    while True:
        with rows.writing() as database:
            some = [_whole(rows, *row) for row in database.execute(query, (kind, TOGETHER)).fetchall()]
            rows.write(some, to)
        if not some:
            return


def _whole(rows: Rows, user: str, *row: object) -> Row:
    try:
        return rows.read(user, *row)
    except GoneError as error:
        raise rows.unusable(user, error) from error
