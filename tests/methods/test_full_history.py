"""The whole history before a prompt: what stands in it, in which order, and that it fits to the token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from method_world import ANNA, asks, base, make, ready, setting
from small_base import WORDS

from perfit.data.schema import HistoryItem, User
from perfit.errors import ConfigError
from perfit.methods.prompts import Prompts

ITEMS = tuple(
    HistoryItem(str(n), {"text": " ".join(WORDS[n : n + 2 + n % 3]), "folder": ("work", "family")[n % 2]})
    for n in range(12)
)
LONG = User("long", ITEMS, ANNA.queries)


def decoded(tokens: tuple[int, ...]) -> str:
    return str(base("llama").tokenizer.decode(tokens))


def kept(text: str, where: Any) -> list[int]:
    """Which items stand in a prompt, in their order there."""
    places = {n: text.find(where.task.retrieval_document(item).strip()) for n, item in enumerate(ITEMS)}
    return sorted((n for n, place in places.items() if place >= 0), key=places.__getitem__)


@pytest.mark.parametrize("length", [40, 48, 55, 61])
def test_the_newest_that_fit_stand_in_order_of_time_and_one_more_would_not_fit(length: int, tmp_path: Path) -> None:
    events: list[Any] = []
    where = setting(tmp_path, max_length=length, listener=events.append)
    prompts, ask = Prompts(where), asks(LONG)[0]
    tokens = prompts.after_history(ask)
    shown = kept(decoded(tokens), where)
    assert shown == list(range(12 - len(shown), 12))
    assert decoded(tokens).endswith(decoded(prompts.plain(ask)))
    room = length - prompts.maker.answer_room
    assert len(tokens) <= room
    one_more = len(where.task.retrieval_document(ITEMS[11 - len(shown)]).split())
    assert 0 < len(shown) < 12
    assert len(tokens) + one_more > room
    prompts.warn()
    assert [event.text for event in events] == ["1 prompts with less history than asked for"]


def test_a_history_that_fits_is_shown_whole_and_nobody_is_told(tmp_path: Path) -> None:
    events: list[Any] = []
    where = setting(tmp_path, listener=events.append)
    few = replace(LONG, history=ITEMS[:3])
    prompts = Prompts(where)
    text = decoded(prompts.after_history(asks(few)[0]))
    assert kept(text, where) == [0, 1, 2]
    prompts.warn()
    assert events == []


def test_more_tokens_may_be_given_to_it_alone_up_to_the_positions_of_the_base(tmp_path: Path) -> None:
    where = setting(tmp_path, max_length=48)
    method = ready("full-history", where, [LONG], max_length=128)
    prompts, ask = Prompts(where), asks(LONG)[0]
    assert kept(decoded(prompts.after_history(ask, 128)), where) == list(range(12))
    assert method.predict([ask]) == ready("full-history", setting(tmp_path, max_length=128), [LONG]).predict([ask])
    assert method.cost().user_bytes == sum(len(where.task.retrieval_document(item).encode()) for item in ITEMS)
    with pytest.raises(ConfigError, match=r"max_length: 100000 is more than the \d+ positions"):
        make("full-history", where, max_length=100_000)
    with pytest.raises(ConfigError, match="max_length: 0 is not possible"):
        make("full-history", where, max_length=0)


def test_without_a_history_the_base_answers(tmp_path: Path) -> None:
    nobody = User("nobody", (), ANNA.queries)
    method = make("full-history", setting(tmp_path))
    method.fit([])
    assert method.adapt([nobody, LONG]) == {"nobody": "has no history to show"}
    assert method.predict(asks(nobody)) == make("base", setting(tmp_path)).predict(asks(nobody))
