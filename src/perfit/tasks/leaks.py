"""What the leak audit must know of a task."""

from __future__ import annotations

from typing import Any

from perfit.tasks.task import Task


def audit_arguments(task: Task) -> dict[str, Any]:
    """Arguments of ``perfit.data.audit`` for this task: where texts and answers stand, how answers are spelled."""
    body = task.body_field
    return {
        "answer_field": task.history_answer,
        "text_fields": (body,) if body is not None else (),
        "free_text": task.kind == "text",
        "marker": task.marker,
        "spelled": task.spelled,
    }
