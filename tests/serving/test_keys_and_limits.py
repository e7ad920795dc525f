"""Keys, whom they may act for, and how much they may ask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from served_run import PROMPT, Site, site

from perfit.errors import ConfigError
from perfit.serving.faults import RefusedError
from perfit.serving.keys import ANSWER, LEARN, OPERATE, Keys, Tenant, add_key, read_keys
from perfit.serving.limits import Limits
from perfit.serving.server import ServeConfig

BODY = {"prompt": PROMPT, "max_tokens": 1}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_file_of_keys_holds_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = add_key(path, "shop", ["shop-*"], [ANSWER], 60)
    second = add_key(path, "shop", ["anna"], [OPERATE], None)
    other = add_key(path, "bank", ["ben"], [ANSWER, LEARN], None)
    assert first not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    keys = read_keys(path)
    shop = keys.tenant_of(first)
    assert shop is not None
    assert shop == keys.tenant_of(second)
    assert (shop.users, shop.may, shop.requests_per_minute) == (("shop-*", "anna"), (ANSWER,), 60)
    bank = keys.tenant_of(other)
    assert bank is not None
    assert bank.name == "bank"
    for wrong in ("", first[:-1], first + "x", first.upper(), "é"):
        assert keys.tenant_of(wrong) is None


def test_a_tenant_acts_for_its_users_and_for_nobody() -> None:
    tenant = Tenant("shop", users=("shop-*", "anna"))
    for user in ("shop-1", "shop-", "anna", "base", "collective"):
        assert tenant.acts_for(user)
    for user in ("shop", "anna2", "Anna", "ben", "", "*"):
        assert not tenant.acts_for(user)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"tenants": {}},
        {"tenants": {"a": 1}},
        {"tenants": {"a": {"keys": "x"}}},
        {"tenants": {"a": {"keys": ["plain-key"]}}},
        {"tenants": {"a": {"may": ["everything"]}}},
        {"tenants": {"a": {"requests_per_minute": 0}}},
        {"tenants": {"a": {"surprise": 1}}},
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, record: dict[str, Any]) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError) as refused:
        read_keys(path)
    assert "\n" not in str(refused.value)
    assert "plain-key" not in str(refused.value)


def test_without_keys_no_other_machine_is_served() -> None:
    with pytest.raises(ConfigError, match="--keys"):
        ServeConfig(Path("run"), "0.0.0.0", 8000, "auto", None, 1, 0.0)
    ServeConfig(Path("run"), "::1", 8000, "auto", None, 1, 0.0)
    ServeConfig(Path("run"), "0.0.0.0", 8000, "auto", Path("keys"), 1, 0.0)


def test_whom_a_key_may_act_for(own_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    shop = add_key(path, "shop", ["anna", "new-*"], [ANSWER], None)
    bank = add_key(path, "bank", ["ben", "gone"], [ANSWER, LEARN, OPERATE], None)
    with site(own_run, keys=read_keys(path)) as one:

        def status(key: str, user: str) -> tuple[int, str | None]:
            answer = one.post("/v1/completions", BODY | {"user": user}, headers=bearer(key))
            return answer.status_code, answer.json().get("error", {}).get("code")

        assert status(shop, "anna") == (200, None)
        assert status(shop, "base") == (200, None)
        # A foreign user, known or not, is one and the same answer; an own one without a shift another.
        assert status(shop, "ben") == status(shop, "nobody") == (403, "foreign_user")
        assert status(bank, "gone") == (404, "user_not_found")
        for wrong in ({}, bearer("x"), {"authorization": f"Basic {shop}"}, bearer("y" * 100_000)):
            answer = one.post("/v1/completions", BODY | {"user": "anna"}, headers=wrong)
            assert answer.status_code in (401, 431, 400), answer.status_code
        assert one.post("/v1/completions", BODY | {"user": "anna"}).json()["error"]["code"] == "invalid_api_key"
        assert one.http.get("/v1/users", headers=bearer(shop)).json()["error"]["code"] == "missing_right"
        assert one.http.get("/v1/users", headers=bearer(bank)).json()["data"] == ["ben"]
        for method, path_ in (
            ("PUT", "history"),
            ("POST", "feedback"),
            ("POST", "personalize"),
            ("GET", "personalize"),
            ("GET", "shift"),
            ("GET", "versions"),
            ("POST", "rollback"),
        ):
            answer = one.http.request(method, f"/v1/users/anna/{path_}", json={}, headers=bearer(bank))
            assert answer.json()["error"]["code"] == "foreign_user"
        assert one.http.delete("/v1/users/anna", headers=bearer(bank)).status_code == 403
        assert one.http.get("/metrics", headers=bearer(shop)).status_code == 403
        assert one.http.get("/metrics", headers=bearer(bank)).status_code == 200
        assert one.http.get("/health").status_code == 200
        # With keys it is they that count, whatever the name of the host.
        assert one.http.get("/v1/models", headers=bearer(shop) | {"host": "example.org"}).status_code == 200


def test_without_keys_no_web_page_of_another_site_may_ask(shared_site: Site) -> None:
    body = BODY | {"user": "anna"}
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        assert shared_site.post("/v1/completions", body, headers=headers).status_code == 403
    assert shared_site.post("/v1/completions", body, headers={"origin": shared_site.url}).status_code == 200


def test_a_bucket_empties_and_fills_again() -> None:
    now = 0.0
    limits, tenant = Limits(8, lambda: now), Tenant("shop", requests_per_minute=3)
    for _ in range(3):
        limits.spend(tenant)
    with pytest.raises(RefusedError) as refused:
        limits.spend(tenant)
    assert (refused.value.status, refused.value.retry_after) == (429, 20)
    limits.spend(Tenant("bank", requests_per_minute=1))
    now = 20.0
    limits.spend(tenant)
    with pytest.raises(RefusedError):
        limits.spend(tenant)
    now = 1e6
    for _ in range(3):
        limits.spend(tenant)
    with pytest.raises(RefusedError):
        limits.spend(tenant)


def test_one_tenant_leaves_room_for_another() -> None:
    limits, shop, bank = Limits(4), Tenant("shop"), Tenant("bank")
    limits.begin(shop, 4)
    with pytest.raises(RefusedError) as refused:
        limits.begin(bank)
    assert (refused.value.status, refused.value.retry_after) == (429, 1)
    limits.end(shop, 2)
    limits.begin(bank)
    with pytest.raises(RefusedError):
        limits.begin(shop)  # two of four are its half, while another is there
    limits.begin(bank)
    limits.end(bank, 2)
    limits.begin(shop)
    limits.end(shop, 3)
    assert limits.flying() == 0


def test_who_was_turned_away_finds_a_place_before_those_who_have_theirs() -> None:
    """Else a tenant that asks on and on has each place again as soon as it is free, and nobody else ever gets one."""
    now = 0.0
    limits, shop, bank, dock = Limits(6, lambda: now), Tenant("shop"), Tenant("bank"), Tenant("dock")
    limits.begin(shop, 6)
    with pytest.raises(RefusedError):
        limits.begin(bank)
    limits.end(shop)
    with pytest.raises(RefusedError):
        limits.begin(shop)
    limits.begin(bank)
    with pytest.raises(RefusedError):
        limits.begin(dock)
    limits.end(shop, 3)
    with pytest.raises(RefusedError):
        limits.begin(shop)  # of three tenants each has a third
    limits.begin(dock, 2)
    limits.begin(bank)
    limits.end(dock, 2)
    limits.end(bank, 2)
    limits.begin(shop, 4)
    with pytest.raises(RefusedError):
        limits.begin(dock)
    limits.end(shop, 4)
    with pytest.raises(RefusedError):
        limits.begin(shop, 4)
    now = 30.0  # whoever does not come back is no longer waited for
    limits.begin(shop, 4)
    limits.end(shop, 6)
    assert limits.flying() == 0


def test_too_many_requests_are_told_when_to_come_again(own_run: Path, tmp_path: Path) -> None:
    keys = Keys([Tenant("shop", users=("anna",), requests_per_minute=2, keys=())])
    path = tmp_path / "keys.json"
    key = add_key(path, "shop", ["anna"], [ANSWER], 2)
    with site(own_run, keys=read_keys(path), most=2) as one:
        body = BODY | {"user": "anna"}
        over = one.post("/v1/completions", body | {"n": 3}, headers=bearer(key))
        assert (over.status_code, over.json()["error"]["code"]) == (429, "queue_full")
        assert over.headers["retry-after"] == "1"
        assert one.post("/v1/completions", body, headers=bearer(key)).status_code == 200
        third = one.post("/v1/completions", body, headers=bearer(key))
        assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(third.headers["retry-after"]) <= 60
    assert keys.tenant_of("") is None


def test_the_number_of_series_does_not_grow_with_users(own_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    canary = "canary-9b1f"
    with site(own_run) as one:

        def series() -> set[str]:
            lines = one.http.get("/metrics").text.splitlines()
            return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

        def ask(user: str) -> None:
            one.post("/v1/completions", BODY | {"user": user, "prompt": f"{PROMPT} {canary}"})
            one.http.get(f"/v1/users/{user}/versions")
            one.http.get(f"/{canary}/{user}")
            one.http.request(canary.upper()[:6], f"/v1/{user}")

        ask("anna")
        ask("nobody")
        series()  # it is counted itself
        before = series()
        for number in range(200):
            ask(f"{canary}-{number}")
        assert series() == before
        assert not [name for name in before if canary in name or "anna" in name]
        assert re.search(r"perfit_tokens_total\{kind=\"answer\"\} 1\.0", one.http.get("/metrics").text)
    told = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith(("perfit", "uvicorn")))
    assert "POST /v1/completions 404" in told
    assert canary not in told
    assert "anna" not in told
