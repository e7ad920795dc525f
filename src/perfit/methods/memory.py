"""A memory beside the shift: what everybody's past items say of a query's label, mixed into what the shifted base says.

    log p(label) ∝ w · log p_model(label) + v · log p_memory(label)

The memory is the linear floor: words and who the user is, learnt in seconds from the histories at hand. Nothing of it is kept
on disk. The weights are the same for every task: on users of the stage-1 pools, weights fitted per data set were a little
better where there were items that neither part had learnt from, and no better without (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfit.data.schema import Dataset
from perfit.methods.linear import Asked, LinearLabels
from perfit.tasks.task import Task

_MODEL, _MEMORY = 0.5, 0.5


class Memory:
    """See the module.

    Args:
        linear: The linear model of labels.
    """

    def __init__(self, linear: LinearLabels):
        self._linear = linear

    @classmethod
    def fit(cls, data: Dataset, task: Task) -> Memory:
        """Learn from everybody's history; users' queries are not read.

        Raises:
            ConfigError: The task has no labels.
            DataError: Nobody has a history.
            MissingExtraError: scikit-learn is not installed (extra "eval").
        """
        return cls(LinearLabels.fit(data, task))

    def mixed(self, scores: Tensor, asks: Sequence[Asked]) -> Tensor:
        """Log-probabilities of the labels, [asks, labels], fp32; each row's probabilities sum to 1.

        Args:
            scores: Of ``PerFit.score_labels`` with all labels scored, [asks, labels].
            asks: (user id, query) of each row; an unknown user has the query's words alone.
        """
        remembered = torch.from_numpy(self._linear.log_probs(asks)).to(scores)
        return (_MODEL * scores.log_softmax(-1) + _MEMORY * remembered).log_softmax(-1)
