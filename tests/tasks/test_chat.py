"""The task chat: turns before the prompt go through the template, the oldest go first, and nothing said is a control token."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit.data.audit import audit
from perfit.data.schema import Dataset, HistoryItem, Query, Turn, User
from perfit.errors import ConfigError, DataError
from perfit.tasks import CHAT, NEWS_HEADLINE, encode, get_task
from perfit.tasks.custom import task_from_mapping
from perfit.tasks.leaks import audit_arguments
from perfit.tasks.task import Example
from perfit.training.examples import answer_limit

TEMPLATE = (
    "{% for m in messages %}{% if loop.index0 and m.role == messages[loop.index0 - 1].role %}"
    "{{ raise_exception('roles take turns') }}{% endif %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
)
TURNS = (
    Turn("system", "be brief"),
    Turn("user", "the cat sat"),
    Turn("assistant", "on the mat"),
    Turn("user", "the dog ran"),
    Turn("assistant", "to the article"),
)
EXAMPLE = Example("e1", "", "and the sea", "", "rough and grey", TURNS)


@pytest.fixture(scope="module")
def chatting(toy: SimpleNamespace) -> Any:
    tokenizer = copy.deepcopy(toy.byte_level())
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def text_of(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids)))


def test_turns_stand_before_the_prompt(chatting: Any) -> None:
    encoded = encode(EXAMPLE, chatting, max_length=512, chat_template=True)
    assert text_of(chatting, encoded.prompt_ids) == (
        "<system>be brief\n<user>the cat sat\n<assistant>on the mat\n<user>the dog ran\n<assistant>to the article\n"
        "<user>and the sea\n<assistant>"
    )
    assert not encoded.truncated


@settings(max_examples=60, deadline=None)
@given(less=st.integers(0, 400))
def test_the_oldest_turns_go_first_then_the_end_of_the_message(chatting: Any, less: int) -> None:
    whole = encode(EXAMPLE, chatting, max_length=512, chat_template=True)
    most = len(whole.prompt_ids) + len(whole.answer_ids) - less
    least = encode(replace(EXAMPLE, body="", turns=TURNS[:1]), chatting, max_length=512, chat_template=True)
    if most < len(least.prompt_ids) + len(least.answer_ids):
        with pytest.raises(DataError, match="without any of the user's text"):
            encode(EXAMPLE, chatting, max_length=most, chat_template=True)
        return
    cut = encode(EXAMPLE, chatting, max_length=most, chat_template=True)
    assert len(cut.prompt_ids) + len(cut.answer_ids) <= most
    assert cut.answer_ids == whole.answer_ids
    assert cut.truncated is (less > 0)
    text = text_of(chatting, cut.prompt_ids)
    assert text.startswith("<system>be brief\n<user>")
    assert text.endswith("\n<assistant>")
    if "mat" in text:
        assert not less
    elif "article" in text:
        assert "<user>the dog ran\n<assistant>to the article\n<user>and the sea" in text
    else:
        assert text.count("<user>") == 1


def test_without_the_template_a_conversation_is_refused(chatting: Any) -> None:
    with pytest.raises(ConfigError, match="set chat_template: true"):
        encode(EXAMPLE, chatting, max_length=512)
    with pytest.raises(ConfigError, match="set chat_template to true"):
        answer_limit(CHAT, chatting, False)
    assert answer_limit(CHAT, chatting, True) == CHAT.max_new_tokens


def test_an_order_of_roles_that_the_template_refuses_is_one_line(chatting: Any) -> None:
    wrong = replace(EXAMPLE, turns=TURNS[:2])
    with pytest.raises(DataError, match="refuses these turns: system, user, user") as caught:
        encode(wrong, chatting, max_length=512, chat_template=True)
    assert "cat" not in str(caught.value)


def test_no_turn_writes_control_tokens(chatting: Any) -> None:
    named = replace(EXAMPLE, turns=(Turn("user", "an </s> inside"), Turn("assistant", "<s> and </s>")))
    ids = encode(named, chatting, max_length=512, chat_template=True).prompt_ids
    assert not {chatting.bos_token_id, chatting.eos_token_id} & set(ids)


def test_items_and_queries_become_turns() -> None:
    item = HistoryItem("0", {"message": "and the sea", "reply": " rough and grey"}, turns=TURNS)
    assert CHAT.history_example(item) == replace(EXAMPLE, id="0")
    assert CHAT.query_example(Query("e1", "and the sea", "rough and grey", turns=TURNS)) == EXAMPLE
    assert get_task("chat") is CHAT


def test_a_task_of_texts_refuses_conversations() -> None:
    item = HistoryItem("7", {"text": "and the sea", "title": "rough and grey"}, turns=TURNS)
    with pytest.raises(
        DataError, match=r"history item 7: it is the end of a conversation.*'news_headline' reads texts"
    ):
        NEWS_HEADLINE.history_example(item)


def test_a_task_of_one_s_own_may_be_a_chat() -> None:
    record = {"name": "own", "kind": "text", "prompt": "{input}", "input_field": "message", "answer_field": "reply"}
    assert task_from_mapping(record | {"chat": True}).chat
    assert not task_from_mapping(record).chat
    with pytest.raises(ConfigError, match=r"chat is 'yes' .str.; use true or false"):
        task_from_mapping(record | {"chat": "yes"})


def test_the_audit_finds_answers_in_earlier_turns() -> None:
    asked = Query("q", "what did the grey sea do", "it rose over the wall", turns=TURNS[:3])
    turns = (Turn("user", "What did the grey sea do"), Turn("assistant", "It rose over the Wall"))
    item = HistoryItem("0", {"message": "and then we left", "reply": "a good thing too"}, turns=turns)
    clean = Dataset((User("anna", (replace(item, turns=TURNS[:3]),), (asked,)), User("ben", (item,))), (User("cleo"),))
    assert not audit(clean, **audit_arguments(CHAT)).leaks
    for users, others in (
        ((User("anna", (item,), (asked,)),), ()),
        ((User("anna", (), (asked,)),), (User("c", (item,)),)),
    ):
        kinds = {finding.kind for finding in audit(Dataset(users, others), **audit_arguments(CHAT)).leaks}
        assert {kind.split("_")[0] for kind in kinds} == {"query", "answer"}
    pool = User("c", (), (replace(asked, id="p", input="and then", gold="we left", turns=turns),))
    assert audit(Dataset((User("anna", (), (asked,)),), (pool,)), **audit_arguments(CHAT)).leaks
