"""One smoke world for all tests here: tiny bases and made-up users, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfit.experiments.scale import Choices, scale_of
from perfit.experiments.world import World

TASKS = ("news_categorize",)


def choices_in(out: Path, *tasks: str) -> Choices:
    """The smoke scale on some tasks, in a folder."""
    return Choices(scale_of("smoke").with_changes(tasks=tasks or TASKS), out, device="cpu")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(choices_in(tmp_path_factory.mktemp("reproduce")))
