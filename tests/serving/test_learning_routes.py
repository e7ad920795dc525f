"""Learning while serving: what is told, trained, judged, put live, taken back and erased."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch
from served_run import PROMPT, Site, site
from small_base import TASK, person

from perfit.belonging import open_store
from perfit.data.schema import User
from perfit.edits.shift import Shift, new_shift, to_stored
from perfit.errors import UnknownUserError
from perfit.notebook import items as kept_items
from perfit.notebook import versions as kept_versions
from perfit.notebook.database import Notebook
from perfit.notebook.items import Items
from perfit.notebook.jobs import Jobs
from perfit.notebook.versions import Versions
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.serving import publishing, worker_process
from perfit.serving.keys import Keys, Tenant
from perfit.serving.receipts import read_receipt
from perfit.serving.updating import Updates
from perfit.serving.worker import WorkerOrders
from perfit.store.digest import shift_digest
from perfit.store.export import read_export
from perfit.store.payload import StoredShift

CANARY = "canary-5e1d"


def history(name: str, items: int = 12) -> list[dict[str, str]]:
    """A history of one taste, which a shift can learn: whatever it is, it is travel."""
    return [{"text": item.fields["text"], "folder": "travel"} for item in person(name, history=items).history]


def ask_for(one: Site, user: str) -> dict[str, Any]:
    """Queue a training, do in this process what waits, as the worker does, and say what became of it."""
    one.gateway.jobs.ask(user)
    updates = Updates(one.perfit, RunDirectory(one.gateway.run), one.gateway.notebook, lambda: None)
    while updates.run_one():
        pass
    found: dict[str, Any] = one.http.get(f"/v1/users/{user}/personalize").json()
    return found


def answer(one: Site, user: str) -> str:
    said: str = one.post("/v1/completions", {"user": user, "prompt": PROMPT, "max_tokens": 8}).json()["choices"][0][
        "text"
    ]
    return said


def test_a_user_who_comes_is_trained_as_personalize_does(own_run: Path) -> None:
    with site(own_run) as one:
        assert one.post("/v1/completions", {"user": "dora", "prompt": PROMPT}).status_code == 404
        put = one.http.put("/v1/users/dora/history", json={"history": history("dora")})
        assert put.json() == {"items": 12, "held_out": 2, "notes": []}
        done = ask_for(one, "dora")
        assert done["state"] == "live"
        assert done["result"]["loss_after"] < done["result"]["loss_before"]
        learnt = one.gateway.items.of("dora")
        assert [len(learnt.training.history), len(learnt.held_out.history)] == [10, 2]
        served = one.gateway.people.stored("dora")
        plain = PerFit.from_pretrained(own_run)
        plain.personalize(User("dora", learnt.training.history), listener=lambda event: None)
        assert shift_digest(plain.owners.personal.stored("dora").tensors) == shift_digest(served.tensors)
        before = one.perfit.shift_of("anna")
        assert answer(one, "dora") != answer(one, "collective")
        torch.testing.assert_close(one.perfit.shift_of("anna").R, before.R, rtol=0, atol=0)


def distance(one: PerFit, user: str, other: Shift) -> float:
    """How far a user's second shift is from another, as maps."""
    mine = one.shift_of(user)
    return float((mine.R.mT @ mine.D - other.R.mT @ other.D).norm())


