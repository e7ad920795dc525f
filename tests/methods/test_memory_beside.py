"""A memory beside the shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_base import TASK, dataset

from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.errors import ConfigError
from perfit.methods.linear import LinearRatings
from perfit.methods.memory import Memory
from perfit.tasks import get_task


class Remembered:
    """A linear model that says what it is told to."""

    def __init__(self, probabilities: list[list[float]]):
        self.probabilities = probabilities
        self.asked: list[tuple[str, Query]] = []

    def log_probs(self, asks: list[tuple[str, Query]]) -> np.ndarray:
        self.asked = list(asks)
        return np.log(np.array(self.probabilities))


def test_both_experts_count_and_either_can_rule_a_label_out() -> None:
    asks = [("anna", Query("a", "x")), ("ben", Query("b", "y"))]
    memory = Memory(Remembered([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]]))  # type: ignore[arg-type]
    # Labels of a prompt need not sum to 1: what the base would say besides them does not count.
    scores = torch.tensor([[0.02, 0.32, 0.06], [0.3, 0.1, 1e-9]]).log()
    got = memory.mixed(scores, asks)
    model = torch.tensor([[0.05, 0.8, 0.15], [0.75, 0.25, 2.5e-9]])
    raw = (model * torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]])).sqrt()
    torch.testing.assert_close(got.exp(), raw / raw.sum(1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert got.argmax(1).tolist() == [1, 0]


def test_it_learns_from_histories_and_never_from_the_users_queries() -> None:
    data = dataset()
    bare = Dataset(tuple(User(user.id, user.history) for user in data.users), data.others)
    asks = [(user.id, query) for user in data.users for query in user.queries]
    scores = torch.zeros(len(asks), len(TASK.labels))
    got = Memory.fit(data, TASK).mixed(scores, asks)
    assert torch.equal(got, Memory.fit(bare, TASK).mixed(scores, asks))
    torch.testing.assert_close(got.exp().sum(1), torch.ones(len(asks)))
    assert not torch.allclose(got, got[:, :1].expand_as(got), atol=0.1)


def test_of_ratings_it_knows_a_number() -> None:
    task = replace(get_task("product_rating"), marker=None)
    rows = [("good film", "5"), ("bad film", "1"), ("good film", "4"), ("bad film", "2")]
    history = tuple(
        HistoryItem(str(n), {task.body_field: text, str(task.history_answer): score})
        for n, (text, score) in enumerate(rows)
    )
    data = Dataset((User("anna", history),), (), task.name)
    asks = [("anna", Query(str(n), text)) for n, text in enumerate(("good film", "bad film"))]
    scores = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1], [0.5, 0.2, 0.1, 0.1, 0.1]]).log()
    got = Memory.fit(data, task).mixed(scores - 3, asks)
    numbers = torch.tensor(LinearRatings.fit(data, task).numbers(asks))
    assert numbers[0] > 3 > numbers[1]
    raw = scores.double().exp() ** 0.8 * (-((torch.arange(1, 6) - numbers[:, None]) ** 2) / 2).exp()
    torch.testing.assert_close(got.double().exp(), raw / raw.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_text_has_no_labels_to_mix() -> None:
    with pytest.raises(ConfigError, match="labels"):
        Memory.fit(dataset(), get_task("news_headline"))
