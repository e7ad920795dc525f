"""The engine proves itself on a base, or the plain one takes over and says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from families import VOCABULARY, WIDTH, gradients, learnable, random_shift, tiny
from learners import some_rows

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.edits.positions import Positions
from perfit.errors import BaseModelError, ConfigError
from perfit.events import Warned
from perfit.training import choose
from perfit.training.choose import agree, choose_runner
from perfit.training.frozen import FrozenRunner
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Learner
from perfit.training.memory import MemoryBudget
from perfit.training.plain import PlainRunner
from perfit.training.rows import TokenRow
from perfit.training.stages import fresh_shifts, train_personal
from perfit.training.summary import RowSummary

FIVE = RowSummary.of([some_rows(5, 0)])
CONFIG = PerFitConfig(layers=(1, 2), positions="l3", collective_rank=3, personal_rank=2, max_length=64)


def model_of(kind: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, kind)(vocab_size=VOCABULARY, **settings)
    return transformers.AutoModelForCausalLM.from_config(config).float()


OWN_ATTENTION = {
    "BloomConfig": {"hidden_size": WIDTH, "n_layer": 4, "n_head": 4},
    "GPTJConfig": {"n_embd": WIDTH, "n_layer": 4, "n_head": 4, "rotary_dim": 4, "n_positions": 64},
    "GPTNeoConfig": {
        "hidden_size": WIDTH,
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "window_size": 6,
        "max_position_embeddings": 64,
    },
    "MptConfig": {"d_model": WIDTH, "n_layers": 4, "n_heads": 4, "max_seq_len": 64},
    "FalconConfig": {"hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4},
    "CodeGenConfig": {"n_embd": WIDTH, "n_layer": 4, "n_head": 4, "rotary_dim": 4, "n_positions": 64},
    "GptOssConfig": {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "sliding_window": 6,
    },
}


def own_attention(kind: str) -> Backbone:
    return Backbone(model_of(kind, **OWN_ATTENTION[kind]), None, name=kind)


@pytest.mark.parametrize("kind", OWN_ATTENTION)
@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
def test_families_with_attention_of_their_own_take_the_frozen_engine_and_give_the_plain_ones_gradients(
    kind: str, rule: str
) -> None:
    backbone, rows, config = own_attention(kind), some_rows(6, 0), CONFIG.with_options(positions=rule)
    events: list[dict[str, Any]] = []
    chosen = choose_runner(backbone, config, RowSummary.of([rows]), events.append).runner
    assert isinstance(chosen, FrozenRunner)
    assert [e.kind for e in events] == ["plan"] * 3
    shift, slots = learnable(random_shift((1, 2))), [(1, 1), (1, 2), (1, 1), (1, 2), (1, 2), (2, 1)]
    found = []
    for runner in (PlainRunner(backbone, Positions.parse(rule)), chosen):
        loss = runner.answer_loss(runner.prepare(rows), slots, shift)
        found.append((loss.detach(), [t[1:] for t in gradients(loss.sum(), shift)]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-4)
    for got, expected in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("kind", OWN_ATTENTION)
def test_the_size_announced_is_the_size_held_whatever_a_family_calls_its_heads(kind: str) -> None:
    runner = FrozenRunner(own_attention(kind), Positions.parse("l3"), (1, 2), apart=False)
    for item in runner.prepare(some_rows(6, 0)):
        assert item.prefix is not None
        assert runner.size(item.row) == item.states.nbytes + item.prefix.nbytes


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base on which no frozen engine runs."""

    def fail(*args: Any, **more: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FrozenRunner, "prepare", fail)


@pytest.mark.usefixtures("_broken")
def test_a_family_that_does_not_fit_falls_back_with_a_warning_and_trains() -> None:
    events: list[dict[str, Any]] = []
    backbone = own_attention("FalconConfig")
    chosen = choose_runner(backbone, CONFIG, FIVE, events.append).runner
    assert isinstance(chosen, PlainRunner)
    assert [e.kind for e in events] == ["plan", "plan", "warning"]
    assert "engine: plain" in events[-1].text
    shared = fresh_shifts(CONFIG, WIDTH)
    (done,) = train_personal(backbone, {"a": some_rows(6, 1)}, shared, CONFIG)
    assert done.problem is None
    assert done.losses[-1] < done.losses[0]


@pytest.mark.usefixtures("_broken")
def test_asking_for_the_frozen_engine_where_it_fails_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'frozen' does not fit this base"):
        choose_runner(own_attention("FalconConfig"), CONFIG.with_options(engine="frozen"), FIVE)


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
    assert isinstance(choose_runner(Backbone(model, None), CONFIG, FIVE).runner, FrozenRunner)


def test_a_runner_with_other_losses_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(
        model_of("LlamaConfig", hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4),
        None,
    )
    plain = FrozenRunner.answer_loss
    monkeypatch.setattr(FrozenRunner, "answer_loss", lambda self, *args: plain(self, *args) * 1.01)
    events: list[dict[str, Any]] = []
    assert isinstance(choose_runner(backbone, CONFIG, FIVE, events.append).runner, PlainRunner)
    assert "losses differ" in events[-1].text