def test_feedback_alone_adds_to_what_was_learnt_elsewhere(own_run: Path) -> None:
    """One correction of a user whose run was trained on a history must not stand in for that history."""
    with site(own_run) as one:
        trained, (_, shared) = one.perfit.shift_of("anna"), one.perfit.collective  # type: ignore[misc]
        told = {"input": "river stone", "verdict": "edited", "text": "travel"}
        assert one.post("/v1/users/anna/feedback", told).status_code == 200
        done = ask_for(one, "anna")
        assert done["state"] == "live"
        assert done["result"]["start"] == "the user's own shift from outside serving"
        assert 0 < distance(one.perfit, "anna", trained) < distance(one.perfit, "anna", shared)
        (once, answers) = one.perfit.shift_of("anna"), one.perfit.shift_of("ben")
        # The next training begins there again: twice the same items are one shift, and not one that went twice as far.
        assert ask_for(one, "anna")["result"]["start"] == done["result"]["start"]
        assert distance(one.perfit, "anna", once) == pytest.approx(0, abs=1e-4)
        torch.testing.assert_close(one.perfit.shift_of("ben").R, answers.R, rtol=0, atol=0)
        # Who gives the history is trained on it as anybody is.
        one.http.put("/v1/users/anna/history", json={"history": history("anna")})
        again = ask_for(one, "anna")
        assert "start" not in again["result"]
        plain = PerFit.from_pretrained(own_run)
        plain.personalize(one.gateway.items.of("anna").training, listener=lambda event: None)
        kept = one.gateway.versions.stored("anna", again["result"]["version"])
        assert shift_digest(plain.owners.personal.stored("anna").tensors) == shift_digest(kept.tensors)


def test_feedback_that_is_no_label_names_its_field(shared_site: Site) -> None:
    for verdict, name in (("edited", "text"), ("accepted", "answer"), ("rejected", "answer")):
        told = {"input": "river stone", "verdict": verdict, "text": "nonsense", "answer": "nonsense"}
        refused = shared_site.post("/v1/users/dora/feedback", told)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
        assert "none of the task's 3 labels" in refused.json()["error"]["message"]
        assert "nonsense" not in refused.text
    assert not shared_site.gateway.notebook.knows("dora")


def test_feedback_alone_of_a_newcomer_begins_at_the_shared_shift(own_run: Path) -> None:
    with site(own_run) as one:
        for number, verdict in enumerate(("accepted", "edited")):
            told = {"input": f"river stone {number}", "verdict": verdict, "answer": "travel", "text": "work"}
            assert one.post("/v1/users/dora/feedback", told).status_code == 200
        assert one.gateway.items.of_feedback_alone("dora", one.perfit.task)
        assert "start" not in ask_for(one, "dora")["result"]
        assert "start" not in ask_for(one, "dora")["result"]


def test_an_update_that_is_worse_is_not_put_live_and_says_so(own_run: Path) -> None:
    with site(own_run) as one:
        one.http.put("/v1/users/dora/history", json={"history": history("dora", 15)})
        assert ask_for(one, "dora")["state"] == "live"
        live, said = one.gateway.people.stored("dora"), answer(one, "dora")
        # What is trained from now on says work, what is held out still says travel.
        wrong = [
            item if place % 5 == 4 else item | {"folder": "work"} for place, item in enumerate(history("dora", 15))
        ]
        one.http.put("/v1/users/dora/history", json={"history": wrong})
        done = ask_for(one, "dora")
        assert done["state"] == "kept back"
        assert "worse on the held-out items" in done["result"]["problem"]
        assert done["result"]["loss_after"] > done["result"]["loss_before"]
        assert shift_digest(one.gateway.people.stored("dora").tensors) == shift_digest(live.tensors)
        assert answer(one, "dora") == said
        versions = one.http.get("/v1/users/dora/versions").json()["data"]
        assert [version["state"] for version in versions] == ["live", "kept back"]
        # Whoever wants it all the same takes it.
        assert one.post("/v1/users/dora/rollback", {"version": 2}).json() == {"live": 2}
        versions = one.http.get("/v1/users/dora/versions").json()["data"]
        assert [version["state"] for version in versions] == ["kept", "live"]


def test_what_is_held_out_is_never_trained_on_and_stays_held_out(own_run: Path) -> None:
    with Notebook(own_run) as notebook:
        items = Items(notebook)
        first = person("dora", history=12)
        assert items.replace(first) == (12, 2)
        held = {item.fields["text"] for item in items.of("dora").held_out.history}
        # The oldest are gone, and a new one has come first: who was held out still is.
        later = User("dora", (*person("new", history=1).history, *first.history[3:]))
        items.replace(later)
        texts = {item.fields["text"] for item in items.of("dora").held_out.history}
        assert held <= texts
        assert not texts & {item.fields["text"] for item in items.of("dora").training.history}


