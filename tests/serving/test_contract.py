"""Every part of transformers' insides that is touched is there, with the parameters that are used."""

from __future__ import annotations

import importlib
import inspect
from types import SimpleNamespace

import families
import pytest
import torch
import transformers
from served_world import LAYERS, SMALL

from perfit.errors import BaseModelError
from perfit.serving import continuous, proof
from perfit.serving.continuous import KNOWN, TOUCHED, Pages, check_version


@pytest.mark.parametrize("name", TOUCHED)
def test_a_touched_function_is_there(name: str) -> None:
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        assert hasattr(found, part), f"transformers {transformers.__version__}: {name} is gone; {part} is not there"
        found = getattr(found, part)
    missing = set(TOUCHED[name]) - set(inspect.signature(found).parameters)  # type: ignore[arg-type]
    assert not missing, f"transformers {transformers.__version__}: {name} takes no {', '.join(sorted(missing))}"


ATTRIBUTES = {
    "processor": ("cache", "scheduler", "inputs_and_outputs", "model_runner"),
    "processor.cache": ("cache_allocators", "cache_tensor", "bytes_per_sector", "use_prefix_sharing", "update"),
    "processor.scheduler": ("block_new_requests", "active_requests", "waiting_requests"),
    "processor.inputs_and_outputs": ("requests_in_batch", "output_ids"),
}


@pytest.mark.parametrize("place", ATTRIBUTES)
def test_a_touched_attribute_is_there(place: str) -> None:
    found = Pages(families.tiny("llama"), SMALL)._processor
    for part in place.split(".")[1:]:
        found = getattr(found, part)
    missing = [name for name in ATTRIBUTES[place] if not hasattr(found, name)]
    assert not missing, f"transformers {transformers.__version__}: {place} has no {', '.join(missing)}"


def test_a_touched_part_of_the_allocator_is_there() -> None:
    (allocator,) = Pages(families.tiny("llama"), SMALL)._processor.cache.cache_allocators.values()
    for name in ("block_table", "blocks_per_sector", "_copy_view", "ledger", "pool", "index"):
        assert hasattr(allocator, name), f"transformers {transformers.__version__}: the allocator has no {name}"
    for name in ("hash_to_block", "block_to_hash"):
        assert hasattr(allocator.ledger, name), f"transformers {transformers.__version__}: the ledger has no {name}"


@pytest.mark.parametrize(
    ("version", "known"), [("5.22.9", False), ("5.23.0", True), ("5.23.4", True), ("5.24.0", False)]
)
def test_versions_outside_the_window_are_refused(version: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "transformers", SimpleNamespace(__version__=version))
    assert KNOWN == ((5, 23), (5, 24))
    if known:
        check_version()
    else:
        with pytest.raises(BaseModelError, match="reference engine"):
            check_version()


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_proves_itself(family: str, dtype: torch.dtype) -> None:
    proof.prove(families.tiny(family, dtype), LAYERS)


def test_a_base_that_differs_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    step = proof.Batched.step

    def wrong(self: proof.Batched) -> None:
        for row in self._rows.values():
            row.answer.edited = tuple(place + 1 for place in row.answer.edited)
        step(self)

    monkeypatch.setattr(proof.Batched, "step", wrong)
    with pytest.raises(BaseModelError, match="differ"):
        proof.prove(families.tiny("llama"), LAYERS)


def test_a_base_that_fails_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(Pages, "forward", fails)
    with pytest.raises(BaseModelError, match="RuntimeError"):
        proof.prove(families.tiny("llama"), LAYERS)