def test_rounding_of_low_precision_is_no_other_loss_and_another_loss_is_no_rounding() -> None:
    """Rows of real ratings in bfloat16: the plain runner itself moves by up to .4 when its rows run alone."""
    plain = torch.tensor([4.90, 4.43, 4.71, 5.22])
    again = plain + torch.tensor([0.40, -0.05, 0.12, -0.20])
    other = plain + torch.tensor([-0.10, 0.40, 0.05, 0.10])
    assert not torch.allclose(plain, other, rtol=5e-2, atol=5e-2)
    assert agree(plain, other, lambda: again, 5e-2)
    assert not agree(plain, plain + 0.8, lambda: again, 5e-2)
    assert not agree(plain, other, lambda: plain, 5e-2)  # nothing is forgiven where the sums' order changes nothing
    assert not agree(plain, plain * math.nan, lambda: again, 5e-2)
    assert agree(plain, plain + 0.01, lambda: pytest.fail("not asked: they agree as they are"), 5e-2)


def test_what_rounding_does_is_told_where_rows_alone_sum_as_they_do_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of real ratings were equal to the bit in batches of 1, 2 and 8, and a right engine was found to differ."""
    model = model_of("LlamaConfig", hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4)
    asked: list[torch.Tensor] = []

    def never(plain: torch.Tensor, other: torch.Tensor, again: Callable[[], torch.Tensor], allowed: float) -> bool:
        asked.extend([plain, again(), again()])
        return False

    loss = FrozenRunner.answer_loss  # so that two rows do not settle it
    monkeypatch.setattr(FrozenRunner, "answer_loss", lambda self, *args: loss(self, *args) * 1.5)
    monkeypatch.setattr("perfit.training.choose.agree", never)
    low = Backbone(model.bfloat16(), None)
    assert isinstance(choose_runner(low, CONFIG, FIVE).runner, PlainRunner)
    plain, once, twice = asked[:3]
    assert torch.all(plain != once)
    assert torch.equal(once, twice)  # seeded: what engine a base gets does not depend on chance
    torch.testing.assert_close(once, plain, rtol=5e-2, atol=5e-2)  # and small, for a base of so few layers
    asked.clear()
    choose_runner(Backbone(model.float(), None), CONFIG, FIVE)
    torch.testing.assert_close(asked[0], asked[1], rtol=1e-6, atol=1e-6)  # float32 forgives nothing that shows


@pytest.mark.parametrize(
    ("dtype", "wrong", "tried"),
    [
        (torch.bfloat16, 0, [2]),
        (torch.bfloat16, 1, [2, 8]),
        (torch.bfloat16, 2, [2, 8]),
        (torch.float32, 1, [2]),
    ],
)
def test_two_rows_prove_it_and_where_rounding_may_differ_as_much_eight(
    dtype: torch.dtype, wrong: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("LlamaConfig", hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4)
    backbone, found = Backbone(model.to(dtype), None), list[int]()

    def proved(_: Backbone, __: PerFitConfig, sample: Sequence[TokenRow], ___: bool, *, rounding: bool) -> str | None:
        assert rounding == (dtype == torch.float32 or len(sample) == 8)  # two rows are too few to measure it by
        found.append(len(sample))
        return choose._DIFFERS if len(found) <= wrong else None

    monkeypatch.setattr(choose, "_tried", proved)
    told = choose.why_not_frozen(backbone, CONFIG, FIVE)
    assert found == tried
    assert (told is None) == (wrong < len(tried))


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
    (done,) = train_personal(backbone, {"a": list(learner.rows)}, shared, config, listener=events.append)
    assert done.problem is None
    assert any(isinstance(e, Warned) and e.text.startswith("4 of 4 prompts") for e in events)


LITTLE = MemoryBudget(0, 0, 0, 0, 1e9, 1e3)  # nothing of the frozen parts fits


@pytest.mark.parametrize(("free", "kept", "said"), [(10**9, True, "kept in"), (10**3, False, "computed again")])
def test_a_frozen_cache_is_used_where_the_disk_has_room_for_it(
    free: int, kept: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = SimpleNamespace(free=free)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: room)
    monkeypatch.setattr("perfit.training.choose.memory_budget", lambda *args: LITTLE)
    rows, events = some_rows(30, 0), list[dict[str, Any]]()
    home = FrozenHome(tmp_path / "cache", {})
    chosen = choose_runner(tiny("llama"), CONFIG, RowSummary.of([rows]), events.append, home=home).runner
    assert isinstance(chosen, FrozenRunner)
    assert (chosen.cache is not None) == kept
    assert said in events[-1].text
    if kept:  # on a second training they lie there already
        chosen.prepare(rows)
        room.free = 1
        again = choose_runner(tiny("llama"), CONFIG, RowSummary.of([rows]), home=home).runner
        assert isinstance(again, FrozenRunner)
        assert again.cache is not None
    else:
        monkeypatch.undo()
    plain = PlainRunner(tiny("llama"), Positions.parse(CONFIG.positions))
    with torch.no_grad():
        found = [one.answer_loss(one.prepare(rows), [(1, 1)] * 30, random_shift((1, 2))) for one in (chosen, plain)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