def test_the_same_item_twice_is_held_out_twice_or_never(own_run: Path) -> None:
    """A copy of a held-out item among those that are trained on would let an update know what it is judged by."""
    with Notebook(own_run) as notebook:
        items, whole = Items(notebook), person("dora", history=10).history

        def apart() -> bool:
            both = items.of("dora")
            texts = [{item.fields["text"] for item in part.history} for part in (both.training, both.held_out)]
            return not texts[0] & texts[1]

        items.replace(User("dora", (*whole[:4], whole[0], whole[9], *whole[4:9], whole[9], whole[8])))
        assert apart()
        for item in (*whole, *whole):
            items.judge("dora", "accepted", item, TASK)
            assert apart()


def test_feedback_becomes_history_and_a_rejected_answer_leaves_it(own_run: Path) -> None:
    with site(own_run) as one:

        def said(verdict: str, answer_: str, **more: str) -> dict[str, Any]:
            body = {"input": "a storm", "verdict": verdict, "answer": answer_} | more
            found: dict[str, Any] = one.post("/v1/users/dora/feedback", body).json()
            return found

        def learnt() -> list[str]:
            both = one.gateway.items.of("dora")
            return sorted(item.fields["folder"] for item in (*both.training.history, *both.held_out.history))

        assert said("accepted", "work") == {"items": 1, "held_out": 0, "feedback": 1}
        assert learnt() == ["work"]
        assert said("edited", "work", text=" family ")["items"] == 1  # spelled as the task does, and work was wrong
        assert learnt() == ["family"]
        said("rejected", "family")
        assert learnt() == []
        assert said("accepted", "no label")["error"]["type"] == "invalid_request_error"
        assert said("liked", "work")["error"]["param"] == "verdict"
        assert (
            one.post("/v1/users/dora/feedback", {"verdict": "edited", "input": "a"}).json()["error"]["param"] == "text"
        )
        assert learnt() == []


def test_one_text_is_one_item_however_it_is_written(own_run: Path) -> None:
    """Training reads composed texts and the task's spelling: what looks the same there is held out together, and goes."""
    with site(own_run) as one:
        listed = [{"text": "cafe\u0301 noir", "folder": " work "}, {"text": "tea", "folder": "family"}]
        one.http.put("/v1/users/dora/history", json={"history": listed})
        kept = one.gateway.items.of("dora").training.history
        assert [dict(item.fields) for item in kept] == [
            {"text": "caf\u00e9 noir", "folder": "work"},
            {"text": "tea", "folder": "family"},
        ]
        said = {"input": "caf\u00e9 noir", "verdict": "rejected", "answer": "work"}
        assert one.post("/v1/users/dora/feedback", said).json()["items"] == 1
        said = {"input": "te\u0301", "verdict": "accepted", "answer": "work"}
        assert one.post("/v1/users/dora/feedback", said).json()["items"] == 2
        said = {"input": "t\u00e9", "verdict": "rejected", "answer": "work"}
        assert one.post("/v1/users/dora/feedback", said).json()["items"] == 1


def test_feedback_is_bounded_and_says_so(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_items, "MOST", 3)
    with site(own_run) as one:

        def said(text: str, verdict: str = "accepted") -> Any:
            body = {"input": text, "verdict": verdict, "answer": "work"}
            return one.post("/v1/users/dora/feedback", body)

        assert [said(text).status_code for text in "abc"] == [200] * 3
        refused = said("d")
        assert refused.status_code == 400
        assert "PUT a shorter history" in refused.json()["error"]["message"]
        assert one.gateway.items.counts("dora") == {"items": 3, "held_out": 0, "feedback": 3}
        assert one.gateway.items.counts("anna")["items"] == 0
        # A verdict that makes room is taken, and the oldest verdicts make room for the newest.
        assert said("a", "rejected").json() == {"items": 2, "held_out": 0, "feedback": 3}
        assert said("d").json()["items"] == 3


@pytest.mark.parametrize(
    "listed",
    [[], "x", [1], [{"text": "a"}], [{"text": "a", "folder": "elsewhere"}], [{"text": ["a"], "folder": "work"}]],
)
def test_a_history_that_cannot_be_learnt_from_changes_nothing(shared_site: Site, listed: object) -> None:
    found = shared_site.http.put("/v1/users/dora/history", json={"history": listed})
    assert found.status_code == 400, found.text
    assert not shared_site.gateway.notebook.knows("dora")


