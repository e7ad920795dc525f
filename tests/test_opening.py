"""A base that the caller has loaded does what the same base does by name, and what it cannot be is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, person, write_base
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel, LlamaModel

from perfit.errors import BaseModelError, ConfigError, StoreError
from perfit.personalizer import PerFit
from perfit.run import RunDirectory

DATA = dataset(("anna", "ben"))
QUERIES = [query for user in DATA.users for query in user.queries]
ASKED = (QUERIES, ["anna", "ben", "base", "collective"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(base)


def test_a_loaded_model_trains_and_answers_as_the_same_base_by_name(
    base: Path, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    by_name, given = (
        PerFit.from_pretrained(base, CONFIG, task=TASK),
        PerFit.from_pretrained(model, CONFIG, task=TASK, tokenizer=tokenizer),
    )
    assert given.backbone.model is model
    by_name.fit(DATA)
    given.fit(DATA, run=tmp_path / "run")
    assert given.generate(*ASKED) == by_name.generate(*ASKED)
    assert given.identity.differences(by_name.identity) == []
    assert given.identity.contents.startswith("tensors:")
    for again in (
        PerFit.from_pretrained(tmp_path / "run"),  # transformers told the model where it lay
        PerFit.from_pretrained(tmp_path / "run", base_at=base),
        PerFit.from_pretrained(tmp_path / "run", base_at=model, tokenizer=tokenizer),
    ):
        assert again.generate(*ASKED) == given.generate(*ASKED)
    given.fit(DATA, run=tmp_path / "run")  # the same call goes on where it stopped
    with pytest.raises(StoreError, match="the same base given otherwise"):
        by_name.fit(DATA, run=tmp_path / "run")


def test_a_model_from_nowhere_is_asked_for_again(model: Any, tokenizer: Any, base: Path, tmp_path: Path) -> None:
    model.config._name_or_path = model.name_or_path = ""
    perfit = PerFit.from_pretrained(model, CONFIG, task=TASK, tokenizer=tokenizer)
    perfit.fit(DATA, run=tmp_path)
    assert RunDirectory(tmp_path).manifest()["base"]["name"] == "a loaded LlamaForCausalLM"
    with pytest.raises(ConfigError, match=r"its base was a loaded LlamaForCausalLM, which lies nowhere; give it again"):
        PerFit.from_pretrained(tmp_path)
    again = PerFit.from_pretrained(tmp_path, base_at=model, tokenizer=tokenizer)
    assert again.generate(*ASKED) == perfit.generate(*ASKED)
    assert PerFit.from_pretrained(tmp_path, base_at=base).users() == ["anna", "ben"]


def test_another_model_is_refused_by_a_run(
    model: Any, tokenizer: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    PerFit.from_pretrained(model, CONFIG, task=TASK, tokenizer=tokenizer).fit(DATA, run=tmp_path)
    other = AutoModelForCausalLM.from_pretrained(write_base(tmp_path_factory.mktemp("other"), seed=1))
    with pytest.raises(BaseModelError, match="weights is"):
        PerFit.from_pretrained(tmp_path, base_at=other, tokenizer=tokenizer)


def test_a_loaded_model_is_frozen_and_its_tokenizer_left_as_it_is(model: Any, base: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = None
    model.train()
    PerFit.from_pretrained(model, CONFIG, task=TASK, tokenizer=tokenizer)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.pad_token is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokenizer": None}, "tokenizer: is missing; a loaded model needs its own: from_pretrained(model, tokenizer="),
        ({"tokenizer": "gpt2"}, "tokenizer: an object of type str is no tokenizer; give the tokenizer itself"),
        ({"tokenizer": "inside"}, "tokenizer: an object of type SimpleNamespace is no tokenizer; give its .tokenizer"),
        ({"device": "cuda"}, "device: 'cuda' is wanted and the loaded model is on 'cpu'; move it"),
        ({"device": "warp"}, "device: 'warp' is not possible"),
        ({"revision": "main"}, "revision: is for loading, and the model is loaded; leave it out"),
        (
            {"config": CONFIG.with_options(dtype="bfloat16")},
            "dtype: 'bfloat16' is set and the loaded model is float32; load it so, or set dtype to auto",
        ),
        ({"base_at": "x"}, "base_at: an object of type LlamaForCausalLM is not a run"),
    ],
)
def test_what_a_loaded_model_cannot_be_told_is_one_line(
    options: dict[str, Any], said: str, model: Any, tokenizer: Any
) -> None:
    if options.get("tokenizer") == "inside":
        options = {"tokenizer": SimpleNamespace(tokenizer=tokenizer)}
    with pytest.raises(ConfigError) as refused:
        PerFit.from_pretrained(**{"base": model, "config": CONFIG, "task": TASK, "tokenizer": tokenizer, **options})
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_where_the_model_is_may_be_said(model: Any, tokenizer: Any) -> None:
    PerFit.from_pretrained(model, CONFIG, task=TASK, tokenizer=tokenizer, device="cpu")


def test_models_that_are_no_base_are_one_line(model: Any, tokenizer: Any) -> None:
    headless = LlamaModel(model.config)
    with pytest.raises(BaseModelError, match="LlamaModel has no head that predicts tokens"):
        PerFit.from_pretrained(headless, CONFIG, task=TASK, tokenizer=tokenizer)
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with pytest.raises(BaseModelError, match="is a bert model, not a decoder-only"):
        PerFit.from_pretrained(BertLMHeadModel(BertConfig(**sizes)), CONFIG, task=TASK, tokenizer=tokenizer)
    small: Any = type(model)(type(model.config)(**{**model.config.to_dict(), "vocab_size": 10}))
    with pytest.raises(BaseModelError, match="the tokenizer has ids up to"):
        PerFit.from_pretrained(small, CONFIG, task=TASK, tokenizer=tokenizer)


def test_a_base_by_name_brings_its_own_tokenizer(base: Path, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer: an object of type .* which brings its own"):
        PerFit.from_pretrained(base, CONFIG, task=TASK, tokenizer=tokenizer)


def test_where_a_run_s_base_lies_is_a_name_or_a_model(base: Path, tmp_path: Path) -> None:
    PerFit.from_pretrained(base, CONFIG, task=TASK).fit(replace(DATA, users=(person("anna"),)), run=tmp_path)
    with pytest.raises(ConfigError, match="base_at: an object of type int is no base"):
        PerFit.from_pretrained(tmp_path, base_at=7)  # type: ignore[arg-type]
