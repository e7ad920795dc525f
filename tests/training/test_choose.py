"""The engine proves itself on a base, or the plain one takes over and says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from families import VOCABULARY, WIDTH
from learners import some_rows

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.errors import BaseModelError, ConfigError
from perfit.training.choose import choose_runner
from perfit.training.frozen import FrozenRunner
from perfit.training.loop import Learner
from perfit.training.plain import PlainRunner
from perfit.training.stages import fresh_shifts, train_personal

CONFIG = PerFitConfig(layers=(1, 2), positions="l3", collective_rank=3, personal_rank=2, max_length=64)


def model_of(kind: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, kind)(vocab_size=VOCABULARY, **settings)
    return transformers.AutoModelForCausalLM.from_config(config).float()


def falcon() -> Backbone:
    return Backbone(model_of("FalconConfig", hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=4), None)


def test_a_family_with_attention_of_its_own_falls_back_with_a_warning() -> None:
    events: list[dict[str, Any]] = []
    chosen = choose_runner(falcon(), CONFIG, some_rows(5, 0), events.append)
    assert isinstance(chosen, PlainRunner)
    assert [e["event"] for e in events] == ["warning"]
    assert "engine: plain" in events[0]["text"]


def test_asking_for_the_frozen_engine_where_it_fails_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'frozen' does not fit this base"):
        choose_runner(falcon(), CONFIG.with_options(engine="frozen"), some_rows(5, 0))


def test_a_family_that_fell_back_trains() -> None:
    backbone = falcon()
    shared = fresh_shifts(CONFIG, WIDTH)
    (done,) = train_personal(backbone, {"a": some_rows(6, 1)}, shared, CONFIG)
    assert done.problem is None
    assert done.losses[-1] < done.losses[0]


def test_experts_take_the_frozen_engine() -> None:
    model = model_of(
        "MixtralConfig",
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    assert isinstance(choose_runner(Backbone(model, None), CONFIG, some_rows(5, 0)), FrozenRunner)


def test_a_runner_with_other_losses_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(
        model_of("LlamaConfig", hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4),
        None,
    )
    plain = FrozenRunner.answer_loss
    monkeypatch.setattr(FrozenRunner, "answer_loss", lambda self, *args: plain(self, *args) * 1.01)
    events: list[dict[str, Any]] = []
    assert isinstance(choose_runner(backbone, CONFIG, some_rows(5, 0), events.append), PlainRunner)
    assert "losses differ" in events[0]["text"]


def test_a_base_without_keys_and_values_is_refused() -> None:
    with pytest.raises(BaseModelError, match="past_key_values"):
        Backbone(model_of("MambaConfig", hidden_size=WIDTH, num_hidden_layers=2), None)


def test_prompts_without_an_edited_token_are_counted_and_harmless() -> None:
    backbone = Backbone(
        model_of("LlamaConfig", hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4),
        None,
    )
    events: list[dict[str, Any]] = []
    config = CONFIG.with_options(positions="40")
    shared = fresh_shifts(config, WIDTH)
    learner = Learner("a", some_rows(4, 0), [shared[1]])
    (done,) = train_personal(backbone, {"a": list(learner.rows)}, shared, config, emit=events.append)
    assert done.problem is None
    assert any(e["event"] == "warning" and e["text"].startswith("4 of 4 prompts") for e in events)
