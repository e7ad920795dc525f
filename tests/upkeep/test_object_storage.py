"""A run whose payloads lie in a bucket: every verb goes on as before, damage is named, and erasing ends what it began."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucket import URL, Bucket, in_memory, moto_server
from flow_of_versions import found, published, rolled_back, shift

from perfit.belonging import open_store
from perfit.cli import main as cli
from perfit.cli.ending import run as end_of
from perfit.erasure import erase_user
from perfit.errors import DamagedError, StoreError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.served import serving
from perfit.notebook.versions import Versions
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.serving.publishing import Publication, publish
from perfit.store.digest import shift_digest
from perfit.tombstones import BEGUN, DONE, Tombstones
from perfit.upkeep.encrypt import encrypt
from perfit.upkeep.fsck import fsck, pseudonym
from perfit.upkeep.gc import gc
from perfit.upkeep.move import SQLITE, move


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with in_memory() as one:
        yield one


def values_of(run: RunDirectory, user: str) -> bytes:
    """Bytes of the user's shift as they lie in a payload."""
    import torch

    with open_store(run) as store:
        return store.get(user).tensors["D"].flatten().view(torch.uint8).numpy().tobytes()[64:128]


def state(run: RunDirectory) -> list[object]:
    with open_store(run) as store, Notebook(run.path) as notebook:
        versions = Versions(notebook)
        kept = [(one, shift_digest(versions.stored("anna", one.number).tensors)) for one in versions.of("anna")]
        assert [one.digest for one, _ in kept] == [digest for _, digest in kept]
        return [kept, *((user, shift_digest(store.get(user).tensors), store.get(user).meta) for user in store.users())]


