"""Which devices and dtypes are possible."""

from __future__ import annotations

import pytest
import torch

from perfit.backbone.probe import Probe
from perfit.errors import ConfigError
from perfit.precision import resolve_dtype


@pytest.mark.parametrize("wanted", ["auto", "float32"])
def test_a_cuda_device_that_is_not_there_is_refused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no 'cuda:9', torch sees 0 CUDA devices; give cpu"):
        resolve_dtype(wanted, "cuda:9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="give cuda:0 to cuda:1, or cpu"):
        resolve_dtype(wanted, torch.device("cuda:9"))


@pytest.mark.parametrize(("bf16", "expected"), [(200.0, torch.bfloat16), (50.0, torch.float32)])
def test_auto_is_what_this_device_multiplies_faster(
    bf16: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = {"float32": (100.0, 100.0), "bfloat16": (bf16, bf16)}
    monkeypatch.setattr("perfit.backbone.probe.probe", lambda device: Probe("cpu", 1, products, {}))
    assert resolve_dtype("auto", "cpu") == expected
    assert resolve_dtype("float16", "cpu") == torch.float16


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="device: 'warp'"):
        resolve_dtype("auto", "warp")
    with pytest.raises(ConfigError, match="dtype: 'int8'"):
        resolve_dtype("int8")
