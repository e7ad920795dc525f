"""A small real base on disk, loaded once."""

from __future__ import annotations

import pytest
import small_base

from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    loaded = load_base(small_base.write_base(tmp_path_factory.mktemp("base")))
    return Backbone(loaded.model, loaded.tokenizer, name="small")
