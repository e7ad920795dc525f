"""How a base is opened is one typed thing: what is wanted reaches the loader, and a run keeps what its shifts need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit import opening
from perfit.errors import BaseModelError, ConfigError, MissingExtraError
from perfit.how_to_open import USUAL, HowToOpen, quantization_of
from perfit.personalizer import PerFit
from perfit.run import RunDirectory

DATA = dataset(("anna", "ben"))
QUERIES = [query for user in DATA.users for query in user.queries]
ASKED = (QUERIES, ["anna", "ben", "base", "collective"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"device": "cpu", "dtype": "float32", "verify": True},
        {"revision": "v1", "layers_path": "model.layers", "trust_remote_code": True, "attention": "eager"},
        {"quantization": "4bit", "token": "secret", "cache_dir": "here"},
    ],
)
def test_options_by_name_and_back(options: dict[str, Any]) -> None:
    how = HowToOpen.of(**options)
    assert how.given() == options
    assert dict(how.more) == {name: value for name, value in options.items() if name in ("token", "cache_dir")}


def test_what_is_wanted_is_not_overruled() -> None:
    how = HowToOpen(dtype="float32").or_else(dtype="bfloat16", revision="v1", quantization=None)
    assert how.given() == {"dtype": "float32", "revision": "v1"}
    assert USUAL.given() == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "3bit"}, "quantization: '3bit' is unknown; choose 4bit or 8bit"),
        ({"attention": "flash"}, "attention: 'flash' is unknown; choose sdpa, eager or flash_attention_2"),
        ({"attention": "flash_attention_2"}, "attention: 'flash_attention_2' needs CUDA and the package flash-attn"),
        ({"dtype": "float8"}, "dtype: 'float8' is not possible; choose one of auto"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, Any], said: str, base: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        PerFit.from_pretrained(base, task=TASK, **options)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_without_bitsandbytes_the_extra_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"perfit\[quantization\]"):
        PerFit.from_pretrained(base, task=TASK, quantization="4bit")


def test_a_loaded_model_can_be_packed_no_more(base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    for name, value in (("quantization", "4bit"), ("attention", "eager"), ("trust_remote_code", True)):
        with pytest.raises(ConfigError, match=f"^{name}: is for loading, and the model is loaded; leave it out$"):
            PerFit.from_pretrained(model, task=TASK, tokenizer=tokenizer, **{name: value})


def test_the_loader_hears_what_was_wanted_and_nothing_else(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    original = opening.load_base

    def load_base(name: str, **how: Any) -> Any:
        told.append(how)
        return original(name, **how)

    monkeypatch.setattr(opening, "load_base", load_base)
    opening.open_base(base, HowToOpen(dtype="float32", device="cpu"))
    opening.open_base(
        base, HowToOpen(dtype="bfloat16", attention="eager", verify=True, more={"local_files_only": True})
    )
    assert told == [
        {"dtype": torch.float32, "device": "cpu"},
        {
            "dtype": torch.bfloat16,
            "device": "cpu",
            "attn_implementation": "eager",
            "verify": True,
            "local_files_only": True,
        },
    ]


def test_attention_of_another_kind_answers_the_same(base: Path) -> None:
    scores = []
    for attention in ("sdpa", "eager"):
        perfit = PerFit.from_pretrained(base, CONFIG, task=TASK, attention=attention)
        assert perfit.backbone.model.config._attn_implementation == attention
        perfit.fit(DATA)
        scores.append(perfit.score_labels(*ASKED))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)


def test_a_dtype_that_is_given_is_that_of_the_settings_too(base: Path, tmp_path: Path) -> None:
    perfit = PerFit.from_pretrained(base, CONFIG.with_options(dtype="bfloat16"), task=TASK, dtype="float32")
    assert (perfit.backbone.dtype, perfit.config.dtype) == (torch.float32, "float32")
    assert PerFit.from_pretrained(base, task=TASK, dtype="bfloat16").config.dtype == "bfloat16"
    perfit.fit(DATA, run=tmp_path / "run")
    again = PerFit.from_pretrained(tmp_path / "run", dtype="bfloat16")
    assert (again.backbone.dtype, again.config.dtype) == (torch.bfloat16, "float32")
    assert again.users() == ["anna", "ben"]
    assert PerFit.from_pretrained(tmp_path / "run").backbone.dtype == torch.float32


@pytest.mark.parametrize("packing", ["4bit", "8bit"])
def test_a_run_on_a_packed_base_keeps_how_it_was_packed(packing: str, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    perfit = PerFit.from_pretrained(base, CONFIG, task=TASK, quantization=packing)
    assert quantization_of(perfit.backbone.model) == packing
    assert packing == "4bit" or perfit.backbone.model.hf_quantizer.quantization_config.llm_int8_threshold == 0.0
    perfit.fit(DATA, run=tmp_path / "run")
    assert RunDirectory(tmp_path / "run").manifest()["base"]["quantization"] == packing
    answers, scores = perfit.generate(*ASKED), perfit.score_labels(*ASKED)
    again = PerFit.from_pretrained(tmp_path / "run")
    assert again.generate(*ASKED) == answers
    assert torch.equal(again.score_labels(*ASKED), scores)
    assert PerFit.from_pretrained(tmp_path / "run", base_at=base).generate(*ASKED) == answers
    other = {"4bit": "8bit", "8bit": "4bit"}[packing]
    with pytest.raises(ConfigError, match=rf"was trained on a base packed to {packing}, not {other}; leave it out$"):
        PerFit.from_pretrained(tmp_path / "run", quantization=other)
    plain = PerFit.from_pretrained(base, CONFIG, task=TASK)
    with pytest.raises(BaseModelError, match="this belongs to another base model: weights is"):
        PerFit.from_pretrained(tmp_path / "run", base_at=plain.backbone.model, tokenizer=plain.backbone.tokenizer)


def test_a_base_that_is_not_packed_says_nothing_of_it(base: Path, tmp_path: Path) -> None:
    perfit = PerFit.from_pretrained(base, CONFIG, task=TASK)
    assert quantization_of(perfit.backbone.model) is None
    assert "quantization" not in perfit.belonging.base()
    perfit.fit(DATA, run=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"was trained on its base as it is stored, not 4bit; leave it out$"):
        PerFit.from_pretrained(tmp_path / "run", quantization="4bit")
