"""A run of the task chat, served: a conversation is the tokens that training made of it, and can be learnt from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from served_run import Site, site, write_chat_base
from small_base import CONFIG, note

from perfit.data.in_memory import read_records
from perfit.data.schema import User
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.serving.engine import Request
from perfit.serving.updating import Updates
from perfit.tasks import get_task
from perfit.training.examples import RowMaker

CHAT = replace(get_task("chat"), max_new_tokens=24)  # of its 256, which a tiny base all says
CHATTING = CONFIG.with_options(chat_template=True, max_length=160)


def conversation(seed: int, turns: int) -> list[dict[str, str]]:
    """A system's message and so many messages of the user, each with its reply."""
    chance = random.Random(seed)
    said = [{"role": role, "content": note(chance)} for role in ["user", "assistant"] * turns]
    return [{"role": "system", "content": "be brief"}, *said]


def record(name: str, split: str, seed: int) -> dict[str, Any]:
    history = [{"messages": conversation(seed + n, 1 + n % 2)} for n in range(4)]
    return {"user": name, "history": history, "split": split}


DATA = read_records([record("anna", "test", 10), record("ben", "test", 20), record("cleo", "other", 30)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chatting")
    perfit = PerFit.from_pretrained(write_chat_base(folder / "base"), CHATTING, task=CHAT)
    perfit.fit(DATA, run=folder / "run", listener=lambda event: None)
    return folder / "run"


@pytest.fixture(scope="module", params=["reference", "transformers"])
def chatting(request: pytest.FixtureRequest, run: Path) -> Iterator[Site]:
    with site(run, engine=request.param) as one:
        yield one


@pytest.fixture
def asked(chatting: Site, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the engine is asked."""
    seen: list[Request] = []
    submit = chatting.gateway.engine.submit

    def listening(request: Request, listener: Any = None) -> Any:
        seen.append(request)
        return submit(request, listener)

    monkeypatch.setattr(chatting.gateway.engine, "submit", listening)
    return seen


def rows_of(perfit: PerFit) -> RowMaker:
    return RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)


def test_a_conversation_is_the_tokens_of_training(chatting: Site, asked: list[Request]) -> None:
    trained = rows_of(chatting.perfit).history_rows(DATA.users[0])
    for place, row in enumerate(trained):
        messages = conversation(10 + place, 1 + place % 2)[:-1]
        said = chatting.post("/v1/chat/completions", {"user": "anna", "messages": messages, "max_tokens": 8}).json()
        assert asked[-1].prompt == row.prompt_ids
        assert said["perfit"]["shortened"] is False
        (wanted,) = chatting.perfit.generate([messages], ["anna"], max_new_tokens=8)
        assert said["choices"][0]["message"]["content"] == wanted


def test_limit_and_answer_are_those_of_generate(chatting: Site, asked: list[Request]) -> None:
    messages = conversation(77, 2)[:-1]
    users = ["anna", "ben", "collective", "base"]
    wanted = chatting.perfit.generate([messages] * 4, users, listener=lambda event: None)
    for user, text in zip(users, wanted, strict=True):
        said = chatting.post("/v1/chat/completions", {"user": user, "messages": messages}).json()
        assert said["choices"][0]["message"]["content"] == text
        assert chatting.post("/v1/tasks/answer", {"user": user, "messages": messages}).json()["answer"] == text.strip()
        assert {one.max_new_tokens for one in asked[-2:]} == {chatting.perfit.answer_limit()}
    assert len(set(wanted)) > 1


def test_what_is_too_long_is_shortened_as_in_training_and_says_so(chatting: Site, asked: list[Request]) -> None:
    messages = conversation(5, 9)
    item = read_records([{"user": "a", "history": [{"messages": messages}]}]).users[0]
    (row,) = rows_of(chatting.perfit).history_rows(item)
    body = {"user": "ben", "messages": messages[:-1]}
    for path in ("/v1/chat/completions", "/v1/tasks/answer"):
        said = chatting.post(path, body).json()
        assert asked[-1].prompt == row.prompt_ids
        assert said["perfit"]["shortened"] is True
    text = chatting.perfit.backbone.tokenizer.decode(list(row.prompt_ids))
    assert "be brief" in text
    assert messages[1]["content"] not in text
    assert messages[-2]["content"] in text
    stream = chatting.post("/v1/chat/completions", body | {"stream": True, "max_tokens": 2}).text
    assert '"shortened":true' in stream


def test_a_text_alone_is_a_conversation_of_one(chatting: Site, asked: list[Request]) -> None:
    alone = [{"role": "user", "content": "river stone"}]
    for body in ({"input": "river stone"}, {"messages": alone}):
        assert chatting.post("/v1/tasks/answer", {"user": "anna"} | body).status_code == 200
    assert asked[0].prompt == asked[1].prompt
    both = chatting.post("/v1/tasks/answer", {"user": "anna", "input": "a", "messages": alone})
    assert (both.status_code, both.json()["error"]["param"]) == (400, "input")


def test_a_task_of_texts_takes_no_messages(shared_site: Site) -> None:
    alone = [{"role": "user", "content": "river stone"}]
    refused = shared_site.post("/v1/tasks/answer", {"user": "anna", "messages": alone})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
    item = {"messages": [*alone, {"role": "assistant", "content": "work"}]}
    assert shared_site.http.put("/v1/users/dora/history", json={"history": [item]}).status_code == 400


def test_conversations_are_kept_judged_and_trained_on(chatting: Site) -> None:
    gateway = chatting.gateway
    history = [{"messages": conversation(50 + n, 1 + n % 2)} for n in range(6)]
    put = chatting.http.put("/v1/users/dora/history", json={"history": history})
    assert put.json() == {"items": 6, "held_out": 1, "notes": []}
    learnt = gateway.items.of("dora")
    wanted = read_records([{"user": "dora", "history": history}]).users[0].history
    own = [wanted[place] for place in (0, 1, 2, 3, 5)]
    assert [(item.fields, item.turns) for item in learnt.training.history] == [(one.fields, one.turns) for one in own]
    rows = rows_of(chatting.perfit)
    mine, theirs = rows.history_rows(learnt.training), rows.history_rows(User("dora", tuple(own)))
    assert [row.prompt_ids for row in mine] == [row.prompt_ids for row in theirs]

    first = conversation(50, 1)
    told = {"messages": first[:-1], "verdict": "edited", "answer": first[-1]["content"], "text": "grey and calm"}
    assert chatting.post("/v1/users/dora/feedback", told).json()["items"] == 6  # the wrong reply is gone
    replies = [item.fields["reply"] for item in gateway.items.of("dora").training.history]
    assert first[-1]["content"] not in replies
    assert replies[-1] == "grey and calm"
    assert gateway.items.of("dora").training.history[-1].turns == own[0].turns

    gateway.jobs.ask("dora")
    assert Updates(chatting.perfit, RunDirectory(gateway.run), gateway.notebook, lambda: None).run_one()
    done = chatting.http.get("/v1/users/dora/personalize").json()
    assert done["state"] in ("live", "kept back"), done
    chatting.http.delete("/v1/users/dora")
