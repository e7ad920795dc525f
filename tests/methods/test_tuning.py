"""The plain loop, its losses, and what methods hang into a base, against rows that run alone without padding or cache."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from families import DEPTH, NAMES, WIDTH, padded_batch, tiny
from method_world import base
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import Changes, running
from perfit.config import StageConfig
from perfit.events import Event
from perfit.inference.last_states import last_states
from perfit.methods import tuning as tuning_module
from perfit.methods.attention import find_attention, heads_of
from perfit.methods.lofit import changing_heads
from perfit.methods.style_vector import adding
from perfit.methods.tuning import Tuning, answer_loss, chunks
from perfit.methods.work import AdaptationError
from perfit.training.rows import TokenRow
from perfit.training.schedule import epoch_batches, learning_rate

matrix = pytest.mark.parametrize("family", NAMES)
sides = pytest.mark.parametrize("side", ["left", "right"])
PROMPTS = [[5, 9, 7, 30, 12], [8, 4], [60, 61, 62, 63, 64, 65, 66]]
ROWS = [TokenRow((5, 9, 7, 30), (11, 12, 2)), TokenRow((8, 4), (40, 2)), TokenRow((60, 61, 62, 63, 64, 65), (13, 2))]


def plain(backbone: Backbone, tokens: list[int]) -> Tensor:
    """Logits [t, vocabulary] of one row by itself."""
    logits: Tensor = backbone.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


@matrix
@torch.no_grad()
def test_the_loss_is_that_of_each_row_alone(family: str) -> None:
    backbone = tiny(family)
    expected = []
    for row in ROWS:
        logits = plain(backbone, list(row.input_ids)).log_softmax(-1)
        begin = len(row.prompt_ids) - 1
        expected.append(-sum(logits[begin + i, token] for i, token in enumerate(row.answer_ids)))
    torch.testing.assert_close(answer_loss(backbone, ROWS), torch.stack(expected), rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


@matrix
@sides
@torch.no_grad()
def test_a_bias_at_the_heads_is_a_bias_after_their_projection(family: str, side: str) -> None:
    backbone = tiny(family)
    every = find_attention(backbone)
    assert len(every) == DEPTH
    assert heads_of(backbone) * 8 == every[0].out.inputs == WIDTH
    bias = torch.randn(len(PROMPTS), DEPTH, WIDTH)
    ids, mask, starts = padded_batch(PROMPTS, side)
    changes = changing_heads(backbone, [a.out.name for a in every], lambda layer, z: z + bias[:, layer, None])
    got = running(lambda: backbone.logits(ids, mask), changes)
    for row, (prompt, start) in enumerate(zip(PROMPTS, starts, strict=True)):
        handles = []
        for layer, attention in enumerate(every):
            module: Any = backbone.model.get_submodule(attention.out.name)
            weight = module.weight if family == "gpt2" else module.weight.T
            moved = bias[row, layer] @ weight
            handles.append(module.register_forward_hook(lambda m, a, out, moved=moved: out + moved))
        try:
            expected = plain(backbone, prompt)
        finally:
            for handle in handles:
                handle.remove()
        torch.testing.assert_close(got[row, start : start + len(prompt)], expected, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(expected, plain(backbone, prompt), atol=1e-2)


@matrix
@sides
@torch.no_grad()
def test_a_vector_is_added_from_its_start_on_and_nowhere_before(family: str, side: str) -> None:
    backbone, layers = tiny(family), (1, 2)
    vectors = torch.randn(len(PROMPTS), len(layers), WIDTH)
    ids, mask, starts = padded_batch(PROMPTS, side)
    own = [2, 0, 5]
    begin = [start + place for start, place in zip(starts, own, strict=True)]
    got = running(lambda: backbone.logits(ids, mask), adding(backbone, layers, vectors, begin))
    for row, (prompt, start) in enumerate(zip(PROMPTS, starts, strict=True)):
        with naive_adding(backbone, layers, vectors[row], own[row]):
            expected = plain(backbone, prompt)
        mine = got[row, start : start + len(prompt)]
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3)
        untouched = plain(backbone, prompt)
        torch.testing.assert_close(mine[: own[row]], untouched[: own[row]], rtol=1e-3, atol=1e-3)
        assert not torch.allclose(mine[own[row] :], untouched[own[row] :], atol=1e-2)


def naive_adding(
    backbone: Backbone, layers: tuple[int, ...], vectors: Tensor, begin: int
) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for place, layer in enumerate(layers):

        def hook(module: Any, args: Any, out: Any, place: int = place) -> Any:
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            for position in range(begin, hidden.shape[1]):
                hidden[0, position] += vectors[place]
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        stack.callback(backbone.layers[layer].register_forward_hook(hook).remove)
    return stack


@matrix
@torch.no_grad()
def test_last_states_are_the_layers_outputs_at_each_rows_last_token(family: str) -> None:
    backbone = tiny(family)
    ((batch, states),) = last_states(backbone, PROMPTS, (0, 2), 1000)
    got = torch.empty_like(states)
    got[batch] = states
    for row, prompt in enumerate(PROMPTS):
        states = backbone.model(input_ids=torch.tensor([prompt]), output_hidden_states=True).hidden_states
        expected = torch.stack([states[1][0, -1], states[3][0, -1]])
        torch.testing.assert_close(got[row], expected, rtol=1e-3, atol=1e-3)


def test_a_vector_reaches_tokens_that_come_one_by_one() -> None:
    backbone, vectors = base("llama"), torch.full((1, 1, WIDTH), 0.7)
    prompt = torch.tensor([[5, 9, 7, 30]])
    generating = partial(backbone.model.generate, prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)
    with torch.no_grad():
        new = running(generating, adding(backbone, (1,), vectors, [3]))[0, 4:]
    tokens = prompt[0].tolist()
    for token in new.tolist():
        with torch.no_grad(), naive_adding(backbone, (1,), vectors[0], 3):
            assert int(plain(backbone, tokens)[-1].argmax()) == token
        tokens.append(token)


def test_chunks_hold_all_rows_and_keep_to_the_limit() -> None:
    found = list(chunks(ROWS, 12))
    assert sorted(map(id, (row for chunk in found for row in chunk))) == sorted(map(id, ROWS))
    assert all(len(chunk) * max(len(row.input_ids) for row in chunk) <= 12 for chunk in found)
    assert [len(chunk) for chunk in chunks(ROWS, 1)] == [1, 1, 1]


# The loop

STAGE = StageConfig(epochs=2, batch_size=2, learning_rate=0.05, clip=0.35, weight_decay=0.1)  # cuts some steps, not all


class Scaled:
    """One parameter inside the base: it scales the first layer's heads."""

    def __init__(self) -> None:
        self.backbone = tiny("llama")
        self.scale = torch.ones(WIDTH, requires_grad=True)

    def at_work(self) -> Changes:
        outs = [find_attention(self.backbone)[0].out.name]
        return changing_heads(self.backbone, outs, lambda layer, z: z * self.scale)

    def run(self, **more: Any) -> dict[str, Any]:
        listener = more.pop("listener", lambda event: None)
        tuning = Tuning(self.backbone, STAGE, 0, more.pop("step_tokens", 1000), listener)
        return tuning.run({"scale": self.scale}, ROWS, "anna", changes=self.at_work, **more)


