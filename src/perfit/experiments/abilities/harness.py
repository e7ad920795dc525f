"""A personalised base as a model of lm-evaluation-harness: any of its tasks, for any owner (extra ``abilities``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from perfit.backbone.room import positions_of
from perfit.experiments.abilities.likelihood import continuations
from perfit.extras import import_extra
from perfit.inference.decoding import Decoding
from perfit.inference.edited import Edited
from perfit.tasks.plain_text import plain_ids

_ROOM = 2048


def harness_model(edited: Edited, owner: str) -> Any:
    """An ``lm_eval.api.model.LM`` that answers as one owner: every context is that owner's prompt.

    Args:
        edited: The base and whose shifts there are.
        owner: A user, "collective" or "base".

    Raises:
        MissingExtraError: lm-eval is not installed.
    """
    model: Any = import_extra("lm_eval.api.model", "lm-eval", "abilities").LM
    backbone = edited.backbone
    tokenizer = backbone.tokenizer
    room = min(positions_of(backbone) or _ROOM, _ROOM)

    class PersonalModel(model):  # type: ignore[misc]
        """The harness asks by these three names."""

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            pairs = [_pair(*one.args) for one in requests]
            return continuations(edited, owner, pairs)

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
            pairs = []
            for one in requests:
                whole = plain_ids(one.args[0], tokenizer, front=True)[: room - 1]
                pairs.append((whole[:1], whole[1:]))
            return [value for value, _ in continuations(edited, owner, pairs)]

        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            texts = []
            for one in requests:
                context, how = one.args
                stop = how.get("until") or []
                limit = int(how.get("max_gen_toks", 256))
                decoding = Decoding(max_new_tokens=limit, stop=tuple([stop] if isinstance(stop, str) else stop))
                asked = plain_ids(context, tokenizer, front=True)[-(room - limit) :]
                texts += edited.texts([asked], [owner], decoding)
            return texts

    def _pair(context: str, said: str) -> tuple[list[int], list[int]]:
        """As the harness's own models split: blanks at the end of a context belong to what follows."""
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, said = context[:-blanks], context[-blanks:] + said
        whole = plain_ids(context + said, tokenizer, front=True)
        before = plain_ids(context, tokenizer, front=True) or whole[:1]
        after = whole[len(before) :] or whole[-1:]
        return before[-(room - len(after)) :], after

    return PersonalModel()


def harness_scores(edited: Edited, owner: str, tasks: Sequence[Any], limit: int | None = None) -> dict[str, float]:
    """The first metric of each task (MCC, Pearson, accuracy, ...), as the harness computes it.

    Args:
        tasks: Names of the harness's tasks, or tasks of one's own as it takes them.
        limit: Only so many examples of each.

    Raises:
        MissingExtraError: lm-eval is not installed.
    """
    evaluate: Any = import_extra("lm_eval", "lm-eval", "abilities").simple_evaluate
    manager = _task_manager(any(isinstance(task, str) for task in tasks))
    model = harness_model(edited, owner)
    found = evaluate(model=model, tasks=list(tasks), limit=limit, bootstrap_iters=0, task_manager=manager)
    return {name: _first(values) for name, values in found["results"].items()}


@cache
def _task_manager(by_name: bool) -> Any:
    """What finds the harness's tasks: to know them by name it reads thousands of files, once."""
    return import_extra("lm_eval.tasks", "lm-eval", "abilities").TaskManager(include_defaults=by_name)


def _first(values: dict[str, Any]) -> float:
    for name, value in values.items():
        if "stderr" not in name and isinstance(value, int | float) and name not in ("sample_len",):
            return float(value)
    return float("nan")