def test_nobody_and_nothing_cannot_learn(own_run: Path) -> None:
    with site(own_run) as one:
        for user in ("base", "collective"):
            assert one.post(f"/v1/users/{user}/feedback", {"verdict": "accepted"}).status_code == 400
        assert one.post("/v1/users/anna/personalize", {}).json()["error"]["code"] == "no_training"
        assert one.http.get("/v1/users/anna/personalize").status_code == 404
        assert one.http.get("/v1/users/nobody/versions").status_code == 404
        assert one.http.get("/v1/users/nobody/shift").status_code == 404
        assert one.http.delete("/v1/users/nobody").status_code == 404
        missing = one.post("/v1/users/anna/rollback", {"version": 7})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "version_not_found")
        assert one.post("/v1/users/nobody/rollback", {"version": 7}).json()["error"]["code"] == "user_not_found"
        assert one.post("/v1/users/anna/rollback", {}).json()["error"]["param"] == "version"
        assert one.post("/v1/users/anna/rollback", {"version": 1}).json() == {"live": 1}


def test_ids_are_data_and_never_paths(own_run: Path) -> None:
    with site(own_run) as one:
        before = {path.name for path in own_run.iterdir()}
        for user in (
            "../../etc/passwd",
            "a/b",
            "a%2Fb",
            "\u202eevil",
            "a" * 300,
            "history",
            "x/history",
            "ß 漢字 😀",
            "'; --",
        ):
            path = f"/v1/users/{quote(user, safe='')}"
            assert one.http.put(f"{path}/history", json={"history": history("dora", 3)}).status_code == 200, user
            assert one.http.get(f"{path}/versions").json()["learnt_from"]["items"] == 3
            assert one.gateway.notebook.knows(user)
            assert one.http.delete(path).json()["erased"]
            assert not one.gateway.notebook.knows(user)
        assert {path.name for path in own_run.iterdir()} <= before | {"erased.json"}


def test_an_id_is_the_whole_of_its_part_of_the_address(own_run: Path) -> None:
    """A line break at its end is a part of it; nobody has the empty id."""
    with site(own_run) as one:
        said = {"input": "a storm", "verdict": "accepted", "answer": "work"}
        for user in ("anna\n", "\nanna", "an\nna", "anna\r", "anna\0"):
            path = f"/v1/users/{quote(user, safe='')}"
            assert one.http.delete(path).status_code == 404, user
            assert one.post(f"{path}/feedback", said).status_code == 200
            assert one.gateway.notebook.knows(user)
            assert not one.gateway.notebook.knows("anna")
            assert one.http.delete(path).json()["erased"]
        assert "anna" in one.perfit.users()
        assert one.post("/v1/users//feedback", said).json()["error"]["param"] == "user"
        assert not one.gateway.notebook.knows("")


def test_requests_in_flight_keep_their_version(own_run: Path) -> None:
    """A stream that began before a swap ends as it began; the next request has the new version, and its receipt says so."""
    with site(own_run) as one:
        body = {"user": "anna", "prompt": PROMPT, "max_tokens": 40}
        whole = one.post("/v1/completions", body)
        old = whole.json()["choices"][0]["text"]
        other = StoredShift(
            to_stored(new_shift((2, 3, 32), init="loreft", generator=torch.Generator().manual_seed(5))),
            {"strength": 1.0},
        )
        other.tensors["D"] *= 20
        text, swapped = "", False
        with one.http.stream("POST", "/v1/completions", json=body | {"stream": True}) as parts:
            for line in parts.iter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
                if not swapped:
                    publishing.publish(
                        RunDirectory(own_run),
                        one.gateway.versions,
                        publishing.Publication("anna", other, {}, live=True),
                        seconds=5,
                    )
                    swapped = True
        assert text == old
        after = one.post("/v1/completions", body)
        assert after.json()["choices"][0]["text"] != old
        key = one.gateway.notebook.key
        receipts = [read_receipt(each.headers["x-perfit-receipt"], key) for each in (whole, after)]
        assert [receipt["version"] for receipt in receipts] == [1, 2]
        assert receipts[0]["user"] != receipts[1]["user"]
        assert one.post("/v1/users/anna/rollback", {"version": 1}).json() == {"live": 1}
        assert one.post("/v1/completions", body).json()["choices"][0]["text"] == old


