"""Pieces of answers as they come: of every row, joined, they are the answer of ``generate``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from families import random_shift, tiny
from small_base import CONFIG, TASK, dataset, write_base

from perfit.data.schema import Query
from perfit.edits.positions import Positions
from perfit.errors import ConfigError, UnknownUserError
from perfit.inference import edited as edited_module
from perfit.inference.decode import steps
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate, stream
from perfit.inference.label_set import LabelSet
from perfit.personalizer import PerFit

PROMPTS = [[5, 9, 7, 30, 12, 8, 40], [11, 12], [5, 9, 7, 30, 12, 8, 40], [60, 3, 4, 5]]
PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2))
DATA = dataset()
USERS = [*(user.id for user in DATA.users), "base", "collective", "anna"]
TEXTS = ["river stone lamp", "日本語 boat", "the winter 🙂 song", "é", "paper garden", "river stone lamp"]


def joined(pieces: Iterable[tuple[int, str]], rows: int) -> tuple[list[str], list[int]]:
    """The text of each row, and how many pieces it came in."""
    texts, counts = [""] * rows, [0] * rows
    for row, piece in pieces:
        assert piece
        texts[row] += piece
        counts[row] += 1
    return texts, counts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PerFit:
    perfit = PerFit.from_pretrained(write_base(tmp_path_factory.mktemp("base")), CONFIG, task=TASK)
    perfit.fit(DATA, listener=lambda event: None)
    return perfit


HOW: list[dict[str, Any]] = [
    {},
    {"batch_rows": 1},
    {"batch_rows": 3},
    {"sample": True, "temperature": 1.5, "top_k": 50, "top_p": 1.0, "seed": 3},
    {"beams": 2},
    {"repetition_penalty": 1.7, "no_repeat_ngram": 2},
    {"within": lambda prompt: LabelSet.of([(40, 41, 2), (50, 2)], ["forty", "fifty"])},
]


@pytest.mark.parametrize("how", HOW, ids=lambda how: ",".join(how))
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_pieces_of_every_family_are_its_answers(family: str, how: dict[str, Any]) -> None:
    backbone, shift, rule = tiny(family), random_shift((1, 2)), Positions.parse("f2+l3")
    decoding = Decoding(max_new_tokens=6, **how)
    whole = generate(backbone, PROMPTS, PAIRS, shift, rule, decoding)
    texts, counts = joined(stream(backbone, PROMPTS, PAIRS, shift, rule, decoding), len(PROMPTS))
    assert texts == whole
    assert counts == [1 if "beams" in how or "within" in how else 6] * len(PROMPTS)


@pytest.mark.parametrize(("sample", "batch_rows", "at_once"), [(False, 64, 2), (True, 64, 256), (True, 2, 256)])
def test_users_stops_and_scripts(
    trained: PerFit, sample: bool, batch_rows: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edited_module, "_USERS_AT_ONCE", at_once)
    # Warm sampling on a random base says bytes of every kind, most of them no text.
    how: dict[str, Any] = {"sample": sample, "temperature": 5.0, "top_k": 700, "top_p": 1.0, "seed": 7}
    free = Decoding(max_new_tokens=16, batch_rows=batch_rows, **how)
    whole = trained.generate(TEXTS, USERS, decoding=free)
    assert len(set(whole)) > 3
    texts, counts = joined(trained.stream(TEXTS, USERS, decoding=free), len(TEXTS))
    assert texts == whole
    assert max(counts) > 5
    for text in whole[1:4]:
        # From within an answer: one character, some over the borders of tokens, and what is begun in vain.
        for stop in ((text[3],), (text[4:7] + "nobody", text[5:8])):
            ended = Decoding(max_new_tokens=16, batch_rows=batch_rows, stop=stop, **how)
            expected = trained.generate(TEXTS, USERS, decoding=ended)
            assert joined(trained.stream(TEXTS, USERS, decoding=ended), len(TEXTS))[0] == expected
            assert all(one not in answer for one in stop for answer in expected)


def test_a_piece_comes_when_its_token_does(trained: PerFit, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards: list[int] = []

    def counted(*given: Any, **named: Any) -> Any:
        for said in steps(*given, **named):
            forwards.append(1)
            yield said

    monkeypatch.setattr("perfit.inference.decode.steps", counted)
    pieces = trained.stream("river stone", "anna", max_new_tokens=20)
    assert forwards == []
    first = next(pieces)
    assert first[0] == 0
    assert len(forwards) < 6
    assert (
        first[1] + "".join(piece for _, piece in pieces)
        == trained.generate(["river stone"], ["anna"], max_new_tokens=20)[0]
    )


def test_one_text_or_many_for_one_user_or_many(trained: PerFit) -> None:
    query = Query("q", "the winter song")
    single = trained.generate([query], ["ben"], max_new_tokens=5)
    assert joined(trained.stream(query, "ben", max_new_tokens=5), 1)[0] == single
    several = trained.generate(TEXTS, ["ben"] * len(TEXTS))
    assert joined(trained.stream(TEXTS, "ben"), len(TEXTS))[0] == several
    assert list(trained.stream([], [])) == []


def test_the_shifts_are_those_of_the_call(trained: PerFit) -> None:
    expected = trained.generate(TEXTS, USERS, max_new_tokens=9)
    pieces = trained.stream(TEXTS, USERS, max_new_tokens=9)
    first = next(pieces)
    owners, trained.owners = trained.owners, type(trained.owners)()
    try:
        assert joined([first, *pieces], len(TEXTS))[0] == expected
    finally:
        trained.owners = owners


@pytest.mark.parametrize(
    ("prompts", "users", "how", "error", "says"),
    [
        ("a", "nobody", {}, UnknownUserError, "nobody"),
        (["a", "b"], ["anna"], {}, ConfigError, "users: 1 given for 2 prompts"),
        (7, "anna", {}, ConfigError, "prompts: "),
        ("a", 7, {}, ConfigError, "users: "),
        ("a", "anna", {"repetition_penalty": 0}, ConfigError, "repetition_penalty: 0 is not possible"),
        ("a", "anna", {"no_repeat_ngram": 2, "decoding": Decoding()}, ConfigError, "no_repeat_ngram: is given beside"),
        ("a", "anna", {"max_new_tokens": 5000}, ConfigError, "1024"),
    ],
)
def test_faults_are_told_by_the_call(
    trained: PerFit, prompts: Any, users: Any, how: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        trained.stream(prompts, users, **how)
