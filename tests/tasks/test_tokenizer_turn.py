"""Whoever splits a text has the tokenizer alone: it keeps the rule of the last call, also another thread's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from small_base import TASK, dataset

from perfit.analysis.prompts import PromptMaker
from perfit.analysis.recipe import Recipe
from perfit.backbone.fingerprint import tokenizer_fingerprint
from perfit.backbone.tokenizer_turn import TURN
from perfit.tasks import Example, encode
from perfit.tasks.plain_text import chat_ids, plain_ids


def is_free() -> bool:
    """Whether another thread could have the turn now."""
    got: list[bool] = []

    def look() -> None:
        got.append(TURN.acquire(blocking=False))
        if got[0]:
            TURN.release()

    other = threading.Thread(target=look)
    other.start()
    other.join()
    return got[0]


class Watched:
    """A tokenizer that may be used in one's turn alone."""

    def __init__(self, inner: Any, inside: Callable[[bool], None]):
        self.inner, self.inside = inner, inside

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.inside(bool(options.get("split_special_tokens")))
        return self.inner(*args, **options)

    def encode(self, *args: Any, **options: Any) -> Any:
        self.inside(bool(options.get("split_special_tokens")))
        return self.inner.encode(*args, **options)


def chatting(toy: SimpleNamespace) -> Any:
    tokenizer = toy.with_bos()
    tokenizer.chat_template = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
    return tokenizer


LONG = Example("e", "note: ", "the cat sat " * 40, "\nfolder:", "work")
USES: dict[str, Callable[[Any], object]] = {
    "plain": lambda tokenizer: plain_ids("an </s> inside", tokenizer, front=True),
    "chat": lambda tokenizer: chat_ids("an </s> inside", tokenizer),
    "shortened": lambda tokenizer: encode(LONG, tokenizer, max_length=60, chat_template=False),
    "fingerprint": tokenizer_fingerprint,
    "analysis": lambda tokenizer: PromptMaker(TASK, tokenizer, dataset().users, Recipe(layers=(0,))),
}


@pytest.mark.parametrize("use", USES)
def test_a_text_is_split_in_ones_turn(toy: SimpleNamespace, use: str) -> None:
    free: list[bool] = []
    USES[use](Watched(chatting(toy), lambda plain: free.append(is_free())))
    assert free
    assert not any(free)
    assert is_free()


def test_nobody_renders_a_template_while_another_splits_names(toy: SimpleNamespace) -> None:
    began, entered = threading.Event(), threading.Event()
    done: list[list[int]] = []

    def inside(plain: bool) -> None:
        if not plain:
            entered.set()
        elif not began.is_set():
            began.set()
            other.start()
            assert not entered.wait(0.3), "overtaken"

    tokenizer: Any = Watched(chatting(toy), inside)
    other = threading.Thread(target=lambda: done.append(chat_ids("the cat", tokenizer)))
    special = tokenizer.all_special_ids
    assert not set(plain_ids("an </s> inside", tokenizer)) & set(special)
    other.join(30)
    assert entered.is_set()
    assert done == [chat_ids("the cat", chatting(toy))]
