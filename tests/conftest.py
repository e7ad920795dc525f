"""One thread for tiny models, the same random numbers in every test, and the tiny bases."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "perfit",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("perfit")


_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


_LONG = (
    "test_every_entry",
    "test_killed_reproduction",
    "test_kills",
    "test_interleavings",
    "test_resume",
    "test_browser",
)
"""Files of which one worker has half a minute's work: begun last, they and the real bases would be waited for."""


def pytest_configure(config: pytest.Config) -> None:
    """Files go to workers in our order: xdist would begin those of few tests last, and the longest have one."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``-n`` and ``--dist loadgroup`` a file's tests share a worker, and its fixtures; one worker has all real bases.

    First of all such hooks: xdist reads the groups in its own.
    """
    if config.pluginmanager.hasplugin("xdist"):
        items.sort(key=lambda item: item.path.stem not in _LONG and not item.get_closest_marker("real"))
        for item in items:
            file = item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group("real" if item.get_closest_marker("real") else file))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test takes the power away: what a killed process wrote is there without ``fsync``, and who calls it is counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny base, ``base``, and of ``run``, trained on ``small_base.dataset()`` and evaluated. To be copied."""
    from small_base import CONFIG, TASK, dataset, write_base

    from perfit.evaluation.evaluate import evaluate
    from perfit.personalizer import PerFit
    from perfit.run import RunDirectory

    folder = tmp_path_factory.mktemp("scored")
    perfit = PerFit.from_pretrained(write_base(folder / "base"), CONFIG, task=TASK)
    perfit.fit(dataset(), run=folder / "run", listener=lambda event: None)
    evaluate(perfit, dataset().users, run=RunDirectory(folder / "run"))
    return folder


@pytest.fixture(scope="session")
def tiny() -> Callable[..., object]:
    """``tiny(family, dtype)``: a random base of four layers, made once."""
    import families

    return families.tiny


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; whoever asks for it is skipped where there is none.

    It ends with its file: while it is there its thread has a running event loop, and other tests have loops of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found is None:
        pytest.skip(f"needs a Chromium on the PATH ({', '.join(_CHROMIUM)}), such as Debian's package chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found)
        yield opened
        opened.close()
