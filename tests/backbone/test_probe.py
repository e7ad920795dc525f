"""The probe measures once, keeps what it found, and picks what was faster."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perfit.backbone.probe import Probe, probe

CPU = torch.device("cpu")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERFIT_CACHE", str(tmp_path))
    return tmp_path


def test_it_measures_once_and_reads_what_it_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.cache_clear()
    first = probe(CPU)
    assert all(rate > 0 for pair in first.products.values() for rate in pair)
    assert all(time > 0 for times in first.attention.values() for time in times.values())
    probe.cache_clear()
    monkeypatch.setattr("perfit.backbone.probe._products", lambda *args: pytest.fail("measured again"))
    assert probe(CPU) == first
    probe.cache_clear()


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 100_000, '{"products": {}}', '{"products": {"float32": ["x", 1]}}']
)
def test_a_damaged_file_is_measured_again(home: Path, content: str) -> None:
    probe.cache_clear()
    first = probe(CPU)
    (path,) = home.glob("probe-*.json")
    path.write_text(content)
    probe.cache_clear()
    assert probe(CPU).products.keys() == first.products.keys()
    assert path.read_text() != content
    probe.cache_clear()


def test_a_changed_rate_is_measured_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfit.backbone.probe._products", lambda device, dtype: (12.5, 10.25))
    probe.cache_clear()
    first = probe(CPU)
    (path,) = home.glob("probe-*.json")
    content = path.read_text()
    path.write_text(content.replace("10.25", "90.25", 1))
    assert path.read_text() != content
    probe.cache_clear()
    assert probe(CPU).products == first.products
    probe.cache_clear()


def test_it_picks_what_was_faster() -> None:
    products = {"float32": (100.0, 100.0), "bfloat16": (300.0, 40.0)}
    attention = {"float32": {"apart": 2.0, "joined": 1.0}, "bfloat16": {"apart": 1.0, "joined": 1.5}}
    found = Probe("cpu x", 2, products, attention)
    assert found.dtype == torch.float32, "the slow backward costs more than the fast forward saves"
    assert not found.apart(torch.float32)
    assert found.apart(torch.bfloat16)
    assert found.rate(torch.bfloat16) == 3e11
    assert "attention joined" in found.line(torch.float32)
