"""A served run, made once; tests that change it serve a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_run import Site, site, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody changes."""
    return train(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session", params=["reference", "transformers"])
def shared_site(
    request: pytest.FixtureRequest, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server for tests that only ask, with either engine."""
    with site(copy_of(trained, tmp_path_factory.mktemp("shared")), engine=request.param) as one:
        yield one


@pytest.fixture
def own_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, for a test to change."""
    return copy_of(trained, tmp_path)


def copy_of(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder / "run")
    return folder / "run"
