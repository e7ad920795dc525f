"""Receipts: what they say, and that nothing in them can be changed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from served_run import PROMPT, site

from perfit.errors import ConfigError
from perfit.personalizer import PerFit
from perfit.serving.receipts import Receipt, read_receipt, spans
from perfit.serving.verifying import verified
from perfit.serving.version import ShiftVersion
from perfit.store.shifts import ShiftStore

VERSION = ShiftVersion("shop", "hidden", 3, "aa" * 32, "bb" * 32, "cc" * 32, 0.5, "f2+l3")


def test_a_receipt_says_whose_shifts_and_where() -> None:
    said = read_receipt(Receipt.of(VERSION, "cc" * 32, 9, "reference").signed(b"key"), b"key")
    assert said["edited"] == [[0, 2], [6, 9]]
    assert (said["user"], said["collective"], said["base"]) == ("aa" * 32, "bb" * 32, "cc" * 32)
    assert (said["version"], said["strength"], said["positions"], said["engine"]) == (3, 0.5, "f2+l3", "reference")
    assert "hidden" not in json.dumps(dict(said))
    assert "shop" not in json.dumps(dict(said))


def test_of_the_base_and_the_shared_shift_it_says_so() -> None:
    base = Receipt.of(None, "cc" * 32, 9, "reference")
    assert (base.user, base.collective, base.edited) == (None, None, ())
    shared = Receipt.of(ShiftVersion("shop", "", 0, None, "bb" * 32, "cc" * 32, 1.0, "l2"), "cc" * 32, 9, "reference")
    assert (shared.user, shared.collective, shared.edited) == (None, "bb" * 32, ((7, 9),))


def test_no_changed_character_passes() -> None:
    text = Receipt.of(VERSION, "cc" * 32, 9, "reference").signed(b"key")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, letter in enumerate(text):
        if letter == ".":
            continue
        other = letters[(letters.index(letter) + 17) % 64]
        with pytest.raises(ConfigError):
            read_receipt(text[:place] + other + text[place + 1 :], b"key")
    for wrong in ("", ".", "a.b", text[:-5], text + "é", "x" * 9000, base64.b64encode(b"[]").decode() + "."):
        with pytest.raises(ConfigError):
            read_receipt(wrong, b"key")
    with pytest.raises(ConfigError, match="signature"):
        read_receipt(text, b"another run's")


def test_spans() -> None:
    assert spans([]) == ()
    assert spans([0, 1, 2, 5, 7, 8]) == ((0, 3), (5, 6), (7, 9))
    assert len(spans(range(0, 1000, 2))) == 64


def test_a_receipt_is_held_against_the_run(own_run: Path, trained: Path) -> None:
    with site(own_run) as one:

        def receipt(user: str) -> str:
            return one.post("/v1/completions", {"user": user, "prompt": PROMPT}).headers["x-perfit-receipt"]

        anna, base, collective = receipt("anna"), receipt("base"), receipt("collective")
    assert verified(anna, own_run)["shift"] == "live"
    of_a_receipt = {
        "base",
        "collective",
        "user",
        "version",
        "strength",
        "positions",
        "edited",
        "prompt_tokens",
        "engine",
    }
    assert verified(anna, own_run).keys() == of_a_receipt | {"signature", "shift"}
    assert verified(anna, own_run, "anna")["shift"] == "live"
    assert verified(base, own_run)["shift"].startswith("none")
    assert verified(collective, own_run)["collective"] is not None
    with pytest.raises(ConfigError, match="none of the versions"):
        verified(anna, own_run, "ben")
    with pytest.raises(ConfigError, match="not of user"):
        verified(base, own_run, "ben")
    with site(trained) as other:
        foreign = other.post("/v1/completions", {"user": "anna", "prompt": PROMPT}).headers["x-perfit-receipt"]
    with pytest.raises(ConfigError, match="signature"):
        verified(foreign, own_run)
    PerFit.from_pretrained(own_run).erase("anna")
    assert "not here any more" in verified(anna, own_run)["shift"]


def test_a_swapped_collective_is_seen(own_run: Path) -> None:
    with site(own_run) as one:
        text = one.post("/v1/completions", {"user": "anna", "prompt": PROMPT}).headers["x-perfit-receipt"]
        key = one.gateway.notebook.key
    said = dict(read_receipt(text, key))
    for name, value in (("collective", "dd" * 32), ("base", "dd" * 32)):
        fields = {field: content for field, content in said.items() if field != "format"} | {name: value}
        fields["edited"] = tuple(tuple(span) for span in fields["edited"])
        with pytest.raises(ConfigError, match=name):
            verified(Receipt(**fields).signed(key), own_run)


def test_another_strength_is_said(own_run: Path) -> None:
    with site(own_run) as one:
        text = one.post("/v1/completions", {"user": "anna", "prompt": PROMPT}).headers["x-perfit-receipt"]
    with ShiftStore.open(own_run / "personal.sqlite") as store:
        stored = store.get("anna")
        store.put("anna", stored.tensors, stored.meta | {"strength": 0.25})
    assert verified(text, own_run)["shift"] == "live, with another strength now"
