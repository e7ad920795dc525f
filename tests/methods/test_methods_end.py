"""Free answers of every kind of method end, and repeat themselves, as the task says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from method_world import ANNA, BEN, asks, ready, setting
from small_base import TASK

from perfit.stop_strings import until_stop

# By the base's own way, by two rows an answer, by a vector, by heads' biases, by shifts.
NAMES = ("base", "cos", "style-vector", "lofit", "perfit")


def told(name: str, folder: Path, **changes: Any) -> list[str]:
    where = replace(setting(folder), task=replace(TASK, max_new_tokens=9, kind="text", labels=(), **changes))
    return ready(name, where, [ANNA, BEN]).predict(asks(ANNA, BEN))


@pytest.mark.parametrize("name", NAMES)
def test_answers_end_at_the_tasks_stop_strings(name: str, tmp_path: Path) -> None:
    whole = told(name, tmp_path / "whole")
    stop = tuple({text[1:3] for text in whole if text})
    ended = told(name, tmp_path / "ended", stop=stop)
    if name != "style-vector":  # its generic answers end there, too, and so its vectors are others
        assert ended == [until_stop(text, stop) for text in whole] != whole
    assert not any(one in text for one in stop for text in ended)


@pytest.mark.parametrize("name", NAMES)
def test_answers_repeat_themselves_as_the_task_allows(name: str, tmp_path: Path) -> None:
    once = told(name, tmp_path / "once", no_repeat_ngram=1)
    assert once != told(name, tmp_path / "free")
    for text in once:
        words = [word for word in text.split() if word != "<unk>"]
        assert len(words) == len(set(words))