def where(run: RunDirectory, bucket: Bucket, values: bytes) -> list[str]:
    files = {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    return [name for name, content in {**files, **bucket.objects()}.items() if values in content]


def test_payloads_move_and_everything_reads_as_before(run: RunDirectory, bucket: Bucket) -> None:
    before, values = state(run), values_of(run, "anna")
    answers = PerFit.from_pretrained(run.path).generate(["a lamp", "a boat"], ["anna", "ben"])
    assert where(run, bucket, values) == ["personal.sqlite"]
    with serving(run.path), pytest.raises(StoreError, match="another perfit serve"):
        move(run, URL)
    assert move(run, URL) == 2
    assert len(where(run, bucket, values)) == 1
    assert "personal.sqlite" not in where(run, bucket, values)
    assert state(run) == before
    assert fsck(run) == []
    assert PerFit.from_pretrained(run.path).generate(["a lamp", "a boat"], ["anna", "ben"]) == answers
    assert move(run, SQLITE) == 2
    assert where(run, bucket, values) == ["personal.sqlite"]
    assert bucket.objects() == {}
    assert state(run) == before
    assert fsck(run) == []


def test_what_is_wrong_in_the_bucket_is_a_line_that_names_nobody(run: RunDirectory, bucket: Bucket) -> None:
    move(run, URL)
    with open_store(run, readonly=False) as store:
        shift = store.get("ben")
        store.put("ben", shift.tensors, {"again": 1})  # the same bytes: the same object
        store.put("ben", {name: -tensor for name, tensor in shift.tensors.items()}, {})
        assert store.objects is not None
        mine = store.objects.called("anna", dict(store._rows.references())["anna"])
    left = fsck(run)
    assert [(one.what, one.damage) for one in left] == [
        ("1 objects that nothing refers to; perfit store gc takes them away", False)
    ]
    planned = gc(run, dry_run=True)
    assert len(bucket.objects()) == 4
    swept = gc(run)
    assert swept.removed == planned.removed
    assert swept.bytes == planned.bytes > 500
    assert len(bucket.objects()) == 3
    assert fsck(run) == []
    ((path, content),) = [(path, one) for path, one in bucket.objects().items() if path.endswith(mine)]
    for harm, said in ((lambda: bucket.system.pipe({path: content[::-1]}), "is not as it was written"),
                       (lambda: bucket.system.rm([path]), "is not in s3://bucket/prefix")):  # fmt: skip
        harm()
        found = fsck(run)
        assert [(one.file, one.user, one.damage) for one in found] == [
            ("personal.sqlite", pseudonym(run, "anna"), True)
        ]
        assert said in found[0].what
        assert "anna" not in found[0].line()
    bucket.fail(1, lasting=True)
    assert ["objects cannot be read or written now (OSError)" in one.what for one in fsck(run)] == [True, True]


def test_versions_lie_there_too(run: RunDirectory, bucket: Bucket) -> None:
    """Put live, rolled back, pruned, swept; and one that is gone is named."""
    move(run, URL)
    for seed in range(12):
        with Notebook(run.path) as notebook:
            publish(run, Versions(notebook), Publication("anna", shift(seed), {}, live=True), seconds=0)
    with Notebook(run.path) as notebook:
        versions = Versions(notebook)
        kept = [one.number for one in versions.of("anna")]
        assert len(kept) == 10
        publish(run, versions, Publication("anna", versions.stored("anna", kept[3]), {}, live=True), seconds=0)
        assert (run.path / FILE).stat().st_size < 60_000
        live = versions.of("anna")[3].digest
    with open_store(run) as store:
        assert shift_digest(store.get("anna").tensors) == live
    assert len(bucket.objects()) == 1 + 1 + 1 + 12
    gc(run)
    assert len(bucket.objects()) == 1 + 10  # the live one is a version: the same object
    assert fsck(run) == []
    with open_store(run) as store, Notebook(run.path) as notebook:
        assert store.objects is not None
        with notebook.reading() as database:
            query = "SELECT payload FROM versions WHERE user = 'anna' AND number = ?"
            (reference,) = database.execute(query, (kept[5],)).fetchone()
        store.objects.remove([store.objects.called("anna", reference)])
        with pytest.raises(DamagedError):
            Versions(notebook).stored("anna", kept[5])
    assert [(one.file, one.user, one.damage) for one in fsck(run)] == [(FILE, pseudonym(run, "anna"), True)]
    erase_user("anna", run.path)
    assert len(bucket.objects()) == 1


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("act", [published, rolled_back], ids=lambda act: act.__name__)
def test_the_nth_call_to_the_bucket_fails(
    run: RunDirectory, bucket: Bucket, tmp_path: Path, act: Callable[[RunDirectory], None], late: bool
) -> None:
    move(run, URL)
    with Notebook(run.path) as notebook:
        notebook.erase("anna")
    for seed in (1, 2):
        with Notebook(run.path) as notebook:
            publish(run, Versions(notebook), Publication("anna", shift(seed), {}, live=True), seconds=0)
    for name in ("personal.sqlite", FILE):
        shutil.copy(run.path / name, tmp_path / name)
    before = found(run)
    act(run)
    after = found(run)
    assert after != before
    for n in range(1, 30):
        for name in ("personal.sqlite", FILE):
            shutil.copy(tmp_path / name, run.path / name)
        bucket.fail(n, late=late)
        said = ""
        try:
            act(run)
        except StoreError as error:
            said = str(error)
        failed = bucket.failed
        bucket.fail(0)
        assert bool(said) == bool(failed)
        now = found(run)
        assert now.live == after.live if not said else now.live in (before.live, after.live)
        assert before.versions.items() <= now.versions.items() <= after.versions.items()
        act(run)
        assert found(run).live == after.live
        assert not any(one.damage for one in fsck(run))
        if not failed:
            break
    assert 2 < n < 29


def test_an_erasure_that_the_bucket_stops_is_finished_by_the_same_call(run: RunDirectory, bucket: Bucket) -> None:
    move(run, URL)
    values = values_of(run, "anna")
    bucket.fail(1, lasting=True)
    with pytest.raises(StoreError, match="repeat the command") as caught:
        erase_user("anna", run.path)
    assert "\n" not in str(caught.value)
    assert Tombstones(run.path).state("anna") == BEGUN
    assert "anna" not in PerFit.from_pretrained(run.path).users()  # nobody is served from what the bucket still holds
    with pytest.raises(StoreError, match="repeat the command"):
        erase_user("anna", run.path)
    bucket.fail(0)
    assert len(where(run, bucket, values)) == 1
    assert [one.damage for one in fsck(run)] == [False, False]  # what is left in the bucket, and the erasure
    done = erase_user("anna", run.path)
    assert done.went_on
    assert where(run, bucket, values) == []
    assert len(bucket.objects()) == 1
    assert Tombstones(run.path).state("anna") == DONE
    assert URL in [left.what for left in done.unreached]
    assert fsck(run) == []


def test_what_is_hidden_goes_up_hidden(run: RunDirectory, bucket: Bucket, tmp_path: Path) -> None:
    before, values = state(run), values_of(run, "anna")
    move(run, URL)
    with pytest.raises(StoreError, match="take them back"):
        encrypt(run, tmp_path / "keys")
    move(run, SQLITE)
    encrypt(run, tmp_path / "keys")
    move(run, URL)
    assert where(run, bucket, values) == []
    assert state(run) == before
    copy, objects = RunDirectory(tmp_path / "copy"), bucket.objects()
    shutil.copytree(run.path, copy.path)
    erase_user("anna", run.path)
    assert len(bucket.objects()) == 1
    bucket.system.pipe(objects)  # of a backup
    with open_store(copy) as store, pytest.raises(StoreError, match="has no data key of this user"):
        store.get("anna")
    assert fsck(run) != []
    gc(run)
    assert fsck(run) == []


def command(*given: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["perfit", *map(str, given)])
        return end_of(cli.app)


def test_a_server_that_speaks_s3(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line, against moto's server in a process of its own."""
    import fsspec

    before = state(run)
    with moto_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        said = []

        def says(*given: object) -> tuple[int, str]:
            code = command(*given)
            printed = capsys.readouterr()
            said.append(printed.out + printed.err)
            return code, printed.out + printed.err

        assert says("store", "move", run.path, "--payloads", "s3://perfit/runs") == (
            1,
            "perfit: s3://perfit/runs: objects cannot be read or written now (FileNotFoundError); there is no such bucket or "
            "folder: make it, or check the address\n",
        )
        there = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        there.mkdir("perfit")
        assert says("store", "move", run.path, "--payloads", "s3://perfit/runs")[0] == 0
        assert len(there.find("perfit/runs")) == 3
        assert state(run) == before
        assert says("info", run.path, "--verify")[0] == 0
        assert says("users", "export", "anna", tmp_path / "anna.safetensors", "--run", run.path)[0] == 0
        assert says("users", "import", tmp_path / "anna.safetensors", "--user", "twin", "--run", run.path)[0] == 0
        with open_store(run) as store:
            assert shift_digest(store.get("twin").tensors) == shift_digest(store.get("anna").tensors)
        assert says("users", "delete", "anna", "--run", run.path)[0] == 0
        assert len(there.find("perfit/runs")) == 2
        victim = next(path for path in there.find("perfit/runs"))
        kept = there.cat_file(victim)
        there.pipe_file(victim, kept[:-1] + b"\0\0")
        assert says("store", "fsck", run.path)[0] == 1
        assert "is not as it was written" in said[-1]
        there.pipe_file(victim, kept)
        assert says("store", "fsck", run.path) == (0, f"{run.path}: everything is as it was written\n")
    code, line = says("users", "show", "ben", "--run", run.path)
    assert (code, line.count("\n")) == (1, 1)
    assert (
        "s3://perfit/runs: objects cannot be read or written now (EndpointConnectionError); see that it can be" in line
    )
    secrets = [environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]]
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert not any(secret in "".join(said) or secret.encode() in written for secret in secrets)
