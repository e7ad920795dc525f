"""A lead that runs once gives every forward of its owners' rows what the plain runner gives, gradients included."""

from __future__ import annotations

import pytest
import torch
from families import NAMES, learnable, parameters_of, random_shift, tiny
from test_runners import HEAD, SLOTS, rows

from perfit.edits.edit_plan import SlotGroups
from perfit.edits.positions import Positions
from perfit.training.frozen import FrozenRunner
from perfit.training.lead import Lead
from perfit.training.plain import PlainRunner


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("rule", ["f2+l3", "all", "f2"])
@pytest.mark.parametrize("apart", [True, False])
def test_forwards_on_one_lead_equal_the_plain_runner(family: str, rule: str, apart: bool) -> None:
    backbone, positions, shift = tiny(family), Positions.parse(rule), learnable(random_shift((1, 2)))
    plain = PlainRunner(backbone, positions)
    weights = 1 / torch.arange(1, len(SLOTS) + 1)
    expected = plain.answer_loss(plain.prepare(rows()), SLOTS, shift)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters_of(shift), allow_unused=True)

    frozen = FrozenRunner(backbone, positions, (1, 2), shared=HEAD, apart=apart)
    items = frozen.prepare(rows())
    led = [i for i, item in enumerate(items) if frozen.lead(item)]
    assert len(led) >= len(SLOTS) - 2
    lead = frozen.run_lead(list(dict.fromkeys(SLOTS[i] for i in led)), shift)
    # Rows of one owner come in different forwards, and one forward holds rows of several owners.
    forwards = [led[::2], led[1::2]]
    got = torch.zeros(len(SLOTS))
    for chosen in forwards:
        loss = frozen.answer_loss([items[i] for i in chosen], [SLOTS[i] for i in chosen], shift, lead)
        got[chosen] = loss.detach()
        (loss * weights[chosen]).sum().backward()
    lead.backward()
    for i in (i for i in range(len(SLOTS)) if i not in led):
        loss = frozen.answer_loss([items[i]], [SLOTS[i]], shift)
        got[i] = loss.detach()[0]
        (loss * weights[i]).sum().backward()

    torch.testing.assert_close(got, expected.detach(), rtol=2e-5, atol=2e-5)
    for parameter, gradient in zip(parameters_of(shift), wanted, strict=True):
        if gradient is None:
            continue
        assert parameter.grad is not None
        # Slot 0 stands still: nothing trains it.
        torch.testing.assert_close(
            parameter.grad[1:], gradient[1:], rtol=1e-3, atol=2e-5 * max(1.0, float(gradient.abs().max()))
        )


def test_gradients_of_many_forwards_sum_in_fp32_on_a_bf16_base() -> None:
    computed = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    lead = Lead([(1, 1)], {0: (computed * 1, computed * 1)})
    for _ in range(1000):  # in bf16 a sum of ones ends at 256
        keys, values = lead.of([(1, 1)], SlotGroups.of_owners([(1, 1)]))[0]
        assert keys.dtype == torch.bfloat16
        (keys + 3 * values).sum().backward()
    lead.backward()
    assert computed.grad is not None
    assert float(computed.grad) == 4000
