"""Workers of pytest-xdist take whole files."""

from __future__ import annotations

import pytest


def test_a_file_goes_to_one_worker(request: pytest.FixtureRequest) -> None:
    if not hasattr(request.config, "workerinput"):
        pytest.skip("runs in one process")
    # pytest 9.2 hides the name that xdist 3.8 writes a group to: tests go anywhere, and fixtures are made twice.
    assert request.node.nodeid.endswith("@tests/test_workers.py")
