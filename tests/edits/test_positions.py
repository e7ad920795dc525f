from __future__ import annotations

import pytest
from families import picked
from hypothesis import given
from hypothesis import strategies as st

from perfit.edits.positions import Positions
from perfit.errors import ConfigError

counts = st.integers(1, 12)
indices = st.lists(st.integers(-15, 15), min_size=1, max_size=5, unique=True)
rules = st.one_of(
    st.builds(lambda f: f"f{f}", counts),
    st.builds(lambda k: f"l{k}", counts),
    st.builds(lambda f, k: f"f{f}+l{k}", counts, counts),
    st.just("all"),
    st.builds(lambda i: ",".join(map(str, i)), indices),
)
lengths = st.integers(1, 40)


@given(rules)
def test_a_rule_reads_back_as_written(text: str) -> None:
    assert str(Positions.parse(text)) == text
    assert Positions.parse(str(Positions.parse(text))) == Positions.parse(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("f7+l7", Positions(first=7, last=7)),
        (" L3 + F2 ", Positions(first=2, last=3)),
        ("ALL", Positions(every=True)),
        ("7", Positions(indices=(7,))),
        ("0, 3,-1,3", Positions(indices=(0, 3, -1))),
    ],
)
def test_rules_are_read_loosely(text: str, rule: Positions) -> None:
    assert Positions.parse(text) == rule


@pytest.mark.parametrize("text", ["", "f", "f0", "l0", "f7+f7", "f1+l2+l3", "f-1", "first", "1,,2", "f1,2", "f7l7"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="positions: "):
        Positions.parse(text)


@given(rules, lengths)
def test_picked_positions_are_sorted_unique_and_inside(text: str, length: int) -> None:
    got = Positions.parse(text).of(length)
    assert list(got) == sorted(set(got))
    assert all(0 <= i < length for i in got)
    assert list(got) == picked(text, length)


@given(counts, counts, lengths)
def test_the_last_token_is_edited_whenever_l_is_asked(f: int, k: int, length: int) -> None:
    assert Positions(first=f, last=k).of(length)[-1] == length - 1
    assert Positions(last=k).of(length)[-1] == length - 1


@given(counts, counts, lengths)
def test_a_short_prompt_is_edited_whole_and_once(f: int, k: int, length: int) -> None:
    got = Positions(first=f, last=k).of(length)
    assert len(got) == min(f + k, length)
    if length <= f + k:
        assert got == tuple(range(length))


@given(lengths)
def test_all_is_every_token(length: int) -> None:
    assert Positions.parse("all").of(length) == tuple(range(length))


def test_indices_outside_the_prompt_are_left_out_and_twins_count_once() -> None:
    rule = Positions.parse("0,2,-1,-9,50")
    assert rule.of(3) == (0, 2)
    assert rule.of(5) == (0, 2, 4)
    assert Positions.parse("5").of(3) == ()


@given(rules, lengths)
def test_all_edits_stand_within_the_suffix_reach(text: str, length: int) -> None:
    rule = Positions.parse(text)
    if rule.suffix_reach is not None:
        assert all(i >= length - rule.suffix_reach for i in rule.of(length))


@given(rules)
def test_a_reach_is_claimed_exactly_when_edits_follow_the_end(text: str) -> None:
    rule = Positions.parse(text)
    # On a long prompt the reach must be the true distance of the earliest edit from the end.
    far = 1000
    earliest = far - rule.of(far)[0]
    if rule.suffix_reach is None:
        assert earliest > 100
    else:
        assert earliest == rule.suffix_reach
