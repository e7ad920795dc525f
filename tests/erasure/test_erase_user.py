"""A planted user is gone from every byte after ``users delete``, wherever a kill falls, and stays away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import SETTINGS
from filelock import FileLock
from flow import ASKED, CANARY, TEXTS, Flow, data_with_canary, do, texts_in, traces

from perfit import PerFit, fitting
from perfit.analysis.excerpts import read_texts
from perfit.analysis.folder import measured
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Trial
from perfit.comparison.results import load_results
from perfit.data import read_dataset
from perfit.data.golds import golds_text, read_golds
from perfit.durable.records import read_records, write_record, write_records
from perfit.elsewhere import Elsewhere
from perfit.erasure import erase_user
from perfit.erasure.step import Step
from perfit.erasure.words import lines_out
from perfit.errors import ConfigError, DataError, StoreError, UnknownUserError
from perfit.run import RunDirectory
from perfit.store.shifts import ShiftStore
from perfit.tombstones import Tombstones
from perfit.training.record import TrainingRecord

ALL = (CANARY, *TEXTS, *ASKED)


def also(flow: Flow) -> list[Path]:
    return [flow.analysed, flow.searched]


def test_the_canary_is_everywhere_before(made: Flow) -> None:
    found = {path.relative_to(made.top).as_posix() for path in traces(made.artifacts(), ALL)}
    for name in ("run/personal.sqlite", "run/events.jsonl", "run/metrics.json", "run/report.html", "compared/queries.jsonl",
                 "compared/report.html", "analysed/folders/test/texts.json", "analysed/folders/test/recipe.json",
                 "analysed/index.html", "run/predictions/personal.jsonl", "compared/trials/perfit/seed-3/predictions.jsonl"):  # fmt: skip
        assert name in found
    assert any(name.startswith("compared/trials/oppu/seed-3/work/users/") for name in found)
    assert list(made.cache.glob("*/*.frozen"))
    assert Elsewhere(made.run).paths("frozen_cache") == [made.cache.resolve()]


def test_every_byte_goes_and_everything_is_said(flow: Flow) -> None:
    before = set(flow.artifacts())
    with ShiftStore.open(flow.run / "personal.sqlite", readonly=True) as store:
        payload = store.get(CANARY).tensors["R"].view(-1)[:64]
    done = erase_user(CANARY, flow.run, also(flow))
    assert traces(flow.artifacts(), ALL) == {}
    mark = bytes(payload.view(dtype=__import__("torch").uint8).numpy())
    assert not [path for path in flow.artifacts() if mark in path.read_bytes()]
    assert not list(flow.cache.glob("*/*")) + list((flow.searched / "frozen").glob("*/*"))
    assert not list(flow.compared.glob("table.*")), "numbers of which the user was a part"
    told = {deed.path for deed in done.deeds}
    for gone in before - set(flow.artifacts()):
        assert any(gone == path or gone.is_relative_to(path) for path in told), gone
    left = " ".join(f"{one.what} {one.why}" for one in done.unreached)
    for words in (
        "collective.safetensors trained on the users' own histories, this user's among them",
        "exports, backups",
        "data.jsonl",
    ):
        assert words in left, words
    # The others are as they were.
    with ShiftStore.open(flow.run / "personal.sqlite", readonly=True) as store:
        assert store.users() == ["anna", "ben", "cleo", "dora"]
        assert store.verify() == []
    answers = (flow.run / "predictions" / "personal.jsonl").read_text().splitlines()
    assert len(answers) == 6
    assert texts_in(flow.compared / "trials" / "perfit" / "seed-3" / "predictions.jsonl", "user") == {
        "anna",
        "ben",
        "cleo",
    }
    do("report", flow.compared)
    assert {one.group: one.users for one in measured(flow.analysed)}["test"] == ("anna", "ben", "cleo")
    assert all(len(one.means) == len(one.counts) == len(one.users) for one in measured(flow.analysed))
    assert traces(flow.artifacts(), ALL) == {}
    again = erase_user(CANARY, flow.run, also(flow))
    assert [deed.path.parent for deed in again.deeds] == []


def test_the_command_lists_it_as_lines_and_as_json(flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(flow.analysed)
    shutil.rmtree(flow.searched)
    told = do("users", "delete", "ben", "--run", flow.run)
    assert f"{flow.run / 'metrics.json'}: removed; perfit evaluate makes it again" in told
    assert f"{flow.run / 'predictions' / 'personal.jsonl'}: 2 lines taken out" in told
    assert f"{flow.compared / 'queries.jsonl'}: 2 lines taken out" in told
    assert told.index("personal.sqlite") < told.index("ben deleted; not reached:") < told.index("copies: exports")
    found = json.loads(do("users", "delete", "anna", "--run", flow.run, "--json"))
    assert found["user"] == "anna"
    assert {"path": str(flow.run / "personal.sqlite"), "what": "the user's shift overwritten"} in found["done"]
    assert found["not_reached"][-1]["what"] == "copies"


def test_a_training_after_it_leaves_the_user_out_and_says_so(flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    erase_user(CANARY, flow.run)
    run = RunDirectory(flow.run)
    assert CANARY not in TrainingRecord(run).users
    train = ("train", flow.data, "--task", flow.task, "--base", flow.base, *SETTINGS, "--run", flow.run)
    told = json.loads(do(*train, "--json"))
    assert told["trained"] == 3
    shutil.rmtree(flow.run / "predictions")
    scores = json.loads(do("evaluate", flow.data, "--run", flow.run, "--methods", "base", "--json"))
    assert scores["left_out"]["users_who_were_erased_from_the_run"] == 1
    assert traces(sorted(flow.run.rglob("*.json*")), ALL) == {}
    # The same without what tells that training is complete: nobody comes back.
    for path in flow.run.glob("training.*"):
        path.unlink()
    assert json.loads(do(*train, "--json"))["trained"] == 3
    with ShiftStore.open(run.store_path, readonly=True) as store:
        assert CANARY not in store
    other = flow.top / "other-cache"
    do("users", "add", CANARY, "--data", flow.data, "--run", flow.run, "--frozen-cache", other)
    assert other.resolve() in Elsewhere(flow.run).paths("frozen_cache")
    assert CANARY not in Tombstones(flow.run)
    with ShiftStore.open(run.store_path, readonly=True) as store:
        assert CANARY in store


def test_a_comparison_goes_on_without_the_user(flow: Flow) -> None:
    erase_user(CANARY, flow.run)
    compare = ("compare", flow.data, "--task", flow.task, "--base", flow.base, *SETTINGS, "--out", flow.compared)
    told = json.loads(do(*compare, "--methods", "base", "--seeds", "3", "--json"))
    assert told["n_users"] == 3
    assert traces([path for path in flow.artifacts() if path.is_relative_to(flow.compared)], ALL) == {}


def test_measuring_again_does_not_bring_the_user_back(flow: Flow) -> None:
    erase_user(CANARY, flow.run, also(flow))
    few = ("--items", "2", "--history-tokens", "60", "--batch-tokens", "512", "--layers", "1")
    with pytest.raises(StoreError, match="other users or settings"):
        do("analyze", flow.data, "--task", flow.task, "--base", flow.base, "--out", flow.analysed, *few)
    assert traces(flow.artifacts(), ALL) == {}


class Killed(BaseException):
    """Stands for a kill."""


def test_killed_after_any_step_it_is_finished_by_the_same_command(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is killed one step further on; what it left is always more for the next call to do."""
    acted = 0

    def breaking(limit: int) -> Callable[[Step], Any]:
        def deed(step: Step) -> Any:
            nonlocal acted
            acted += 1
            if acted > limit:
                raise Killed
            return original(step)

        return deed

    original = Step.deed.fget
    assert original is not None
    rounds = 0
    while True:
        acted, rounds = 0, rounds + 1
        monkeypatch.setattr(Step, "deed", property(breaking(0 if rounds < 40 else 10_000)))
        try:
            done = erase_user(CANARY, flow.run, also(flow))
        except Killed:
            assert "begun" in (flow.run / "erased.json").read_text()
            continue
        break
    assert rounds > 10
    assert done.went_on
    assert traces(flow.artifacts(), ALL) == {}
    assert "begun" not in (flow.run / "erased.json").read_text()


