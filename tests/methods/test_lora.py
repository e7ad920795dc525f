"""peft's LoRA in the base: what it computes, that it leaves nothing behind, and OPPU's two layers of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from families import NAMES
from method_world import (
    ANNA,
    BEN,
    OTHERS,
    asks,
    assert_untouched,
    base,
    make,
    modules,
    ready,
    setting,
    weights,
)
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.errors import BaseModelError, StoreError
from perfit.events import Warned
from perfit.methods.adapters import COLLECTIVE, PERSONAL, LoraShape, adapted
from perfit.methods.attention import find_attention
from perfit.methods.method import Ask, Cost
from perfit.methods.prompts import Prompts
from perfit.methods.two_stage import TwoStage

FUSED = ("gpt2", "neox")
SHAPE = LoraShape(rank=3, alpha=6.0, dropout=0.5)
IDS = torch.tensor([[5, 9, 7, 30, 12]])


def merged(backbone: Backbone, adapters: list[dict[str, Tensor]]) -> Any:
    """A copy of the model with each adapter's product added into the weights."""
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        for tensors in adapters:
            for name in {key.rpartition(".")[0] for key in tensors}:
                module: Any = model.get_submodule(name)
                change = SHAPE.alpha / SHAPE.rank * tensors[f"{name}.B"] @ tensors[f"{name}.A"]
                module.weight += change.T if module.weight.shape != change.shape or backbone.name == "gpt2" else change
    return model