def test_the_loop_is_adamw_on_the_schedule_over_the_mean_answer_token() -> None:
    got, twin = Scaled(), Scaled()
    notes = got.run(penalty=lambda: 0.01 * got.scale.abs().sum())
    optimiser = torch.optim.AdamW([twin.scale], lr=1.0, weight_decay=0.1)
    lengths, norms = [len(row.prompt_ids) + len(row.answer_ids) for row in ROWS], []
    for step in range(4):
        batch = epoch_batches(lengths, STAGE, seed=0, learner="anna", epoch=step // 2)[step % 2]
        optimiser.zero_grad()
        total = sum(answer_loss(twin.backbone, [ROWS[i]], twin.at_work()).sum() for i in batch)
        loss = total / sum(len(ROWS[i].answer_ids) for i in batch) + 0.01 * twin.scale.abs().sum()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([twin.scale], 0.35)))
        optimiser.param_groups[0]["lr"] = learning_rate(step, 4, STAGE)
        optimiser.step()
    assert min(norms) < 0.35 < max(norms)
    torch.testing.assert_close(got.scale, twin.scale, rtol=1e-4, atol=1e-5)
    assert notes["steps"] == 4
    assert len(notes["losses"]) == 2


def test_small_forwards_add_up_to_the_same_step() -> None:
    one, many = Scaled(), Scaled()
    one.run()
    many.run(step_tokens=1)
    torch.testing.assert_close(one.scale, many.scale, rtol=1e-4, atol=1e-5)


def test_a_killed_loop_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_module, "_CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "state.safetensors"
    whole = Scaled()
    whole.run()
    seen: list[Any] = []

    def kill(event: Event) -> None:
        seen.append(event)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scaled().run(checkpoint=path, context="this", listener=kill)
    again, other = Scaled(), Scaled()
    steps: list[Any] = []
    again.run(checkpoint=path, context="this", listener=steps.append)
    assert len(steps) == 2  # two of four were saved
    assert torch.equal(again.scale, whole.scale)
    other.run(checkpoint=path, context="that", listener=steps.append)
    assert torch.equal(other.scale, whole.scale)


def test_a_loss_that_is_not_finite_stops_its_learner_alone() -> None:
    broken = Scaled()
    with pytest.raises(AdaptationError, match="not finite at step 0"):
        broken.run(penalty=lambda: broken.scale.sum() * float("nan"))


def test_a_loss_that_is_not_finite_stops_its_learner_even_where_its_gradient_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning_module, "answer_loss", lambda *given: answer_loss(*given) + float("nan"))
    with pytest.raises(AdaptationError, match="not finite at step 0"):
        Scaled().run()
