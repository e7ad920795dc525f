"""Which device is chosen, what is said of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, write_base

from perfit import opening
from perfit.device import choose_device
from perfit.errors import ConfigError
from perfit.personalizer import PerFit


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tells torch which accelerators there are."""

    def tell(*kinds: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int("cuda" in kinds))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)

    return tell


@pytest.mark.parametrize(
    ("kinds", "chosen", "said"),
    [
        ((), "cpu", []),
        (("mps",), "mps", ["device: mps is chosen; cpu would be the other choice"]),
        (("cuda", "mps"), "cuda", ["device: cuda (a card) is chosen; cpu would be the other choice"]),
    ],
)
def test_auto_takes_the_fastest_kind_and_says_so_where_it_had_a_choice(
    kinds: tuple[str, ...], chosen: str, said: list[str], there: Any
) -> None:
    there(*kinds)
    lines: list[Any] = []
    assert choose_device("auto", lines.append) == chosen
    assert choose_device(listener=lines.append) == chosen
    assert [event.text for event in lines] == said * 2


def test_a_device_that_is_named_is_taken_in_silence(there: Any) -> None:
    there("cuda")
    lines: list[Any] = []
    assert choose_device("cpu", lines.append) == "cpu"
    assert choose_device(torch.device("cuda:0"), lines.append) == "cuda:0"
    assert lines == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("cuda", "there is no 'cuda', torch sees 0 CUDA devices; give cpu, or auto for what is there"),
        ("mps", "there is no 'mps' here; give cpu, or auto for what is there"),
        ("xpu", "there is no 'xpu' here; give cpu, or auto"),
        ("meta", "'meta' holds no numbers; give auto or cpu"),
        ("warp", "'warp' is not possible; give auto, cpu, cuda, cuda:1, mps"),
        ("", "'' is not possible; give auto"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_the_way_out(wanted: str, said: str, there: Any) -> None:
    there()
    with pytest.raises(ConfigError) as refused:
        choose_device(wanted)
    assert str(refused.value).startswith(f"device: {said}")
    assert "\n" not in str(refused.value)


def test_a_base_goes_to_what_is_there_unless_told_otherwise(
    tmp_path: Path, there: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, wanted = write_base(tmp_path), []
    original = opening.load_base

    def load_base(*arguments: Any, **options: Any) -> Any:
        wanted.append(options.pop("device"))
        return original(*arguments, device="cpu", **options)

    monkeypatch.setattr(opening, "load_base", load_base)

    def said(**options: Any) -> list[str]:
        PerFit.from_pretrained(base, CONFIG, task=TASK, **options)
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("perfit: ")]

    assert said() == []
    there("cuda")
    assert said() == ["perfit: device: cuda (a card) is chosen; cpu would be the other choice"]
    assert said(device="cpu") == []
    assert wanted == ["cpu", "cuda", "cpu"]
