"""Without the extra, one line says what to install."""

from __future__ import annotations

import sys

import pytest

from perfit.analysis.extra import extra
from perfit.errors import MissingExtraError


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingExtraError, match=r"needs plotly.*perfit\[analysis\]"):
        extra("plotly.offline")
    assert extra("numpy.linalg").norm([3, 4]) == 5
