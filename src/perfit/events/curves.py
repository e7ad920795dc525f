"""What of the events is a curve: loss, learners and rate of each step, by stage."""

from __future__ import annotations

from dataclasses import dataclass

from perfit.events.kinds import Event, StageBegun, Stepped


@dataclass(frozen=True, slots=True)
class Point:
    """The numbers of one step.

    Attributes:
        stage: 1 or 2.
        step: From 1 in each stage.
        values: By name: ``loss`` (nats per answer token), ``learners``, ``items_per_second``.
    """

    stage: int
    step: int
    values: dict[str, float]


class Curves:
    """Counts the steps of each stage."""

    def __init__(self) -> None:
        self.stage = self.step = 0

    def point(self, event: Event) -> Point | None:
        """The numbers of a step; None of anything else."""
        if isinstance(event, StageBegun):
            self.stage, self.step = event.stage, 0
        if not isinstance(event, Stepped):
            return None
        self.step += 1
        rate = event.rows / max(event.seconds, 1e-9)
        values = {"loss": event.loss, "learners": event.learners, "items_per_second": rate}
        return Point(self.stage, self.step, values)