@pytest.mark.parametrize("family", NAMES)
def test_two_adapters_at_work_are_two_merged_ones_and_the_base_stays(family: str) -> None:
    backbone, before, shape = base(family), weights(family), modules(family)
    every = find_attention(backbone)
    assert all(set(attention.parts) == ({"qkv"} if family in FUSED else {"q", "k", "v"}) for attention in every)
    targets = {
        COLLECTIVE: [p for a in every for p in a.only("qkv")],
        PERSONAL: [p for a in every for p in a.only("qv")],
    }
    adapters = adapted(backbone, targets, SHAPE)
    model = adapters.backbone.model
    with torch.no_grad():
        kept = {}
        for name in targets:
            adapters.start(name, 0, "anna")
            fresh = adapters.parameters(name)
            assert sum(tensor.numel() for tensor in fresh.values()) == SHAPE.parameters(targets[name])
            assert all(bool(tensor.any()) == key.endswith(".A") for key, tensor in fresh.items())
            kept[name] = {key: 0.3 * torch.randn_like(tensor) for key, tensor in fresh.items()}
            adapters.load(name, kept[name])
        got = model(input_ids=IDS).logits
        adapters.load(PERSONAL, {})
        without = model(input_ids=IDS).logits
        adapters.train(PERSONAL)
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert learning
        assert all(f".{PERSONAL}." in name for name in learning)
        dropouts = [m for m in model.modules() if type(m).__name__ == "_Dropout" and m.training]
        assert len(dropouts) == len(targets[PERSONAL])
    with torch.no_grad():
        torch.testing.assert_close(
            got, merged(backbone, list(kept.values()))(input_ids=IDS).logits, rtol=1e-3, atol=1e-3
        )
        collective = merged(backbone, [kept[COLLECTIVE]])(input_ids=IDS).logits
        torch.testing.assert_close(without, collective, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(got, without, atol=1e-2)
    assert_untouched(family, before, shape)


def test_the_base_runs_as_it_is_while_adapters_are_at_work() -> None:
    before, shape = weights("llama"), modules("llama")
    plain = base("llama").model(input_ids=IDS).logits
    targets = {COLLECTIVE: find_attention(base("llama"))[0].only("q")}
    adapters = adapted(base("llama"), targets, SHAPE)
    adapters.load(COLLECTIVE, {name: torch.ones_like(t) for name, t in adapters.parameters(COLLECTIVE).items()})
    assert not torch.allclose(adapters.backbone.model(input_ids=IDS).logits, plain, atol=1e-2)
    assert torch.equal(base("llama").model(input_ids=IDS).logits, plain)
    assert_untouched("llama", before, shape)


def test_a_fresh_adapter_depends_on_seed_and_learner_alone() -> None:
    targets = {PERSONAL: find_attention(base("llama"))[0].only("q")}

    def drawn(seed: int, learner: str) -> Tensor:
        adapters = adapted(base("llama"), targets, SHAPE)
        torch.rand(3)
        adapters.start(PERSONAL, seed, learner)
        return next(iter(adapters.parameters(PERSONAL).values())).detach().clone()

    assert torch.equal(drawn(0, "anna"), drawn(0, "anna"))
    assert not torch.equal(drawn(0, "anna"), drawn(1, "anna"))
    assert not torch.equal(drawn(0, "anna"), drawn(0, "ben"))


def test_dropout_draws_what_its_seed_says_and_nothing_from_the_draws_of_others() -> None:
    adapters = adapted(base("llama"), {PERSONAL: find_attention(base("llama"))[0].only("q")}, SHAPE)
    adapters.load(PERSONAL, {name: torch.ones_like(t) for name, t in adapters.parameters(PERSONAL).items()})
    adapters.train(PERSONAL)

    def drawn(seed: int) -> Tensor:
        adapters.reseed(seed)
        out: Tensor = adapters.backbone.model(input_ids=IDS).logits.detach()
        return out

    before = torch.get_rng_state()
    first = drawn(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(adapters.backbone.model(input_ids=IDS).logits, first)
    torch.rand(3)
    assert torch.equal(drawn(3), first)
    assert not torch.equal(drawn(4), first)


def test_a_lora_does_not_depend_on_who_trained_before(tmp_path: Path) -> None:
    def learnt(folder: Path, *before: Any) -> Tensor:
        method: Any = ready("lora-p", setting(folder), [*before, ANNA])
        tensors = method.stage2.work.adapted(ANNA).tensors
        return torch.cat([tensors[name].flatten() for name in sorted(tensors)])

    assert torch.equal(learnt(tmp_path / "a"), learnt(tmp_path / "b", BEN))


def test_oppu_stands_on_lora_c_and_a_user_who_failed_gets_its_answers(tmp_path: Path) -> None:
    where = setting(tmp_path)
    shared = ready("lora-c", setting(tmp_path), [])
    oppu = make("oppu", where)
    found: list[Any] = []
    oppu = make("oppu", setting(tmp_path, listener=found.append))
    oppu.fit(OTHERS)
    assert [event.kind for event in found] == ["found"]
    nobody = ANNA.__class__("nobody", (), ANNA.queries)
    assert oppu.adapt([ANNA, nobody]) == {"nobody": "has nothing to train on (empty history)"}
    assert oppu.predict(asks(nobody)) == shared.predict(asks(nobody))
    assert oppu.predict(asks(ANNA)) != shared.predict(asks(ANNA))
    assert isinstance(oppu, TwoStage)
    assert oppu.cost() == Cost(
        shared.cost().collective_parameters, oppu.cost().personal_parameters, 2 * oppu.cost().personal_parameters
    )


def test_oppu_needs_its_first_stage(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="stage 1 of collective-lora is not done; call fit first"):
        make("oppu", setting(tmp_path)).adapt([ANNA])


def test_users_of_another_first_stage_are_refused(tmp_path: Path) -> None:
    method = ready("oppu", setting(tmp_path), [ANNA])
    for path in (tmp_path / "shared").rglob("collective.safetensors"):
        path.unlink()
    method.fit([*OTHERS, BEN])
    with pytest.raises(StoreError, match="another history or on another stage 1"):
        method.predict(asks(ANNA))


def test_a_fused_projection_is_said(tmp_path: Path) -> None:
    events: list[Any] = []
    make("lora-p", setting(tmp_path, "gpt2", listener=events.append)).adapt([ANNA])
    assert "q, k and v are one projection" in next(e.text for e in events if isinstance(e, Warned))


def test_a_partial_lora_changes_the_edited_layers_only(tmp_path: Path) -> None:
    every, some = (make(name, setting(tmp_path)) for name in ("lora-c-all+perfit-p", "lora-c-partial+perfit-p"))
    assert some.cost().collective_parameters * 2 == every.cost().collective_parameters
    some.fit(OTHERS)
    tensors = some.stage1.tensors()  # type: ignore[attr-defined]
    assert {name.split(".")[2] for name in tensors} == {"1", "2"}


def test_training_with_retrieval_sees_earlier_items_only_and_answering_the_whole_history(tmp_path: Path) -> None:
    where = setting(tmp_path)
    prompts, decode = Prompts(where), where.backbone.tokenizer.decode
    texts = [item.fields["text"] for item in ANNA.history]
    seen = [decode(row.prompt_ids) for row in prompts.retrieved_rows(ANNA, 4)]
    for place, text in enumerate(seen):
        assert [other in text for other in texts] == [n <= place for n in range(len(texts))]
        assert text.count(texts[place]) == 1
    asked = decode(prompts.retrieved(Ask(ANNA, ANNA.queries[0]), 4))
    assert all(text in asked for text in texts)
    trained = ready("lora-p", where, [ANNA], retrieved=1)
    plain = ready("lora-p", setting(tmp_path / "plain"), [ANNA])
    assert trained.predict(asks(ANNA)) != plain.predict(asks(ANNA))


def test_a_family_without_known_projections_is_refused_in_one_line() -> None:
    backbone = copy.copy(base("llama"))
    layer = nn.Module()
    layer.mixer = nn.Linear(4, 4)
    backbone.layers = nn.ModuleList([layer])
    with pytest.raises(
        BaseModelError, match=r"no q, k and v projections found in model.layers.0 .*do not know this family"
    ):
        find_attention(backbone)
    layer.q_proj, layer.k_proj, layer.v_proj = (nn.Linear(4, 4) for _ in range(3))
    layer.another = nn.Linear(4, 4)
    with pytest.raises(BaseModelError, match="has 2 projections beside q, k and v"):
        find_attention(backbone)


def test_shifts_on_a_lora_feel_it_and_train_alike_with_either_engine(tmp_path: Path) -> None:
    def learnt(name: str, engine: str) -> Tensor:
        method: Any = ready(name, setting(tmp_path / name / engine, engine=engine), [ANNA])
        tensors = method.stage2.work.adapted(ANNA).tensors
        return torch.cat([(tensors["R"].mT @ tensors["D"]).flatten(), tensors["b"].flatten()]).float()

    frozen, plain = (learnt("lora-c-all+perfit-p", engine) for engine in ("frozen", "plain"))
    bare = learnt("perfit-stage-2", "frozen")
    assert float((frozen - plain).norm() / plain.norm()) < 0.02
    assert float((frozen - bare).norm() / bare.norm()) > 0.1


def test_dropout_is_torchs_from_a_generator_of_its_own() -> None:
    targets = {PERSONAL: find_attention(base("llama"))[0].only("q")}
    adapters = adapted(base("llama"), targets, LoraShape(rank=2, dropout=0.3))
    (dropout,) = (m for m in adapters.backbone.model.modules() if type(m).__name__ == "_Dropout")
    x = torch.randn(40, 50)
    assert torch.equal(dropout(x), x)
    adapters.train(PERSONAL)
    adapters.reseed(7)
    got = dropout(x)
    torch.manual_seed(7)
    torch.testing.assert_close(got, nn.functional.dropout(x, 0.3), rtol=1e-6, atol=0)
