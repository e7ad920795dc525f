"""Conversations in records: what becomes the message, the reply and the turns before, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfit.data import read_dataset, write_jsonl
from perfit.data.in_memory import read_records
from perfit.data.schema import Turn
from perfit.errors import DataError

SYSTEM = {"role": "system", "content": "be brief"}
FIRST = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "good day"}]
ASKED = {"role": "user", "content": "how is the sea"}
REPLY = {"role": "assistant", "content": "rough and grey"}
BEFORE = (Turn("system", "be brief"), Turn("user", "hello there"), Turn("assistant", "good day"))


def record(messages: Any, /, **query: Any) -> dict[str, Any]:
    return {"user": "anna", "history": [{"messages": messages}], "queries": [query] if query else []}


def test_the_last_message_and_its_reply_are_texts_and_the_rest_goes_before() -> None:
    (user,) = read_records([record([SYSTEM, *FIRST, ASKED, REPLY], messages=[*FIRST, ASKED])]).users
    (item,), (query,) = user.history, user.queries
    assert item.fields == {"message": "how is the sea", "reply": "rough and grey"}
    assert item.turns == BEFORE
    assert (query.input, query.gold, query.turns) == ("how is the sea", None, BEFORE[1:])
    (user,) = read_records([record([ASKED, REPLY], messages=[*FIRST, ASKED, REPLY])]).users
    assert user.history[0].turns == ()
    assert user.queries[0].gold == "rough and grey"
    (user,) = read_records([record([ASKED, REPLY], messages=[ASKED], gold="calm")]).users
    assert user.queries[0].gold == "calm"


def test_a_written_conversation_is_read_back(tmp_path: Path) -> None:
    dataset = read_records([record([SYSTEM, *FIRST, ASKED, REPLY], messages=[*FIRST, ASKED], gold="calm")])
    write_jsonl(dataset, tmp_path / "chats.jsonl")
    again = read_dataset(tmp_path / "chats.jsonl")
    assert again.users == dataset.users
    assert again.fingerprint() == dataset.fingerprint()


def test_what_was_said_before_is_part_of_the_fingerprint() -> None:
    long, short = (read_records([record(messages)]) for messages in ([*FIRST, ASKED, REPLY], [ASKED, REPLY]))
    assert long.fingerprint() != short.fingerprint()
    plain = read_records([{"user": "anna", "history": [{"message": "how is the sea", "reply": "rough and grey"}]}])
    assert plain.fingerprint() == short.fingerprint()


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "messages are an empty list"),
        (["hello"], "messages[0] is text"),
        ([{**ASKED, "name": "x"}, REPLY], "messages[0] has the unknown field 'name'"),
        ([{**ASKED, "role": "tool"}, REPLY], "the role of messages[0] is none of system, user, assistant"),
        ([{**ASKED, "content": [{"type": "text"}]}, REPLY], "the content of messages[0] is a list, not text"),
        ([ASKED, SYSTEM, REPLY], "messages[1] is of the system and stands behind others"),
        ([REPLY], "the messages end with no user's message"),
        ([ASKED, REPLY, REPLY], "the messages end with no user's message"),
        ([ASKED], "the messages end with no reply of the assistant"),
    ],
)
def test_other_messages_are_refused_without_their_words(tmp_path: Path, messages: list[Any], said: str) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps(record(messages)) + "\n")
    with pytest.raises(DataError) as caught:
        read_dataset(file)
    assert said in str(caught.value)
    assert "line 1.history[0]" in str(caught.value)
    assert "sea" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("doubled", [{"input": "x"}, {"gold": "x"}])
def test_messages_and_what_they_bring_are_not_both_taken(doubled: dict[str, str]) -> None:
    with pytest.raises(DataError, match="stands beside messages"):
        read_records([record([ASKED, REPLY], messages=[ASKED, REPLY], **doubled)])


def test_a_text_beside_messages_that_they_bring_is_refused() -> None:
    raw = record([ASKED, REPLY])
    raw["history"][0]["reply"] = "another"
    with pytest.raises(DataError, match="'reply' stands beside messages"):
        read_records([raw])


def test_half_a_surrogate_pair_in_a_turn_is_found() -> None:
    with pytest.raises(DataError, match="surrogate"):
        read_records([record([{"role": "user", "content": "a\ud800"}, *FIRST[1:], ASKED, REPLY])])


def test_a_text_named_messages_is_a_text() -> None:
    (user,) = read_records([record("[{'role': 'system'}]")]).users
    assert user.history[0].turns == ()
    assert user.history[0].fields == {"messages": "[{'role': 'system'}]"}
