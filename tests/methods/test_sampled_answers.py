"""Answers drawn as the paper draws them: of the same training, row by row from the seed, and never from the neighbours."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from method_world import ANNA, BEN, asks, make, ready, setting

from perfit.errors import ConfigError
from perfit.inference.decoding import Decoding
from perfit.inference.edited import unedited
from perfit.methods.prompts import Prompts
from perfit.methods.registry import methods_for
from perfit.pseudo_users import BASE


@pytest.mark.parametrize("name", ["perfit", "lora-p", "lofit"])
def test_they_are_drawn_of_the_same_training_and_each_row_from_its_own_prompt(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is trained for long is sure of itself: at the paper's temperature it would say the same.
    monkeypatch.setattr("perfit.methods.prompts.Decoding", partial(Decoding, temperature=20.0, top_k=40))
    free = setting(tmp_path)
    asked = asks(ANNA, BEN)
    greedy = ready(name, free, [ANNA, BEN]).predict(asked)
    method = make(name, replace(free, answers="sampled"))  # finds what the first one learnt
    drawn = method.predict(asked)
    assert drawn != greedy
    assert drawn == [method.predict([ask])[0] for ask in asked]


def test_it_is_the_papers_sampling_with_the_settings_seed(tmp_path: Path) -> None:
    drawn = replace(setting(tmp_path), answers="sampled", seed=7)
    asked, prompts = asks(ANNA, BEN), Prompts(drawn)
    way = prompts.decoding
    assert (way.sample, way.temperature, way.top_k, way.top_p, way.seed) == (True, 0.1, 10, 0.9, 7)
    by_hand = Decoding(sample=True, seed=7).of(drawn.task, prompts.limit)
    tokens = [prompts.plain(ask) for ask in asked]
    said = unedited(drawn.backbone).texts(tokens, [BASE] * len(tokens), by_hand)
    assert make("base", drawn).predict(asked) == said
    assert make("base", replace(drawn, seed=8)).predict(asked) != said


def test_a_method_that_answers_greedily_alone_says_so(tmp_path: Path) -> None:
    drawn = replace(setting(tmp_path), answers="sampled")
    with pytest.raises(ConfigError, match="cos: answers greedily; leave it out"):
        make("cos", drawn)
    assert "cos" in methods_for(drawn.task)
    assert "cos" not in methods_for(drawn.task, "sampled")
