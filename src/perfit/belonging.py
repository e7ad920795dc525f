"""What a run belongs to: its base, task, settings and data, as manifests, checkpoints and stores name them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.model import Backbone
from perfit.config import RESOURCES, PerFitConfig
from perfit.data.schema import Dataset
from perfit.durable.identity import differing, digest_of
from perfit.errors import DamagedError, PerfitError, StoreError
from perfit.how_to_open import quantization_of
from perfit.run import RunDirectory, context_of
from perfit.store.personal import check_spec
from perfit.store.shifts import ShiftStore
from perfit.tasks.task import Task


@dataclass(frozen=True)
class Belonging:
    """Base, task and settings of one personaliser.

    Attributes:
        given: SHA-256 of the collective shift that stage 2 starts from, where it was given and not trained here.
    """

    backbone: Backbone
    identity: BaseIdentity
    task: Task
    config: PerFitConfig
    given: str | None = None

    def base(self) -> dict[str, Any]:
        """The base as manifests name it."""
        name, packed = self.backbone.name, quantization_of(self.backbone.model)
        return {
            # A folder by its full path: the run is used from other working directories too.
            "name": str(Path(name).resolve()) if Path(name).is_dir() else name,
            # Of a base on the hub, the very commit: its branch may move on.
            "revision": getattr(self.backbone.model.config, "_commit_hash", None),
            "layers_path": self.backbone.layers_path,
            **({} if packed is None else {"quantization": packed}),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "device": self.backbone.device.type,
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
            "stage1_from": self.given,
        }

    def context(self, data: Dataset) -> str:
        """What decides a run's numbers, as one hash: a run or checkpoint of anything else is not used."""
        return digest_of(context_of(self.manifest(data)))

    def store_spec(self, collective: bytes) -> dict[str, Any]:
        """What a personal shift must agree on with this run to be of any use in it."""
        return _spec(
            self.identity, self.task, self.config, self.backbone.hidden_size, hashlib.sha256(collective).hexdigest()
        )


def _spec(identity: BaseIdentity, task: Task, config: PerFitConfig, width: int, collective: str) -> dict[str, Any]:
    return {
        "layers": list(config.layers),
        "rank": config.personal_rank,
        "hidden_size": width,
        "positions": config.positions,
        "collective": collective,
        "run": digest_of(identity.as_dict(), task_record(task), config.deciding()),
    }


def spec_digest(manifest: Mapping[str, Any]) -> str:
    """One hash over base, task and settings of a manifest, whatever data and device it was trained with."""
    config = {name: value for name, value in manifest["config"].items() if name not in RESOURCES}
    return digest_of(manifest["base"].get("identity"), manifest["task"], config)


def parts_of(run: RunDirectory) -> tuple[PerFitConfig, Task, BaseIdentity]:
    """Settings, task and base of a run, from its manifest.

    Raises:
        DamagedError: A value is missing or wrong.
        StoreError: There is no run, or it is of another format.
    """
    manifest = run.manifest()
    try:
        return (
            PerFitConfig.from_dict(manifest["config"]),
            task_from_record(manifest["task"]),
            BaseIdentity.from_dict(manifest["base"]["identity"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, PerfitError):
        raise DamagedError(f"{run.manifest_path}: a value is missing or wrong; restore it or train again") from None


def open_store(run: RunDirectory, *, readonly: bool = True) -> ShiftStore:
    """The users' shifts of a run whose manifest and collective shift are those they were trained with.

    Raises:
        StoreError: They are not, or training has not got to the users yet.
    """
    config, task, identity = parts_of(run)
    if not run.has_collective():
        raise StoreError(
            f"{run.path}: training has not got to the users yet; repeat the perfit train command that began it"
        )
    collective = hashlib.sha256(run.read_collective()).hexdigest()
    store = ShiftStore.open(run.store_path, identity=identity.as_dict(), readonly=readonly)
    try:
        check_spec(run.path, store.spec, _spec(identity, task, config, identity.hidden_size, collective))
    except BaseException:
        store.close()
        raise
    return store


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """What decides the numbers and differs between two manifests, in words; their own texts are not repeated."""
    found = []
    try:
        identity = BaseIdentity.from_dict(theirs["base"]["identity"])
        phrases = identity.differences(BaseIdentity.from_dict(mine["base"]["identity"]))
        if phrases:
            found.append(f"another base ({'; '.join(phrases)})")
        elif theirs["base"]["identity"] != mine["base"]["identity"]:
            found.append("the same base given otherwise (loaded from files, or as a model in memory)")
        found += [
            f"{part} {theirs['base'].get(part)}, not {mine['base'].get(part)}"
            for part in differing(theirs["base"], mine["base"], ("dtype", "device"))
        ]
    except (PerfitError, KeyError, TypeError, AttributeError):
        found.append("another base")
    if parts := differing(theirs["task"], mine["task"]):
        found.append(f"another task (they differ in {', '.join(parts)})")
    other = differing(context_of(theirs), context_of(mine))
    if "data" in other:
        found.append("other data")
    if "stage1_from" in other:
        found.append("another collective shift that was given")
    if "settings" in other:
        a, b = _flat(theirs["config"]), _flat(mine["config"])
        found += [f"{name} {a.get(name)!r}, not {b.get(name)!r}" for name in sorted(differing(a, b))]
    return found


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def task_record(task: Task) -> dict[str, Any]:
    """A task as plain values; ``task_from_record`` is the inverse."""
    record = asdict(task) | {"labels": list(task.labels), "stop": list(task.stop)}
    # Tasks of before had none of these, and their runs stay theirs.
    usual: dict[str, object] = {"stop": [], "repetition_penalty": 1, "no_repeat_ngram": 0, "chat": False}
    return {name: value for name, value in record.items() if name not in usual or value != usual[name]}


def task_from_record(record: dict[str, Any]) -> Task:
    """The task of a manifest."""
    return Task(**record | {"labels": tuple(record["labels"]), "stop": tuple(record.get("stop", ()))})
