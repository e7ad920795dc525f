"""What a run's own task makes of a text or a conversation: the tokens that training and ``PerFit.generate`` make of it."""

from __future__ import annotations

from perfit.data.schema import Query
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway
from perfit.tasks.encode import Encoded
from perfit.training.examples import RowMaker


def check_task_prompts(gateway: Gateway) -> None:
    """Refuse a run whose prompts stand behind past items, which a server does not have.

    Raises:
        RefusedError: It is such a one.
    """
    if gateway.perfit.config.retrieved:
        raise RefusedError(
            400,
            "input: this run puts past items before each prompt, which a server does not have; use /v1/completions with "
            "the whole prompt",
            code="unsupported_run",
        )


def task_prompt(gateway: Gateway, query: Query) -> Encoded:
    """The prompt of a query. What is too long loses its oldest turns, then the end of its text, and says so.

    Raises:
        DataError, ConfigError: It does not fit the task or the base.
    """
    perfit = gateway.perfit
    return RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config).prompt(query)
