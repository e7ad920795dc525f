"""A house for the tests of the command line: data, task, base and a finished run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from small_base import dataset, write_task

from perfit.cli import main as cli
from perfit.data.jsonl import write_jsonl

SETTINGS = (
    *("--set", "layers=[0, 1]", "--set", "positions=l3", "--set", "collective_rank=4", "--set", "personal_rank=3"),
    *("--set", "dtype=float32", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1"),
)


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str


Perfit = Callable[..., Outcome]


@dataclass(frozen=True)
class House:
    """Data, task and a finished run; tests that change it make their own."""

    data: Path
    task: Path
    base: Path
    run: Path

    @property
    def train(self) -> tuple[str, ...]:
        """Arguments that train on the data; --run is left to the test."""
        return ("train", str(self.data), "--task", str(self.task), "--base", str(self.base), *SETTINGS)


def furnish(folder: Path, base: Path, *names: str) -> House:
    """Write data and task, and train."""
    house = House(folder / "data.jsonl", write_task(folder / "task.yaml"), base, folder / "run")
    write_jsonl(dataset(names), house.data)
    cli.app([*house.train, "--run", str(house.run)], standalone_mode=False)
    return house