def test_a_shift_put_live_beside_the_server_has_a_number_of_its_own(own_run: Path) -> None:
    """What ``perfit users import`` puts live is no version yet: it must not pass for one that is kept."""
    with site(own_run) as one:
        made = [StoredShift(to_stored(new_shift((2, 3, 32), init="loreft", generator=seeded(n))), {}) for n in (5, 6)]
        publishing.publish(
            RunDirectory(own_run),
            one.gateway.versions,
            publishing.Publication("anna", made[0], {}, live=True),
            seconds=5,
        )
        first = one.gateway.versions.of("anna")[0].digest
        with open_store(RunDirectory(own_run), readonly=False) as store:
            store.put("anna", made[1].tensors, {})
        listed = one.http.get("/v1/users/anna/versions").json()["data"]
        assert [(each["version"], each["state"]) for each in listed] == [(1, "kept"), (2, "kept"), (3, "live")]
        said = one.post("/v1/completions", {"user": "anna", "prompt": PROMPT, "max_tokens": 1})
        receipt = read_receipt(said.headers["x-perfit-receipt"], one.gateway.notebook.key)
        assert (receipt["version"], receipt["user"]) == (3, listed[2]["digest"])
        assert one.post("/v1/users/anna/rollback", {"version": 1}).json() == {"live": 1}
        assert shift_digest(one.gateway.people.stored("anna").tensors) == first
        after = [(each["version"], each["state"]) for each in one.http.get("/v1/users/anna/versions").json()["data"]]
        assert after == [(1, "live"), (2, "kept"), (3, "kept")]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_export_is_the_live_shift_and_names_its_base(own_run: Path, tmp_path: Path) -> None:
    with site(own_run) as one:
        found = one.http.get("/v1/users/ben/shift")
        path = tmp_path / "ben.safetensors"
        path.write_bytes(found.content)
        user, tensors, parts = read_export(path)
        assert user == "ben"
        assert found.headers["etag"] == f'"{shift_digest(tensors)}"'
        assert parts["identity"] == one.perfit.identity.as_dict()
        with open_store(RunDirectory(own_run)) as store:
            store.export_user("ben", tmp_path / "own.safetensors")
        same = read_export(tmp_path / "own.safetensors")
        assert (user, parts) == (same[0], same[2])
        assert shift_digest(tensors) == shift_digest(same[1])


def planted(run: Path, *canaries: str) -> list[str]:
    """Files of a run in which a canary stands in any byte."""
    return [
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and any(canary.encode() in path.read_bytes() for canary in canaries)
    ]


def test_deleting_leaves_no_byte_and_names_what_stage_1_keeps(own_run: Path) -> None:
    user = f"user-{CANARY}"
    with site(own_run) as one:
        items = [item | {"text": f"{item['text']} {CANARY}"} for item in history("dora", 30)]
        one.http.put(f"/v1/users/{user}/history", json={"history": items})
        one.post(
            f"/v1/users/{user}/feedback",
            {"input": f"storm {CANARY}", "verdict": "edited", "answer": "work", "text": "travel"},
        )
        assert ask_for(one, user)["state"] == "live"
        one.http.put(f"/v1/users/{user}/history", json={"history": items[:20]})
        ask_for(one, user)
        one.gateway.jobs.ask(user)
        digest = one.http.get(f"/v1/users/{user}/shift").headers["etag"].strip('"')
        assert {"serving.sqlite", "personal.sqlite"} <= set(planted(own_run, CANARY, digest))
        others = {name: answer(one, name) for name in ("anna", "ben")}

        gone = one.http.delete(f"/v1/users/{user}")
        assert gone.status_code == 200
        assert {done["file"] for done in gone.json()["done"]} >= {"serving.sqlite", "personal.sqlite"}
        kept = [left for left in gone.json()["not_reached"] if left["what"] == "collective.safetensors"]
        assert "only a new run is without" in kept[0]["why"]
        assert str(own_run.parent) not in gone.text
        assert planted(own_run, CANARY, digest) == []
        for path in ("shift", "versions", "personalize"):
            assert one.http.get(f"/v1/users/{user}/{path}").status_code == 404
        assert one.post("/v1/completions", {"user": user, "prompt": PROMPT}).status_code == 404
        assert one.gateway.jobs.take() is None
        assert {name: answer(one, name) for name in ("anna", "ben")} == others


