"""A base that bitsandbytes packed to four bits gives the losses and gradients of the same weights unpacked."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, ShiftBank, new_shift
from perfit.errors import BaseModelError
from perfit.how_to_open import HowToOpen
from perfit.opening import open_base
from perfit.training.examples import RowMaker
from perfit.training.frozen import FrozenRunner
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, common_prefix
from perfit.training.user_rows import rows_of_users

pytestmark = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
LAYERS = (0, 1)  # layers of packed weights lie behind both


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    base = write_base(tmp_path_factory.mktemp("base"), width=64)
    return open_base(base, HowToOpen(dtype="float32", device="cpu", quantization="4bit")).backbone


def unpacked(backbone: Backbone) -> Backbone:
    """A model of the same numbers with plain layers."""
    from bitsandbytes.functional import dequantize_4bit
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM(type(backbone.model.config)(**_plain(backbone.model.config.to_dict())))
    modules = dict(backbone.model.named_modules())
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                theirs = modules[name].weight
                state = getattr(theirs, "quant_state", None)
                own = theirs if state is None else dequantize_4bit(theirs.data, state)
                module.weight.copy_(own)
            elif getattr(module, "weight", None) is not None:
                module.weight.copy_(modules[name].weight)
    return Backbone(model, backbone.tokenizer)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "quantization_config"}


def losses_and_gradients(runner: Runner, rows: Any, width: int) -> tuple[Tensor, list[Tensor]]:
    random = new_shift((2, 2, 3, width), init="loreft", generator=torch.Generator().manual_seed(0))
    banks = [ShiftBank(Shift(*(t[[at, at]].clone() for t in random.tensors().values()))) for at in (0, 1)]
    for bank in banks:
        for tensor in bank.shift.tensors().values():
            tensor.requires_grad_(True)
    with torch.no_grad():  # what answers without gradients must leave the layers as they are
        runner.answer_loss(runner.prepare(rows), [(1, 1)] * len(rows), TwoStageShift(LAYERS, *banks))
    loss = runner.answer_loss(runner.prepare(rows), [(1, 1)] * len(rows), TwoStageShift(LAYERS, *banks))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    return loss.detach(), [t.grad for bank in banks for t in bank.shift.tensors().values() if t.grad is not None]


@pytest.mark.parametrize("engine", ["plain", "frozen"])
def test_losses_and_gradients_are_those_of_the_unpacked_weights(packed: Backbone, engine: str) -> None:
    rows = rows_of_users(RowMaker(TASK, packed.tokenizer, CONFIG), dataset(("anna",)).users)["anna"][:3]
    positions = Positions.parse("l3")

    def run(backbone: Backbone) -> tuple[Tensor, list[Tensor]]:
        plain: Runner = PlainRunner(backbone, positions)
        fast = FrozenRunner(backbone, positions, LAYERS, shared=common_prefix(rows))
        return losses_and_gradients(plain if engine == "plain" else fast, rows, backbone.hidden_size)

    (theirs, wanted), (ours, found) = run(unpacked(packed)), run(packed)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert len(found) == len(wanted) == 6
    assert all(float(gradient.abs().max()) > 1e-4 for gradient in wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_layers_that_packed_themselves_for_answers_are_refused(packed: Backbone) -> None:
    (first, *_) = (module for module in packed.model.modules() if hasattr(module, "support_avx512bf16_for_cpu"))
    assert first.support_avx512bf16_for_cpu is False
    first.weight.quant_state.packing_format_for_cpu = True
    try:
        with pytest.raises(BaseModelError, match=r"^the base: ran before, .*; load it anew$"):
            Backbone(packed.model, packed.tokenizer, name="the base")
    finally:
        first.weight.quant_state.packing_format_for_cpu = False
