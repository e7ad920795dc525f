"""What a run belongs to: its base, task, settings and data, as manifests, checkpoints and stores name them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.data.schema import Dataset
from perfit.tasks.task import Task


@dataclass(frozen=True)
class Belonging:
    """Base, task and settings of one personaliser."""

    backbone: Backbone
    identity: BaseIdentity
    task: Task
    config: PerFitConfig

    def base(self) -> dict[str, Any]:
        """The base as manifests name it."""
        name = self.backbone.name
        return {
            # A folder by its full path: the run is used from other working directories too.
            "name": str(Path(name).resolve()) if Path(name).is_dir() else name,
            "layers_path": self.backbone.layers_path,
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "identity": self.identity.as_dict(),
        }

    def manifest(self, data: Dataset | None) -> dict[str, Any]:
        """What ``manifest.json`` says, but for versions; data without its texts, and by its file's name alone."""
        return {
            "base": self.base(),
            "task": task_record(self.task),
            "config": self.config.as_dict(),
            "seed": self.config.seed,
            "data": None
            if data is None
            else {
                "source": Path(data.source).name,
                "fingerprint": data.fingerprint(),
                "users": len(data.users),
                "others": len(data.others),
            },
        }

    def context(self, data: Dataset) -> str:
        """What decides a run's numbers, as one hash: a run or checkpoint of anything else is not used."""
        device = self.backbone.device.type
        base = self.base()
        parts = [base["identity"], base["dtype"], device, task_record(self.task), data.fingerprint()]
        text = json.dumps(parts, sort_keys=True) + self.config.digest_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def store_spec(self, collective: bytes) -> dict[str, Any]:
        """What a personal shift must agree on with this run to be of any use in it."""
        return {
            "layers": list(self.config.layers),
            "rank": self.config.personal_rank,
            "hidden_size": self.backbone.hidden_size,
            "positions": self.config.positions,
            "collective": hashlib.sha256(collective).hexdigest(),
        }


def task_record(task: Task) -> dict[str, Any]:
    """A task as plain values; ``task_from_record`` is the inverse."""
    return asdict(task) | {"labels": list(task.labels)}


def task_from_record(record: dict[str, Any]) -> Task:
    """The task of a manifest."""
    return Task(**record | {"labels": tuple(record["labels"])})
