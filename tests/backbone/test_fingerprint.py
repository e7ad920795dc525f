"""A base has the same identity however it is loaded, and another base has another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from perfit.backbone.fingerprint import BaseIdentity, base_identity, tokenizer_fingerprint, weights_fingerprint
from perfit.errors import BaseModelError


def tiny_model(seed: int = 0, tie: bool = True, **changes: Any) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**(sizes | {"vocab_size": 300, "tie_word_embeddings": tie} | changes))).eval()


def tiny_tokenizer(split_digits: bool = True, extra: tuple[str, ...] = ()) -> Any:
    words = ["<unk>", "<s>", "</s>", *extra, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(
        models.BPE(vocab={word: place for place, word in enumerate(words)} | {"ĠĠ": len(words)}, merges=[("Ġ", "Ġ")])
    )
    parts: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split_digits else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def identity() -> BaseIdentity:
    return base_identity(tiny_model(), tiny_tokenizer())


def test_it_names_what_the_base_is(identity: BaseIdentity) -> None:
    assert (identity.architecture, identity.hidden_size, identity.n_layers) == ("LlamaForCausalLM", 32, 2)
    assert identity.vocab_size == 300
    assert len(identity.weights) == len(identity.tokenizer) == 64
    assert BaseIdentity.from_dict(identity.as_dict() | {"new": 1}) == identity
    identity.check(base_identity(tiny_model(), tiny_tokenizer()))


@pytest.mark.parametrize("tie", [True, False])
def test_precision_saving_and_use_do_not_matter(tmp_path: Path, tie: bool) -> None:
    model = tiny_model(tie=tie)
    before = weights_fingerprint(model)
    model.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert weights_fingerprint(LlamaForCausalLM.from_pretrained(tmp_path, dtype=dtype)) == before
    model(torch.arange(5)[None])
    assert weights_fingerprint(model.requires_grad_(False)) == before


def test_every_tensor_counts() -> None:
    model = tiny_model()
    seen = {weights_fingerprint(model)}
    for _, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1.0
        seen.add(weights_fingerprint(model))
    assert len(seen) == 1 + sum(1 for _ in model.named_parameters())


def test_large_tensors_are_sampled_from_end_to_end() -> None:
    layer = torch.nn.Linear(700, 900, bias=False)
    with torch.no_grad():
        first = weights_fingerprint(layer)
        layer.weight[0, 0] += 1.0
        second = weights_fingerprint(layer)
        layer.weight[-1, -1] += 1.0
    assert len({first, second, weights_fingerprint(layer)}) == 3


def test_packed_and_empty_parameters_are_hashed() -> None:
    layer = torch.nn.Module()
    layer.packed = torch.nn.Parameter(torch.arange(5, dtype=torch.uint8), requires_grad=False)
    layer.empty = torch.nn.Parameter(torch.zeros(0))
    before = weights_fingerprint(layer)
    layer.packed.data[2] = 99
    assert weights_fingerprint(layer) != before


def test_weights_that_are_not_loaded_are_refused() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(2, 2)
    with pytest.raises(BaseModelError, match="'bias' is not loaded"):
        weights_fingerprint(model)


def test_tokenizer_state_and_reloading_do_not_matter(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    tokenizer(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path)) == before


def test_tokenizers_that_give_other_ids_differ() -> None:
    other = tiny_tokenizer()
    other.eos_token = "<s>"
    kinds = (tiny_tokenizer(), tiny_tokenizer(split_digits=False), tiny_tokenizer(extra=("<new>",)), other)
    assert len({tokenizer_fingerprint(tokenizer) for tokenizer in kinds}) == 4


@pytest.mark.parametrize(
    ("model", "tokenizer", "says"),
    [
        (tiny_model(seed=1), tiny_tokenizer(), "weights is"),
        (tiny_model(hidden_size=64), tiny_tokenizer(), "hidden size is 64, not 32; weights"),
        (tiny_model(num_hidden_layers=3), tiny_tokenizer(), "number of layers is 3, not 2"),
        (tiny_model(vocab_size=301), tiny_tokenizer(), "vocabulary size is 301, not 300"),
        (tiny_model(), tiny_tokenizer(split_digits=False), "another base model: tokenizer is"),
    ],
)
def test_another_base_is_refused_by_name(identity: BaseIdentity, model: Any, tokenizer: Any, says: str) -> None:
    other = base_identity(model, tokenizer)
    with pytest.raises(BaseModelError, match=says):
        identity.check(other)
    assert other.digest != identity.digest


@pytest.mark.parametrize("change", [{"weights": None}, {"hidden_size": "32"}, {"n_layers": True}])
def test_a_damaged_identity_is_refused(identity: BaseIdentity, change: dict[str, Any]) -> None:
    with pytest.raises(BaseModelError, match=next(iter(change))):
        BaseIdentity.from_dict(identity.as_dict() | change)


SETTINGS = [
    {"rms_norm_eps": 2e-6},
    {"hidden_act": "gelu"},
    {"rope_parameters": {"rope_theta": 10001.0, "rope_type": "default"}},
    {"num_key_value_heads": 4, "head_dim": 8, "mlp_bias": True},
    {"max_position_embeddings": 4096},
]


@pytest.mark.parametrize("change", SETTINGS)
def test_settings_that_decide_what_layers_compute_count(identity: BaseIdentity, change: dict[str, Any]) -> None:
    other = base_identity(tiny_model(**change), tiny_tokenizer())
    with pytest.raises(BaseModelError, match="configuration is"):
        identity.check(other)


def test_settings_of_generating_and_bookkeeping_do_not_count(identity: BaseIdentity) -> None:
    model = tiny_model()
    model.config.use_cache, model.config._name_or_path, model.config.eos_token_id = False, "elsewhere", 5
    assert base_identity(model, tiny_tokenizer()).config == identity.config


def test_the_chat_template_counts(identity: BaseIdentity) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages }}"
    with pytest.raises(BaseModelError, match="another base model: chat template is"):
        identity.check(base_identity(tiny_model(), tokenizer))


def test_a_weight_between_the_samples_counts_in_the_contents_alone() -> None:
    model = tiny_model(vocab_size=3000)
    before = base_identity(model, tiny_tokenizer())
    with torch.no_grad():
        model.model.embed_tokens.weight.view(-1)[1] += 2.0**-20
    after = base_identity(model, tiny_tokenizer())
    assert after.weights == before.weights
    with pytest.raises(BaseModelError, match="another base model: content of the files is"):
        before.check(after)


def test_contents_of_files_and_of_tensors_are_not_compared(identity: BaseIdentity) -> None:
    identity.check(base_identity(tiny_model(), tiny_tokenizer(), "0" * 64))
    with pytest.raises(BaseModelError, match="content of the files is 111"):
        base_identity(tiny_model(), tiny_tokenizer(), "0" * 64).check(
            base_identity(tiny_model(), tiny_tokenizer(), "1" * 64)
        )