def test_a_kill_between_old_and_new_vectors_loses_neither(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    from perfit.erasure import analysis

    def killed(made: Path) -> None:
        shutil.rmtree(made.with_name(made.name.removeprefix(".").removesuffix(".without")))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(analysis, "_settle", killed)
        with pytest.raises(Killed):
            erase_user(CANARY, flow.run, also(flow))
    done = erase_user(CANARY, flow.run, also(flow))
    assert done.went_on
    kept = json.loads((flow.analysed / "folders" / "test" / "recipe.json").read_text())
    assert kept["users"] == ["anna", "ben", "cleo"]
    assert traces(flow.artifacts(), ALL) == {}


def test_it_is_not_done_while_something_is_left(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShiftStore, "delete", lambda store, user: None)
    with pytest.raises(StoreError, match="still holds something of the user"):
        erase_user(CANARY, flow.run)
    assert Tombstones(flow.run).state(CANARY) == "begun"


def test_a_user_nobody_knows_is_refused_and_changes_nothing(flow: Flow) -> None:
    before = {path: path.read_bytes() for path in flow.artifacts()}
    with pytest.raises(UnknownUserError, match="anna"):
        erase_user("annna", flow.run, also(flow))
    assert {path: path.read_bytes() for path in flow.artifacts() if path.suffix != ".lock"} == {
        path: content for path, content in before.items() if path.suffix != ".lock"
    }
    with pytest.raises(ConfigError, match="is no run, comparison"):
        erase_user("anna", flow.run, [flow.base])


def test_what_is_not_of_the_run_is_named_and_left(flow: Flow) -> None:
    (flow.run / "notes.txt").write_text(json.dumps({"who": CANARY}))
    other = flow.top / "other"
    shutil.copytree(flow.compared, other)
    plan = ComparisonFolder(other).plan()
    plan["data"] |= {"fingerprint": "0" * 64, "source": "strangers.jsonl"}
    write_record(other / "plan.json", plan)
    left = {one.what: one.why for one in erase_user(CANARY, flow.run).unreached}
    assert "has the id in it" in left[str(flow.run / "notes.txt")]
    assert "--also" in left[str(other)]
    assert "--also" in left[str(flow.analysed)]
    assert "may hold states" in left[str(flow.searched)]
    assert traces([other / "queries.jsonl"], ALL)


def test_stage_1_on_the_users_own_histories_is_said(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = RunDirectory(flow.run).manifest()
    manifest["data"]["others"] = 0
    monkeypatch.setattr(RunDirectory, "manifest", lambda run: manifest)
    (flow.run / "checkpoints" / "stage1.safetensors").write_bytes(b"state")
    left = {one.what: one.why for one in erase_user(CANARY, flow.run).unreached}
    assert "this user's among them" in left[str(flow.run / "collective.safetensors")]
    assert not (flow.run / "checkpoints" / "stage1.safetensors").exists()


def test_it_waits_for_nobody(flow: Flow) -> None:
    with RunDirectory(flow.run).locked(), pytest.raises(StoreError, match="another process trains or evaluates here"):
        erase_user(CANARY, flow.run)


def test_what_killed_processes_left_goes_too(flow: Flow) -> None:
    left = json.dumps({"user": CANARY, "query": "asked-0"})
    work = flow.compared / "trials" / "perfit" / "seed-3" / "work"
    group = flow.analysed / "folders" / "stage1"
    for path in (
        flow.run / ".metrics.json.0123456789abcdef.part",
        flow.run / "predictions" / ".base.jsonl.0123456789abcdef.part",
        flow.run / "checkpoints" / "stage2.safetensors",
        work / "checkpoints" / "users.json",
        work / "users" / ".any.safetensors.0123456789abcdef.part",
        flow.compared / ".table.json.0123456789abcdef.part",
        group / "parts" / "stamp-0000.safetensors",
        flow.analysed / ".index.html.0123456789abcdef.part",
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(left)
    for path in (flow.run / "events.jsonl", flow.compared / "trials" / "oppu" / "seed-3" / "events.jsonl"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(left[:-3])
    folder, trial = ComparisonFolder(flow.compared), Trial("oppu", 3)
    failure = {"error": f"user {CANARY!r}: no", "where": []}
    folder.save_record(trial, replace(folder.record(trial), failure=failure))
    erase_user(CANARY, flow.run, also(flow))
    assert traces(flow.artifacts(), ALL) == {}
    failure = folder.record(trial).failure or {}
    assert failure["error"].startswith("failed")


def test_answers_in_lamps_format_and_pages_elsewhere_go_too(flow: Flow) -> None:
    lamp = flow.run / "predictions" / "personal.lamp.json"
    golds = [{"id": name, "output": "work"} for name in ("anna/q0", "asked-0", "asked-1")]
    lamp.write_bytes(golds_text({"task": "LaMP_2N", "golds": golds, "model": "personal"}))
    page = flow.top / "page.html"
    do("report", flow.run, "--data", flow.data, "--page", page)
    assert traces([page], ALL)
    done = erase_user(CANARY, flow.run)
    assert read_golds(lamp) == ("LaMP_2N", {"anna/q0": "work"})
    assert "sha256" in json.loads(lamp.read_text())
    assert not page.exists()
    assert page in {deed.path for deed in done.deeds}


@pytest.mark.parametrize(("old", "new"), [(b'"query": "asked-0"', b'"queri": "asked-0"'), (b'{"user"', b'["user"')])
def test_answers_beside_damaged_predictions_go_too(old: bytes, new: bytes, flow: Flow) -> None:
    path, lamp = (flow.run / "predictions" / f"personal.{kind}" for kind in ("jsonl", "lamp.json"))
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    golds = [{"id": name, "output": "work"} for name in ("anna/q0", "asked-0", "asked-1")]
    lamp.write_bytes(golds_text({"task": "LaMP_2N", "golds": golds, "model": "personal"}))
    done = erase_user(CANARY, flow.run)
    assert not path.exists()
    assert not lamp.exists()
    assert {(path, "removed; damaged"), (lamp, "removed; its predictions are damaged")} <= {
        (deed.path, deed.what) for deed in done.deeds
    }
    assert traces([found for found in flow.run.rglob("*") if found.is_file()], ALL) == {}


def test_records_with_checksums_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_records(path, [{"user": user, "n": n} for n, user in enumerate(("anna", "ben", "anna", "cleo"))])
    step = lines_out(path, lambda record: record["user"] == "anna")
    assert step is not None
    assert step.what == "2 lines taken out"
    step.act()
    assert [one["user"] for one in read_records(path, missing="", mend="")] == ["ben", "cleo"]
    step = lines_out(path, lambda record: True)
    assert step is not None
    assert step.what == "2 lines taken out, which were all"
    whole = path.read_bytes()
    step.act()
    assert not path.exists()
    path.write_bytes(whole.replace(b"ben", b"bem"))
    step = lines_out(path, lambda record: record["user"] == "cleo")
    assert step is not None
    assert step.what == "removed; damaged"


def test_what_is_left_of_an_analysis_is_sealed_again(flow: Flow) -> None:
    erase_user(CANARY, flow.run, also(flow))
    (found,) = (one for one in measured(flow.analysed) if one.group == "test")
    assert found.users == ("anna", "ben", "cleo")
    texts = read_texts(flow.analysed / "folders" / "test")
    assert list(texts) == ["anna", "ben", "cleo"]


def test_damaged_excerpts_go_whole(flow: Flow) -> None:
    path = flow.analysed / "folders" / "test" / "texts.json"
    path.write_bytes(path.read_bytes()[:-40])
    done = erase_user(CANARY, flow.run, also(flow))
    assert "damaged" in {deed.path: deed.what for deed in done.deeds}[path]
    assert not path.exists()


def test_what_is_left_of_a_comparison_is_sealed_again(flow: Flow) -> None:
    erase_user(CANARY, flow.run)
    folder = ComparisonFolder(flow.compared)
    results = load_results(folder)
    assert CANARY not in {user.id for user in results.users}
    done = [one for scored in results.scored.values() for one in scored]
    assert done
    assert all(one.predictions.keys() == results.golds.keys() for one in done)


def test_a_cache_in_use_is_not_pulled_away(flow: Flow) -> None:
    kind = next(path for path in flow.cache.iterdir() if path.is_dir())
    with FileLock(kind / "write.lock"), pytest.raises(StoreError, match="a training writes here"):
        erase_user(CANARY, flow.run)
    assert CANARY not in Tombstones(flow.run)
    with ShiftStore.open(flow.run / "personal.sqlite", readonly=True) as store:
        assert CANARY in store


def test_the_library_erases_and_brings_back(flow: Flow) -> None:
    perfit = PerFit.from_pretrained(flow.run)
    perfit.save_pretrained(flow.top / "copy")
    done = PerFit.from_pretrained(flow.top / "copy").erase(CANARY)
    assert flow.top / "copy" / "personal.sqlite" in {deed.path for deed in done.deeds}
    assert CANARY not in PerFit.from_pretrained(flow.top / "copy").users()
    with pytest.raises(StoreError, match="was erased from it"):
        perfit.save_pretrained(flow.top / "copy")
    assert CANARY in perfit.users()
    do("users", "export", CANARY, flow.top / "x.safetensors", "--run", flow.run)
    do("users", "import", flow.top / "x.safetensors", "--run", flow.top / "copy")
    assert CANARY not in Tombstones(flow.top / "copy")
    perfit.save_pretrained(flow.top / "copy")


def test_a_training_that_began_before_the_erasure_does_not_train_the_user(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = fitting._claim

    def late(belonging: Any, run: RunDirectory, data: Any) -> None:
        claim(belonging, run, data)
        Tombstones(run.path).put(CANARY, "done")

    monkeypatch.setattr(fitting, "_claim", late)
    perfit = PerFit.from_pretrained(flow.run)
    with pytest.raises(StoreError, match="was erased from it just now"):
        perfit.fit(read_dataset(flow.data), run=flow.run)


def test_checkpoints_of_all_are_not_taken_up_without_the_erased(tmp_path: Path) -> None:
    data, context = data_with_canary(), {"run": "r"}
    assert fitting._living(data, RunDirectory(tmp_path), context, print) is data
    assert context == {"run": "r"}
    Tombstones(tmp_path).put(CANARY, "done")
    said: list[dict[str, Any]] = []
    living = fitting._living(data, RunDirectory(tmp_path), context, said.append)
    assert [user.id for user in living.users] == ["anna", "ben", "cleo"]
    assert len(context["erased"]) == 1
    assert "1 of the data's users were erased" in said[0].text
    for user in ("anna", "ben", "cleo"):
        Tombstones(tmp_path).put(user, "done")
    with pytest.raises(DataError, match="all users of the data were erased"):
        fitting._living(data, RunDirectory(tmp_path), {}, print)


def test_a_comparison_does_not_learn_from_an_erased_other_user(flow: Flow) -> None:
    Tombstones(flow.compared).put("other-1", "done")
    compare = ("compare", flow.data, "--task", flow.task, "--base", flow.base, *SETTINGS, "--out", flow.compared)
    with pytest.raises(StoreError, match="stage 1 would learn from a user who was erased here"):
        do(*compare, "--methods", "base", "--seeds", "3")


def test_a_line_that_lost_its_query_does_not_stop_an_erasure(flow: Flow) -> None:
    path = flow.run / "predictions" / "collective.jsonl"
    content = path.read_bytes()
    assert CANARY.encode() in content
    path.write_bytes(content.replace(b'"query"', b'"quevy"'))
    done = erase_user(CANARY, flow.run, also(flow))
    assert not path.exists()
    assert path in {deed.path for deed in done.deeds}
    assert traces(flow.artifacts(), ALL) == {}
