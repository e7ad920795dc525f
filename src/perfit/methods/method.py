"""What a compared method is: train on others, adapt to users, answer their queries, and say what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from perfit.errors import ConfigError
from perfit.events import Listener, print_notices

if TYPE_CHECKING:
    from perfit.backbone.fingerprint import BaseIdentity
    from perfit.backbone.model import Backbone
    from perfit.config import PerFitConfig
    from perfit.data.schema import Query, User
    from perfit.tasks.task import Task

Done = Callable[[int], None]
ANSWERS = ("free", "sampled", "labels", "expected")
"""What answers may be: any text, greedily or drawn, one of the task's labels, or what its ratings' probabilities expect."""


def no_progress(rows: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question of one user.

    Attributes:
        user: Who asks, with the whole history: some methods read it when they answer.
        query: What is asked; its gold answer is never read.
    """

    user: User
    query: Query


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method holds.

    Attributes:
        collective_parameters: Trained numbers of stage 1, shared by all users.
        personal_parameters: Trained numbers of stage 2, of one user.
        user_bytes: Bytes of one user at rest: numbers in bf16, text as UTF-8 (the mean over the users adapted to).
    """

    collective_parameters: int = 0
    personal_parameters: int = 0
    user_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """What every method is given.

    Attributes:
        backbone: The frozen base, the same object for all methods; each leaves its weights as they were.
        identity: What the base is, for artifacts.
        task: What prompts and answers look like.
        config: Lengths, precision, step sizes, stages; the PerFit variants take their layers and ranks from it too.
        seed: Seed of everything random, instead of ``config.seed``.
        folder: The method's own durable folder; made when missing.
        listener: Hears what happens (docs/training.md), ``Stage1Found`` where a finished stage 1 lies there already.
        shared: A folder where methods with the same stage 1 find each other's; ``folder`` when not given.
        answers: "free": whatever the model says, greedily; "sampled": drawn as in the paper (D.5.2) with the seed;
            "labels": the task's most probable label, exactly; "expected": median and mean of the ratings' exact probabilities. It changes no training.
        collective: A finished run whose collective shift takes the place of stage 1 in every method that stands on one.
        frozen: A folder where methods that train on the same rows find each other's frozen parts; it goes with the process.

    Raises:
        ConfigError: ``answers`` is unknown, "labels" for a task without labels, or "expected" for one without ratings.
    """

    backbone: Backbone
    identity: BaseIdentity
    task: Task
    config: PerFitConfig
    seed: int
    folder: Path
    listener: Listener = print_notices
    shared: Path | None = None
    answers: str = "free"
    collective: Path | None = None
    frozen: Path | None = None

    def __post_init__(self) -> None:
        check_answers(self.answers, self.task)

    def seeded(self) -> PerFitConfig:
        """The config with this setting's seed."""
        return replace(self.config, seed=self.seed)


def check_answers(answers: str, task: Task) -> None:
    """Refuse what answers to a task cannot be.

    Raises:
        ConfigError: It is.
    """
    if answers not in ANSWERS:
        raise ConfigError(f"answers: {answers!r} is unknown; choose from {', '.join(ANSWERS)}")
    if answers == "expected" and task.kind != "rating":
        raise ConfigError(
            f"answers: 'expected' is for ratings, and task {task.name!r} is of kind {task.kind!r}; choose free or labels"
        )
    if answers == "labels" and not task.labels:
        raise ConfigError(f"answers: task {task.name!r} has no labels, its answers are free text; choose free")


class Method(Protocol):
    """One way to personalise. Everything it learns lies in its folder, so that a killed run goes on."""

    @property
    def name(self) -> str:
        """Key in ``METHODS``, such as "rag-1", "lora-p" or "perfit"."""
        ...

    @property
    def label(self) -> str:
        """As the paper prints it."""
        ...

    def fit(self, others: Sequence[User]) -> None:
        """Stage 1 on other users. Does nothing when its result lies in the folder, or when there is no stage 1.

        Raises:
            DataError: There is nothing to train on.
            StoreError: The folder holds the work of another setting or of other data.
        """
        ...

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Stage 2 of each user, durable user by user; those already in the folder are left alone.

        Returns:
            User id -> why it has nothing of its own, for those who could not be adapted to.

        Raises:
            StoreError: ``fit`` has not been called, or the folder holds the work of another setting or of other data.
        """
        ...

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """An answer to each ask, in order; a batch holds rows of many users, each as if it stood alone.

        A user without an adaptation (``adapt`` named a problem) gets the method's answer without one: that of stage 1,
        or the base's.

        Args:
            asks: Any users' questions.
            done: Called with the number of asks finished since the last call.

        Raises:
            StoreError: ``fit`` or ``adapt`` has not been called for what the method needs.
        """
        ...

    def cost(self) -> Cost:
        """What the method holds; its parameters follow from options and base alone, nothing need be trained."""
        ...
