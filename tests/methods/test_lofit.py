"""LoFiT: which heads it picks, and that biases act where they were trained, against hooks set by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import ANNA, asks, base, make, setting
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.methods.method import Setting
from perfit.methods.prompts import Prompts
from perfit.methods.tuning import answer_loss

HEADS, SIZE = 4, 8
ALIVE = {1, 11, 14}  # layer · HEADS + head


@pytest.fixture
def where(tmp_path: Path) -> Setting:
    """A base in which three heads reach the output and thirteen do not."""
    model = copy.deepcopy(base("llama").model)
    with torch.no_grad():
        for layer, block in enumerate(model.model.layers):
            for head in range(HEADS):
                if layer * HEADS + head not in ALIVE:
                    block.self_attn.o_proj.weight[:, head * SIZE : (head + 1) * SIZE] = 0
    return replace(setting(tmp_path), backbone=Backbone(model, base("llama").tokenizer, name="llama"))


@contextmanager
def biased(backbone: Backbone, heads: Sequence[int], biases: Tensor) -> Iterator[None]:
    """Each head's bias added to its part of what its layer's output projection gets."""

    def hook(layer: int) -> Any:
        def add(module: Any, inputs: Any) -> Any:
            z = inputs[0].clone()
            for head, bias in zip(heads, biases, strict=True):
                if head // HEADS == layer:
                    begin = head % HEADS * SIZE
                    z[..., begin : begin + SIZE] += bias
            return (z,)

        return add

    blocks = backbone.model.model.layers
    handles = [block.self_attn.o_proj.register_forward_pre_hook(hook(n)) for n, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_the_heads_that_matter_are_picked_and_moved_where_they_were_trained(where: Setting) -> None:
    method: Any = make("lofit", where, candidates=3, heads=2, epochs=25, learning_rate=0.1)
    assert method.adapt([ANNA]) == {}
    kept = method.work.adapted(ANNA)
    candidates = kept.tensors["candidates"].tolist()
    assert set(candidates) == ALIVE
    heads, biases = candidates[:2], kept.tensors["biases"].float()
    rows = Prompts(where).maker.history_rows(ANNA)

    def loss(at: Sequence[int]) -> float:
        with torch.no_grad(), biased(where.backbone, at, biases):
            return float(answer_loss(where.backbone, rows).sum()) / sum(len(row.answer_ids) for row in rows)

    # The rate falls to nothing, so that the last epoch's loss is that of what is kept.
    first, last = kept.notes["losses"][0], kept.notes["losses"][-1]
    assert first - last > 0.3
    assert loss(heads) == pytest.approx(last, abs=0.05 * (first - last))
    assert loss(heads[::-1]) > last + 0.5 * (first - last)
    for ask, text in zip(asks(ANNA), method.predict(asks(ANNA)), strict=True):
        tokens = list(Prompts(where).plain(ask))
        begin = len(tokens)
        with torch.no_grad(), biased(where.backbone, heads, biases):
            while len(tokens) < begin + Prompts(where).limit:
                tokens.append(int(where.backbone.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        said = tokens[begin:]
        said = said[: said.index(2)] if 2 in said else said
        assert text == where.backbone.tokenizer.decode(said, skip_special_tokens=True)
