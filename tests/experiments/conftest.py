"""One smoke world for all tests here: tiny bases and made-up users, written once."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from smoke_choices import choices_in

from perfit.experiments.world import World


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(choices_in(tmp_path_factory.mktemp("reproduce")))