def test_who_is_erased_while_training_does_not_come_back(own_run: Path) -> None:
    with site(own_run) as one:
        one.http.put("/v1/users/dora/history", json={"history": history("dora")})
        one.gateway.jobs.ask("dora")
        deleted = []

        def pause() -> None:
            if not deleted:
                deleted.append(one.http.delete("/v1/users/dora").status_code)

        updates = Updates(one.perfit, RunDirectory(own_run), one.gateway.notebook, pause)
        assert updates.run_one()
        assert deleted == [200]
        assert "dora" not in one.perfit.users()
        assert planted(own_run, "dora") == []
        # Who comes back by an own request is welcome.
        one.http.put("/v1/users/dora/history", json={"history": history("dora")})
        assert ask_for(one, "dora")["state"] == "live"


def test_an_erased_user_in_flight_is_cut_off(own_run: Path) -> None:
    with site(own_run) as one:
        body = {"user": "anna", "prompt": PROMPT, "max_tokens": 900, "stream": True}
        with one.http.stream("POST", "/v1/completions", json=body) as parts:
            lines = parts.iter_lines()
            next(lines)
            eraser = threading.Thread(target=lambda: one.http.delete("/v1/users/anna"))
            eraser.start()
            rest = list(lines)
            eraser.join()
        assert any('"cancelled"' in line for line in rest)
        assert "data: [DONE]" not in rest
        assert not one.gateway.people._held


def test_the_command_line_erases_the_notebook_too(own_run: Path) -> None:
    from perfit.erasure import erase_user

    with Notebook(own_run) as notebook:
        Items(notebook).replace(User(CANARY, person("dora").history))
    assert planted(own_run, CANARY) == ["serving.sqlite"]
    erase_user(CANARY, own_run)
    assert planted(own_run, CANARY) == []


