"""A running server follows its file of keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from served_run import PROMPT, Site, site

from perfit.errors import ConfigError
from perfit.serving.key_file import KeyFile
from perfit.serving.keys import ANSWER, add_key


def status(one: Site, key: str, user: str = "base") -> int:
    body = {"prompt": PROMPT, "max_tokens": 1, "user": user}
    return one.http.post("/v1/completions", json=body, headers={"authorization": f"Bearer {key}"}).status_code


def test_keys_come_and_go_while_it_serves(own_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = add_key(path, "shop", ["anna"], [ANSWER], None)
    with site(own_run, keys=KeyFile(path)) as one:
        assert (status(one, first, "anna"), status(one, first, "ben")) == (200, 403)
        second = add_key(path, "bank", ["ben"], [ANSWER], None)
        assert (status(one, first, "anna"), status(one, second, "ben")) == (200, 200)
        record = json.loads(path.read_text())
        del record["tenants"]["shop"]
        path.write_text(json.dumps(record))
        assert (status(one, first, "anna"), status(one, second, "ben")) == (401, 200)
        # What shop had in memory must be found when a user is erased.
        assert one.gateway.keys is not None
        assert {tenant.name for tenant in one.gateway.keys.tenants} == {"shop", "bank"}
        path.write_text("{")
        assert (status(one, first), status(one, second)) == (401, 200)
        path.unlink()
        assert (status(one, first), status(one, second)) == (401, 200)


def test_a_server_does_not_begin_without_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{}")
    with pytest.raises(ConfigError):
        KeyFile(path)
