"""perfit: personalise one frozen language model for many users (PerFit). Importing this does not import torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfit.config import PerFitConfig as PerFitConfig
    from perfit.config import StageConfig as StageConfig
    from perfit.config import paper_preset as paper_preset
    from perfit.config import small_preset as small_preset
    from perfit.data import demo_dataset as demo_dataset
    from perfit.data import read_dataset as read_dataset
    from perfit.data.schema import Dataset as Dataset
    from perfit.data.schema import HistoryItem as HistoryItem
    from perfit.data.schema import Query as Query
    from perfit.data.schema import User as User
    from perfit.edits.positions import Positions as Positions
    from perfit.edits.shift import Shift as Shift
    from perfit.edits.shift import ShiftBank as ShiftBank
    from perfit.erasure import erase_user as erase_user
    from perfit.errors import PerfitError as PerfitError
    from perfit.evaluation.evaluate import evaluate as evaluate
    from perfit.inference.decoding import Decoding as Decoding
    from perfit.personalizer import PerFit as PerFit
    from perfit.store.shifts import ShiftStore as ShiftStore
    from perfit.tasks import get_task as get_task
    from perfit.tasks.task import Task as Task

_WHERE = {
    "Dataset": "perfit.data.schema",
    "Decoding": "perfit.inference.decoding",
    "HistoryItem": "perfit.data.schema",
    "PerFit": "perfit.personalizer",
    "PerFitConfig": "perfit.config",
    "PerfitError": "perfit.errors",
    "Positions": "perfit.edits.positions",
    "Query": "perfit.data.schema",
    "Shift": "perfit.edits.shift",
    "ShiftBank": "perfit.edits.shift",
    "ShiftStore": "perfit.store.shifts",
    "StageConfig": "perfit.config",
    "Task": "perfit.tasks.task",
    "User": "perfit.data.schema",
    "demo_dataset": "perfit.data",
    "erase_user": "perfit.erasure",
    "evaluate": "perfit.evaluation.evaluate",
    "get_task": "perfit.tasks",
    "paper_preset": "perfit.config",
    "read_dataset": "perfit.data",
    "small_preset": "perfit.config",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'perfit' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