def test_a_worker_process_trains_and_is_ended_with_its_server(own_run: Path) -> None:
    with site(own_run, learn=1.0) as one:
        one.http.put("/v1/users/dora/history", json={"history": history("dora")})
        asked = one.post("/v1/users/dora/personalize", {})
        assert (asked.status_code, asked.json()["state"]) == (202, "queued")
        assert one.post("/v1/users/dora/personalize", {}).json()["job"] == asked.json()["job"]
        until = time.monotonic() + 240
        while (found := one.http.get("/v1/users/dora/personalize").json())["state"] in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert found["state"] == "live", found
        assert answer(one, "dora") != answer(one, "collective")
        assert one.gateway.worker is not None
        pid = one.gateway.worker.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_cannot_be_started_is_started_later(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine short of memory or files now must not end all training until the server is started again."""
    monkeypatch.setattr(worker_process, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(worker_process, "_AGAIN_SECONDS", 0.01)
    tries: list[int] = []

    def start(*given: object, **more: object) -> None:
        tries.append(1)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(worker_process.subprocess, "Popen", start)
    worker = worker_process.WorkerProcess(WorkerOrders(str(own_run), 1.0, None, {}), lambda: 1)
    try:
        until = time.monotonic() + 20
        while len(tries) < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        worker.close()


def test_what_goes_wrong_with_a_training_names_no_place_of_the_server(own_run: Path) -> None:
    with site(own_run) as one:
        one.http.put("/v1/users/dora/history", json={"history": history("dora")})
        publish = publishing.publish

        def busy(*given: Any, **more: Any) -> int | None:
            return publish(*given, **(more | {"seconds": 0.0}))

        with RunDirectory(own_run).locked(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(publishing, "publish", busy)
            done = ask_for(one, "dora")
        assert done["state"] == "failed"
        assert str(own_run.parent) not in json.dumps(done)
        assert "try again" in done["result"]["problem"]


def test_erasing_lets_go_of_what_is_held_for_every_tenant(own_run: Path) -> None:
    tenants = [Tenant(name, users=("*",)) for name in ("bank", "shop")]
    key = hashlib.sha256(b"key").hexdigest()
    with site(own_run, keys=Keys([Tenant("first", (key,), ("*",)), *tenants])) as one:
        held = [one.gateway.people.hold(name, "anna") for name in ("bank", "shop")]
        other = one.gateway.people.hold("shop", "ben")
        wiped: list[tuple[str, str]] = []
        forget = one.gateway.engine.forget
        one.gateway.engine.forget = lambda *whom: wiped.append(whom) or forget(*whom)  # type: ignore[method-assign]
        assert one.http.delete("/v1/users/anna", headers={"authorization": "Bearer key"}).status_code == 200
        for version in held:
            assert version is not None
            with pytest.raises(UnknownUserError):
                one.gateway.people.personal(version)
        assert other is not None
        one.gateway.people.personal(other)
        hidden = one.gateway.people.hidden
        mark = one.gateway.notebook.mark("anna")
        assert wiped == [(name, hidden(name, mark)) for name in ("first", "bank", "shop")]


def test_a_killed_workers_job_is_taken_up_and_given_up_after_three(own_run: Path) -> None:
    with Notebook(own_run) as notebook:
        jobs, items = Jobs(notebook), Items(notebook)
        items.replace(person("dora"))
        jobs.ask("dora")
        for _ in range(3):
            taken = jobs.take()
            assert taken is not None
            assert jobs.take() is None
            jobs.take_up()
        found = jobs.latest("dora")
        assert found is not None
        assert (found.state, jobs.waiting()) == ("failed", 0)


def test_versions_are_kept_in_number_and_never_the_live_one_is_lost(own_run: Path) -> None:
    with Notebook(own_run) as notebook:
        versions, digests = Versions(notebook), []
        for seed in range(14):
            stored = StoredShift(to_stored(new_shift((1, 2, 8), generator=torch.Generator().manual_seed(seed))), {})
            digests.append(shift_digest(stored.tensors))
            assert versions.add("dora", stored, digests[-1], state="kept", note={}) == seed + 1
            versions.prune("dora", digests[0])
        numbers = [version.number for version in versions.of("dora")]
        assert numbers == [1, *range(5, 15)]
        assert versions.of("ben") == []


def test_publishing_forgets_the_oldest_and_never_what_is_live(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_versions, "MOST", 2)
    with Notebook(own_run) as notebook:
        versions = Versions(notebook)

        def publish(seed: int, live: bool) -> list[int]:
            made = StoredShift(to_stored(new_shift((2, 3, 32), generator=seeded(seed))), {})
            one = publishing.Publication("anna", made, {}, live=live)
            publishing.publish(RunDirectory(own_run), versions, one, seconds=5)
            return [version.number for version in versions.of("anna")]

        assert publish(1, True) == [1, 2]
        assert publish(2, True) == [2, 3]
        # What is kept back pushes out what is kept back, not what is live.
        assert [publish(seed, False) for seed in (3, 4, 5)] == [[3, 4], [3, 4, 5], [3, 5, 6]]


@pytest.mark.parametrize("by", ["a server that starts", "the same command"])
def test_an_erasure_that_was_cut_off_is_finished_by(own_run: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from perfit.erasure import erase_user

    with Notebook(own_run) as notebook:
        Items(notebook).replace(User(CANARY, person("dora", history=400).history))
    with monkeypatch.context() as patch:
        patch.setattr(Notebook, "_rewrite", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            erase_user(CANARY, own_run)
    if by == "the same command":
        assert erase_user(CANARY, own_run).went_on
    else:
        with site(own_run):
            pass
    with Notebook(own_run) as notebook:
        assert not notebook.erasing()
    assert planted(own_run, CANARY) == []
