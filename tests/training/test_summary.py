"""What one pass over all rows tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfit.training.rows import TokenRow, common_prefix
from perfit.training.summary import RowSummary

rows = st.lists(st.builds(lambda ids: TokenRow(tuple(ids), (2,)), st.lists(st.integers(0, 1), min_size=1, max_size=6)))


@given(st.lists(rows, max_size=4))
def test_it_tells_what_looking_at_all_rows_would(learners: list[list[TokenRow]]) -> None:
    every = [row for own in learners for row in own]
    found = RowSummary.of(iter(learners))
    assert found.prefix == common_prefix(every)
    assert found.count == len(every)
    assert sorted(found.prompts.elements()) == sorted(len(row.prompt_ids) for row in every)
    assert found.heaviest[1] == max((sum(len(row.prompt_ids) for row in own) for own in learners), default=0)
    if every:
        by_length = sorted(len(row.input_ids) for row in found.sample)
        lengths = [len(row.input_ids) for row in found.spread(3)]
        assert lengths == sorted(lengths)
        assert (lengths[0], lengths[-1]) == (by_length[0], by_length[len(by_length) // 2])
