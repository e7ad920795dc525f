"""What is said of stage 1, which no erasure reaches."""

from __future__ import annotations

import pytest

from perfit.erasure.stage1 import own_histories, why_it_stays


@pytest.mark.parametrize(
    ("manifest", "own", "said"),
    [
        ({"data": {"others": 3}, "config": {"stage1_users": "others"}}, False, "trained on 3 other users"),
        ({"data": {"others": 3}, "config": {"stage1_users": "all"}}, True, "this user's among them"),
        ({"data": {"others": 0}, "config": {"stage1_users": "others"}}, True, "this user's among them"),
        ({"data": {"others": 0}, "config": {}, "stage1_from": "ab"}, True, "trained in another run"),
        ({"data": None, "config": {}}, False, "not kept here"),
    ],
)
def test_who_trained_stage_1(manifest: dict[str, object], own: bool, said: str) -> None:
    assert own_histories(manifest) == own
    assert said in why_it_stays(manifest, "run")
