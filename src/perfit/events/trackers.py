"""Trackers of experiments as listeners: the curves of a training in TensorBoard, Weights & Biases or trackio.

They get numbers and settings alone: no user's id, no text, and nothing that is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from perfit.errors import ConfigError
from perfit.events.curves import Curves
from perfit.events.kinds import Event, PhaseEnded
from perfit.extras import import_extra
from perfit.private import private_folder

PROJECT = "perfit"


class Tracker(Protocol):
    """A listener that must be closed."""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Write what is still waiting, and end."""
        ...


class TensorBoard:
    """Writes the curves as TensorBoard scalars (extra "tensorboard").

    Args:
        folder: Where to.
    """

    def __init__(self, folder: Path):
        module = import_extra("torch.utils.tensorboard", "tensorboard", "tensorboard")
        self.writer = module.SummaryWriter(str(folder))
        self.curves = Curves()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        point = self.curves.point(event)
        if point is not None:
            for name, value in point.values.items():
                self.writer.add_scalar(f"stage{point.stage}/{name}", value, point.step)
        if isinstance(event, PhaseEnded):
            self.writer.flush()

    def close(self) -> None:
        """Write what is still waiting, and close the file."""
        self.writer.close()


class Wandb:
    """Sends the curves to Weights & Biases (extra "wandb"); account, mode and folder as its own variables say.

    Args:
        name: Of the run there.
        settings: Shown beside the curves.

    Raises:
        ConfigError: It cannot begin, for want of an account, say.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]):
        wandb = import_extra("wandb", "wandb", "wandb")
        # What is printed names users; the command line, the code and the machine are nobody's business.
        quiet = wandb.Settings(console="off", disable_git=True, save_code=False, x_disable_meta=True)
        try:
            self.run = wandb.init(project=PROJECT, name=name, config=dict(settings), settings=quiet)
        except wandb.Error as error:
            raise ConfigError(
                f"--track wandb: it cannot begin ({str(error).splitlines()[0]}); run wandb login, or set WANDB_MODE=offline"
            ) from error
        for stage in (1, 2):
            self.run.define_metric(f"stage{stage}/*", step_metric=f"stage{stage}/step")
        self.curves = Curves()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if (numbers := _numbers(self.curves, event)) is not None:
            self.run.log(numbers)

    def close(self) -> None:
        """Send what is still waiting."""
        self.run.finish()


class Trackio:
    """Writes the curves to trackio (extra "trackio"), which keeps them on this machine unless told otherwise.

    Args:
        name: Of the run there.
        settings: Shown beside the curves.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]):
        self.trackio = import_extra("trackio", "trackio", "trackio")
        with redirect_stdout(sys.stderr):  # it talks on stdout, which is for what perfit prints
            self.trackio.init(project=PROJECT, name=name, config=dict(settings))
        self.curves = Curves()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if (numbers := _numbers(self.curves, event)) is not None:
            self.trackio.log(numbers)

    def close(self) -> None:
        """Write what is still waiting."""
        with redirect_stdout(sys.stderr):
            self.trackio.finish()


def _numbers(curves: Curves, event: Event) -> dict[str, float] | None:
    """A step's numbers under one name each, its own number among them: a tracker counts over both stages."""
    point = curves.point(event)
    if point is None:
        return None
    return {f"stage{point.stage}/{name}": value for name, value in {**point.values, "step": point.step}.items()}


def _in_run(run: Path) -> TensorBoard:
    private_folder(run / "tensorboard")  # the run's own folder may be made by it
    return TensorBoard(run / "tensorboard")


TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": lambda run, settings: _in_run(run),
    "wandb": lambda run, settings: Wandb(run.resolve().name, settings),
    "trackio": lambda run, settings: Trackio(run.resolve().name, settings),
}


def check_tracker(name: str) -> None:
    """Refuse a tracker that there is not.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in TRACKERS:
        raise ConfigError(f"--track: {name!r} is unknown; choose {', '.join(TRACKERS)}")


def open_tracker(name: str, run: Path, settings: Mapping[str, Any]) -> Tracker:
    """The tracker of this name for a training into a run folder.

    Raises:
        ConfigError: There is none of this name.
        MissingExtraError: Its package is not installed.
    """
    check_tracker(name)
    return TRACKERS[name](run, settings)
