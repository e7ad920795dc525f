from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perfit.config import TABLE_9
from perfit.edits.shift import (
    Shift,
    ShiftBank,
    blended,
    fold,
    from_stored,
    new_shift,
    parameter_count,
    retract,
    tangent,
    thin_qr,
    to_stored,
)
from perfit.errors import ConfigError

LLAMA_2_7B = 6_738_415_616


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_shift(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Shift:
    g = generator(seed)
    *lead, r, d = shape
    R = torch.linalg.qr(torch.randn(*lead, d, r, generator=g, dtype=dtype)).Q.mT
    W = torch.randn(*lead, r, d, generator=g, dtype=dtype) / d**0.5
    return Shift(R, W, torch.randn(*lead, r, generator=g, dtype=dtype))


def eq2(x: Tensor, R: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """x + Rᵀ(Wx + b − Rx), one sum at a time."""
    r, d = R.shape
    low = [sum(W[i, j] * x[j] for j in range(d)) + b[i] - sum(R[i, j] * x[j] for j in range(d)) for i in range(r)]
    return torch.stack([x[j] + sum(R[i, j] * low[i] for i in range(r)) for j in range(d)])


def off_orthonormal(R: Tensor) -> float:
    return float((R @ R.mT - torch.eye(R.shape[-2], dtype=R.dtype)).abs().max())


@pytest.mark.parametrize(("r", "d", "n"), [(1, 1, 1), (2, 5, 3), (4, 4, 2)])
def test_shift_is_equation_2(r: int, d: int, n: int) -> None:
    shift = random_shift(r, d)
    x = torch.randn(n, d, dtype=torch.float64)
    expected = torch.stack([eq2(v, shift.R, shift.W, shift.b) for v in x])
    torch.testing.assert_close(shift(x), expected)
    torch.testing.assert_close(shift.delta(x), expected - x)


def test_stacked_shifts_act_each_on_their_own() -> None:
    shift = random_shift(3, 2, 6)
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    for k in range(3):
        torch.testing.assert_close(shift(x)[k], Shift(shift.R[k], shift.W[k], shift.b[k])(x[k]))


def test_D_is_what_is_applied() -> None:
    shift = random_shift(3, 7)
    x = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(shift.D, shift.W - shift.R)
    torch.testing.assert_close(shift.delta(x), (x @ shift.D.T + shift.b) @ shift.R)


def test_bf16_states_are_edited_in_fp32_and_come_back_as_bf16() -> None:
    shift = random_shift(3, 16, dtype=torch.float32)
    x = torch.randn(4, 16).bfloat16()
    assert shift.delta(x).dtype == torch.float32
    assert shift(x).dtype == torch.bfloat16
    torch.testing.assert_close(shift(x), shift(x.float()).bfloat16(), rtol=0, atol=0)


shapes = st.tuples(
    st.lists(st.integers(1, 3), max_size=2), st.integers(1, 12), st.integers(0, 30), st.integers(0, 10**6)
)


@given(shapes, st.sampled_from(["random", "near", "ill"]))
@settings(max_examples=80)
def test_retraction_is_thin_qr_and_orthonormal(shape: tuple[list[int], int, int, int], kind: str) -> None:
    lead, r, extra, seed = shape
    d = r + extra
    X = torch.randn(*lead, r, d, generator=generator(seed))
    if kind == "near":
        X = thin_qr(X) + 1e-3 * torch.randn(X.shape, generator=generator(seed + 1))
    if kind == "ill":
        # Singular values from 1 to 1e-7: the Gram matrix is singular in fp32.
        U, _, V = torch.linalg.svd(X, full_matrices=False)
        X = U * torch.logspace(0, -7, r) @ V
    Q = retract(X)
    assert off_orthonormal(Q) < 1e-5
    if kind == "near":
        torch.testing.assert_close(Q, thin_qr(X), atol=1e-5, rtol=0)
    exact = X.double()
    torch.testing.assert_close(retract(exact), thin_qr(exact), atol=1e-6 if kind != "random" else 1e-7, rtol=0)


def test_one_bad_matrix_of_a_batch_does_not_touch_the_others() -> None:
    X = torch.randn(3, 4, 9)
    X[1, 3] = X[1, 0]
    Q = retract(X)
    assert off_orthonormal(Q) < 1e-5
    torch.testing.assert_close(Q[[0, 2]], retract(X[[0, 2]]), rtol=0, atol=0)


@given(shapes)
def test_retraction_leaves_orthonormal_rows_alone(shape: tuple[list[int], int, int, int]) -> None:
    lead, r, extra, seed = shape
    Q = thin_qr(torch.randn(*lead, r, r + extra, generator=generator(seed), dtype=torch.float64))
    torch.testing.assert_close(retract(Q), Q, atol=1e-12, rtol=0)
    torch.testing.assert_close(retract(Q.float()), Q.float(), atol=1e-6, rtol=0)


def one_step_both_ways(r: int, lr: float) -> tuple[Tensor, Tensor]:
    """R after one SGD step: with the retraction after it, and with thin QR inside the graph."""
    R = random_shift(r, 8, seed=3).R
    target = torch.randn(r, 8, generator=generator(4), dtype=torch.float64)
    free = R.clone().requires_grad_(True)
    ((free - target).square().sum() + (free @ target.T).pow(3).sum()).backward()
    raw = R.clone().requires_grad_(True)
    Q = thin_qr(raw)
    ((Q - target).square().sum() + (Q @ target.T).pow(3).sum()).backward()
    assert free.grad is not None
    assert raw.grad is not None
    return retract(R + tangent(R, -lr * free.grad)), thin_qr(R - lr * raw.grad)


@pytest.mark.parametrize("r", [1, 3])
def test_retracted_step_follows_thin_qr_in_the_graph_to_first_order(r: int) -> None:
    # For r > 1 the two may turn the rows inside their span differently; the span itself is what agrees.
    def error(lr: float) -> float:
        a, b = one_step_both_ways(r, lr)
        return float((a.T @ a - b.T @ b).norm()) if r > 1 else float((a - b).norm())

    def moved(lr: float) -> float:
        start = random_shift(r, 8, seed=3).R
        a, _ = one_step_both_ways(r, lr)
        return float((a.T @ a - start.T @ start).norm())

    for lr in (1e-4, 5e-5):
        assert error(lr) < 0.05 * moved(lr)
        # A single row has no span to turn in: there the two are the same step.
        assert error(lr) < 1e-12 if r == 1 else 3.5 < error(lr) / error(lr / 2) < 4.5


def test_a_small_descending_step_never_climbs() -> None:
    # Without the projection QR turns the rows inside their span, and this loss rises.
    R = thin_qr(torch.randn(2, 5, dtype=torch.float64, generator=generator(0)))
    gradient = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64) @ R
    moved = retract(R + tangent(R, -1e-3 * gradient))
    assert (gradient * moved).sum() < (gradient * R).sum()
    along = tangent(R, gradient)
    assert (along @ R.mT + R @ along.mT).abs().max() < 1e-12


def test_retraction_and_qr_in_the_graph_learn_a_toy_map_alike() -> None:
    x = torch.randn(64, 12, generator=generator(0))
    y = random_shift(3, 12, seed=7, dtype=torch.float32)(x)
    ends = {}
    for how in ("retraction", "graph"):
        start = new_shift((3, 12), generator=generator(1))
        R, W, b = (t.clone().requires_grad_(True) for t in start.tensors().values())
        optimiser = torch.optim.Adam([R, W, b], lr=2e-2)
        for _ in range(400):
            loss = (Shift(R if how == "retraction" else thin_qr(R), W, b)(x) - y).square().mean()
            optimiser.zero_grad()
            loss.backward()
            old = R.detach().clone()
            optimiser.step()
            if how == "retraction":
                with torch.no_grad():
                    R.copy_(retract(old + tangent(old, R - old)))
        ends[how] = loss.item()
    before = (x - y).square().mean().item()
    assert max(ends.values()) < 0.05 * before, (ends, before)


def test_identity_start_is_exactly_the_identity() -> None:
    shift = new_shift((2, 4, 16), generator=generator(0))
    x = torch.randn(2, 5, 16) * 100
    assert torch.equal(shift(x), x)
    assert torch.equal(shift(x.bfloat16()), x.bfloat16())
    assert off_orthonormal(shift.R) < 1e-6


def test_loreft_start_draws_W_and_b_within_one_over_root_d() -> None:
    shift = new_shift((8, 16, 64), init="loreft", generator=generator(0))
    bound = 64**-0.5
    for t in (shift.W, shift.b):
        assert t.abs().max() <= bound
        assert t.abs().max() > 0.9 * bound
        assert abs(float(t.mean())) < 0.1 * bound
    assert abs(float(shift.W.std()) - bound / 3**0.5) < 0.05 * bound
    assert off_orthonormal(shift.R) < 1e-6


def test_start_depends_on_the_generator_alone() -> None:
    a, b, c = (new_shift((2, 8), init="loreft", generator=generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True))
    assert not torch.equal(a.W, c.W)


def test_impossible_starts_are_refused() -> None:
    with pytest.raises(ConfigError, match="rank: 9 is larger than the hidden size 8"):
        new_shift((9, 8))
    with pytest.raises(ConfigError, match="init: 'zero'"):
        new_shift((2, 8), init="zero")  # type: ignore[arg-type]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 24), st.integers(0, 10**6))
@settings(max_examples=40)
def test_fold_equals_both_stages(r1: int, r2: int, d: int, seed: int) -> None:
    first, second = random_shift(2, r1, d, seed=seed), random_shift(2, r2, d, seed=seed + 1)
    x = torch.randn(2, 5, d, generator=generator(seed), dtype=torch.float64)
    folded = fold(first, second)
    assert folded.U.shape == (2, r1 + r2, d)
    torch.testing.assert_close(folded(x), second(first(x)), rtol=1e-11, atol=1e-11)
    first32, second32 = (Shift(*(t.float() for t in s.tensors().values())) for s in (first, second))
    torch.testing.assert_close(fold(first32, second32)(x.float()), second32(first32(x.float())), rtol=1e-4, atol=1e-4)


@given(st.integers(1, 16), st.integers(16, 80), st.integers(0, 10**6))
@settings(max_examples=40)
def test_bf16_storage_keeps_R_orthonormal(r: int, d: int, seed: int) -> None:
    stored = {name: t.bfloat16() for name, t in to_stored(random_shift(2, r, d, seed=seed)).items()}
    back = from_stored(stored)
    assert back.R.dtype == torch.float32
    assert off_orthonormal(back.R) < 1e-5


def test_fp32_storage_gives_the_same_map() -> None:
    shift = random_shift(2, 4, 32, dtype=torch.float32)
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(from_stored(to_stored(shift))(x), shift(x), rtol=1e-5, atol=1e-5)


def test_bf16_storage_gives_nearly_the_same_map() -> None:
    shift = random_shift(2, 4, 64, dtype=torch.float32)
    x = torch.randn(2, 5, 64)
    back = from_stored({name: t.bfloat16() for name, t in to_stored(shift).items()})
    assert (back(x) - shift(x)).norm() < 0.02 * shift.delta(x).norm()


def test_an_identity_shift_stays_exactly_the_identity_in_storage() -> None:
    stored = {name: t.bfloat16() for name, t in to_stored(new_shift((2, 4, 32), generator=generator(0))).items()}
    x = torch.randn(2, 3, 32)
    assert torch.equal(from_stored(stored)(x), x)


def test_bank_keeps_slot_0_the_identity() -> None:
    bank = ShiftBank.empty(2, 1, 3, 8)
    x = torch.randn(1, 4, 8)
    assert torch.equal(bank.get(0)(x), x)
    with pytest.raises(ValueError, match="slot 0"):
        bank.put(0, bank.get(1))


def test_bank_gives_back_what_was_put() -> None:
    bank = ShiftBank.empty(3, 2, 3, 8)
    before = copy.deepcopy(bank)
    mine = random_shift(2, 3, 8, dtype=torch.float32)
    bank.put(2, mine)
    for name, t in bank.get(2).tensors().items():
        assert torch.equal(t, mine.tensors()[name])
    for slot in (0, 1, 3):
        assert all(
            torch.equal(a, b)
            for a, b in zip(bank.get(slot).tensors().values(), before.get(slot).tensors().values(), strict=True)
        )
    at = bank.at(1, torch.tensor([2, 0]))
    assert torch.equal(at.R[0], mine.R[1])
    assert torch.equal(at.R[1], before.shift.R[0, 1])
    taken = bank.get(2)
    taken.R.zero_()
    assert torch.equal(bank.get(2).R, mine.R)


def test_parameter_count_is_what_a_bank_slot_holds() -> None:
    assert parameter_count(2, 3, 8) == ShiftBank.empty(1, 2, 3, 8).get(1).numel() == 2 * (2 * 3 * 8 + 3)


# Tables 2 and 3: share of the base in percent, and reduction against OPPU's LoRA, for stages 1 and 2.
PAPER = {
    "news_categorize": ((393_216, 786_432), (0.0058, 0.0117), (93.75, 81.25)),
    "movie_tagging": ((524_288, 65_536), (0.0078, 0.0010), (91.67, 98.44)),
    "product_rating": ((786_432, 98_304), (0.0117, 0.0015), (87.50, 97.66)),
    "news_headline": ((786_432, 98_304), (0.0117, 0.0015), (87.50, 97.66)),
    "scholarly_title": ((262_144, 65_536), (0.0039, 0.0010), (95.83, 98.44)),
    "tweet_paraphrase": ((524_288, 262_144), (0.0078, 0.0039), (91.67, 93.75)),
}


@pytest.mark.parametrize("task", TABLE_9)
def test_parameter_counts_are_the_papers(task: str) -> None:
    setting = TABLE_9[task]
    for rank, count, percent, reduction, oppu in zip(
        (setting.collective_rank, setting.personal_rank), *PAPER[task], (6_291_456, 4_194_304), strict=True
    ):
        ours = parameter_count(len(setting.layers), rank, 4096, bias=False)
        assert ours == count
        assert round(100 * ours / LLAMA_2_7B, 4) == percent
        assert round(100 * (1 - ours / oppu), 2) == reduction
        assert parameter_count(len(setting.layers), rank, 4096) == ours + len(setting.layers) * rank


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_a_blend_lies_between_the_shared_and_the_own_map(strength: float) -> None:
    generator = torch.Generator().manual_seed(4)
    shared, own = (new_shift((2, 3, 16), init="loreft", generator=generator) for _ in "ab")
    x = torch.randn(2, 5, 16, generator=generator)
    expected = x + (1 - strength) * (shared(x) - x) + strength * (own(x) - x)
    torch.testing.assert_close(blended(shared, own, strength)(x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(shared(x), own(x), atol=0.1)
