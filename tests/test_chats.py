"""Conversations from file to answer: what is asked is what was trained, for a file's queries and a caller's messages alike."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from small_base import CONFIG, note, write_base
from transformers import AutoTokenizer

from perfit import PerFit
from perfit.data import read_dataset, write_jsonl
from perfit.data.in_memory import read_records
from perfit.errors import ConfigError, DataError
from perfit.training.examples import RowMaker

TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}<s>assistant\n"


def records() -> list[dict[str, Any]]:
    chance = random.Random(3)

    def chat(turns: int) -> list[dict[str, str]]:
        roles = ["user", "assistant"] * turns
        return [{"role": role, "content": note(chance)} for role in roles]

    def user(name: str, split: str) -> dict[str, Any]:
        history = [{"messages": chat(1 + n % 2)} for n in range(4)]
        return {"user": name, "history": history, "queries": [{"messages": chat(2)}], "split": split}

    return [user("anna", "test"), user("ben", "test"), user("cleo", "other")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_base(tmp_path_factory.mktemp("chatting"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_on_conversations_answers_messages(base: Path, tmp_path: Path) -> None:
    write_jsonl(read_records(records()), tmp_path / "chats.jsonl")
    data = read_dataset(tmp_path / "chats.jsonl")
    perfit = PerFit.from_pretrained(base, task="chat")
    assert perfit.config.chat_template
    config = CONFIG.with_options(chat_template=True)
    PerFit.from_pretrained(base, task="chat", config=config).fit(data, run=tmp_path / "run")
    run = PerFit.from_pretrained(tmp_path / "run")
    query = data.users[0].queries[0]
    messages = [{"role": turn.role, "content": turn.content} for turn in query.turns]
    messages.append({"role": "user", "content": query.input})
    asked = [query, messages, query, query.input]
    answers = run.generate(asked, ["anna", "anna", "base", "anna"], max_new_tokens=12)
    assert answers[0] == answers[1]
    assert len({answers[0], answers[2]}) == 2  # the shift does something
    (alone,) = run.generate([messages], ["anna"], max_new_tokens=12)
    assert alone == answers[0]
    rows = RowMaker(run.task, run.backbone.tokenizer, run.config)
    assert rows.prompt(run.query(messages)).prompt_ids == rows.query_rows(data.users[0])[0].prompt_ids


def test_messages_that_are_no_question_are_refused(base: Path) -> None:
    perfit = PerFit.from_pretrained(base, task="chat")
    reply = {"role": "assistant", "content": "grey"}
    with pytest.raises(ConfigError, match=r"prompts\[0\]: the messages end with the assistant's reply"):
        perfit.generate([[{"role": "user", "content": "sea"}, reply]], ["base"])
    with pytest.raises(ConfigError, match=r"prompts\[0\]: the messages end with no user's message"):
        perfit.generate([[reply]], ["base"])
    headlines = PerFit.from_pretrained(base, task="news_headline")
    with pytest.raises(ConfigError, match=r"prompts\[0\]: a list is no prompt"):
        headlines.generate([[{"role": "user", "content": "sea"}]], ["base"])


def test_a_task_of_texts_does_not_train_on_conversations(base: Path, tmp_path: Path) -> None:
    record = {
        "user": "anna",
        "history": [{"text": "a", "title": "b", "messages": records()[0]["history"][1]["messages"]}],
    }
    perfit = PerFit.from_pretrained(base, task="news_headline", config=CONFIG)
    with pytest.raises(DataError, match="is the end of a conversation"):
        RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config).history_rows(read_records([record]).users[0])
