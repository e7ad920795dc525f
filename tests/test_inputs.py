"""What Python callers hand over by mistake is one clear line, and never a user's text."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from small_base import TASK, dataset, person

from perfit.config import PerFitConfig
from perfit.data.jsonl import own_records
from perfit.data.schema import Dataset, Query
from perfit.errors import ConfigError, DataError
from perfit.inputs import as_prompts, check_asked, check_sources, checked_dataset, checked_user
from perfit.personalizer import PerFit

SECRET = "a secret text"
CHAT = [{"role": "user", "content": SECRET}]


class Model:
    def __repr__(self) -> str:
        return SECRET


@pytest.mark.parametrize(
    ("prompts", "users", "said"),
    [
        (SECRET, "user", "prompts: a text is no list; give a list of texts"),
        ([SECRET], "u", "users: a text is no list; give a list of user ids, one per prompt"),
        (SECRET.encode(), ["u"], "prompts: bytes is no list"),
        (None, ["u"], "prompts: None is no list"),
        ({"text": SECRET}, ["u"], "prompts: a dict is no list"),
        (Query("q", SECRET), ["u"], "prompts: an object of type Query is no list"),
        ((text for text in [SECRET]), ["u"], "prompts: an object of type generator is no list"),
        (CHAT, ["u"], r"prompts\[0\]: a dict is no prompt; give the text alone \(the task's"),
        ([SECRET, CHAT], ["u", "u"], r"prompts\[1\]: a list is no prompt"),
        ([None], ["u"], r"prompts\[0\]: None is no prompt; give the text alone or a Query"),
        ([SECRET.encode()], ["u"], r"prompts\[0\]: bytes is no prompt"),
        ([SECRET], [person("u")], r"users\[0\]: an object of type User is no user id; give its id, user.id"),
        ([SECRET], [7], r"users\[0\]: an object of type int is no user id"),
        ([SECRET], ["u", "v"], "users: 2 given for 1 prompts"),
    ],
)
@pytest.mark.parametrize("ask", [PerFit.generate, PerFit.score_labels])
def test_what_is_no_list_of_texts_and_ids_is_refused(
    ask: Callable[..., Any], prompts: Any, users: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        check_asked(prompts, users)
    assert SECRET not in str(refused.value)
    if not hasattr(prompts, "__next__"):
        with pytest.raises(ConfigError, match=said):
            ask(SimpleNamespace(task=TASK), prompts, users)


def test_texts_and_queries_in_any_list_are_taken() -> None:
    check_asked(["a", Query("q", "b")], ("u", "v"))
    check_asked([], [])


@pytest.mark.parametrize("given", [None, "data.jsonl", b"data", {"users": []}, person("u"), 7, Model()])
def test_what_is_no_dataset_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^dataset: .* is no dataset; give what read_dataset\(path\) returns"):
        PerFit.fit(object(), given)  # type: ignore[arg-type]


def test_a_list_of_other_things_is_no_dataset_and_users_are() -> None:
    with pytest.raises(ConfigError, match=r"^dataset\[1\]: a text is no user"):
        checked_dataset([person("u"), "anna"])  # type: ignore[list-item]
    assert checked_dataset(dataset(("anna",))) == dataset(("anna",))
    assert checked_dataset(iter([person("u")])) == Dataset(users=(person("u"),))


@pytest.mark.parametrize("given", [None, "anna", 7, [person("u")], Model()])
def test_personalize_takes_a_user_or_a_record_and_no_id(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^user: .* is no user; give a User") as refused:
        PerFit.personalize(object(), given)  # type: ignore[arg-type]
    assert SECRET not in str(refused.value)
    assert checked_user(person("u")) == (person("u"), ())
    assert checked_user(own_records(Dataset((person("u"),)))[0]) == (person("u"), ())
    history = [
        {"text": "b", "folder": "work", "date": "2020-02-02"},
        {"text": "a", "folder": "work", "date": "2020-01-01"},
    ]
    user, notes = checked_user({"user": "u", "history": history})
    assert [item.fields["text"] for item in user.history] == ["a", "b"]
    assert ["in order of time" in note for note in notes] == [True]
    with pytest.raises(DataError, match=r"dataset, \[0\]: the field 'id' is unknown"):
        checked_user({"id": "anna"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"base": None}, "base: None is no base"),
        ({"base": Model()}, "base: an object of type Model is no base; give a folder"),
        ({"base": b"path"}, "base: bytes is no base"),
        ({"base": ""}, r"base: a text \(empty\) is no base"),
        ({"base": "x", "config": {"layers": [1]}}, "config: a dict is no config; give a PerFitConfig"),
        ({"base": "x", "task": {"name": "x"}}, "task: a dict is no task"),
    ],
)
def test_from_pretrained_takes_names_and_settings(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        PerFit.from_pretrained(**arguments)
    assert SECRET not in str(refused.value)
    check_sources("x", PerFitConfig(), TASK)


def test_a_text_a_query_or_a_conversation_is_one_prompt_of_several() -> None:
    said = [{"role": "user", "content": "Which folder?"}]
    query = Query("q", "a lamp")
    for one in ("a lamp", query, said, tuple(said)):
        assert as_prompts(one) == [one]
    for several in (["a lamp", query], [said], [], ("a", "b")):
        assert as_prompts(several) is several
