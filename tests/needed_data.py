"""Where the real data sets lie, and what a test does without them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "lamp_format"


def data_folder() -> Path:
    """PERFIT_DATA, or beside the checkout."""
    return Path(os.environ.get("PERFIT_DATA") or _BESIDE).absolute()


def without(what: str) -> NoReturn:
    """Skip the test; with PERFIT_DATA_REQUIRED set, fail it."""
    if os.environ.get("PERFIT_DATA_REQUIRED"):
        pytest.fail(f"{what}, and PERFIT_DATA_REQUIRED is set", pytrace=False)
    pytest.skip(what)
