"""A memory beside the shift: what everybody's past items say of a query's answer, mixed into what the shifted base says.

    labels:   log p(label)  ∝ .5 log p_model(label) + .5 log p_linear(label)
    ratings:  log p(rating) ∝ .8 log p_model(rating) - (rating - linear)² / 2

The memory is the linear floor: words and who the user is, learnt in seconds from the histories at hand; of a rating it knows a
number, taken with a standard deviation of one rating. Nothing of it is kept on disk. The weights are the same for every task of
a kind, chosen on users of the stage-1 pools: weights fitted per data set were a little better where there were items that neither
part had learnt from, and no better without (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfit.data.schema import Dataset
from perfit.methods.linear import Asked, LinearLabels, LinearRatings
from perfit.tasks.task import Task

_LABELS = (0.5, 0.5)
_RATINGS = (0.8, 1.0)


class Memory:
    """See the module.

    Args:
        linear: The linear model of labels, or of ratings as numbers.
    """

    def __init__(self, linear: LinearLabels | LinearRatings):
        self._linear = linear

    @classmethod
    def fit(cls, data: Dataset, task: Task) -> Memory:
        """Learn from everybody's history; users' queries are not read.

        Raises:
            ConfigError: The task has no labels.
            DataError: Nobody has a history.
            MissingExtraError: scikit-learn is not installed (extra "eval").
        """
        return cls(LinearRatings.fit(data, task) if task.kind == "rating" else LinearLabels.fit(data, task))

    def mixed(self, scores: Tensor, asks: Sequence[Asked]) -> Tensor:
        """Log-probabilities of the labels, [asks, labels], fp32; each row's probabilities sum to 1.

        Args:
            scores: Of ``PerFit.score_labels`` with all labels scored, [asks, labels].
            asks: (user id, query) of each row; an unknown user has the query's words alone.
        """
        if isinstance(self._linear, LinearRatings):
            scale = torch.tensor([float(label) for label in self._linear.task.labels], dtype=torch.float64)
            (model, memory), numbers = _RATINGS, torch.from_numpy(self._linear.numbers(asks))
            remembered = -((scale - numbers[:, None]) ** 2) / 2
        else:
            (model, memory), remembered = _LABELS, torch.from_numpy(self._linear.log_probs(asks))
        return (model * scores.log_softmax(-1) + memory * remembered.to(scores)).log_softmax(-1)
