"""A method's durable work: stage 1 in one file, each user in one of their own, all written atomically."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from perfit.belonging import task_record
from perfit.data.schema import Dataset, User
from perfit.durable.folder import Folder, Kind
from perfit.durable.identity import digest_of
from perfit.durable.tensors import Tensors, pack, read_tensors, write_tensors
from perfit.errors import DataError, PerfitError, StoreError
from perfit.events import Finished, Skipped, Stage1Found, StageBegun
from perfit.methods.method import Setting
from perfit.training.once import once

_MEND = "delete it to work anew"
_PLACE = "place"
WORK = Kind(
    holds="work with another",
    manifest="manifest.json",
    version=2,  # every file with a checksum
    busy="another process works here",
    other="choose another folder, or delete it to work anew",
    mend="delete the folder to work anew",
    again="delete the folder to work anew",
    missing="not found; delete the folder to work anew",
    inside=("users", "checkpoints"),
)


class AdaptationError(PerfitError):
    """One user could not be adapted to; the others can."""


Kept = Tensors
"""What was kept: tensors by name, and notes as plain values (``seconds`` among them)."""


class Work:
    """One folder of one piece of work: ``manifest.json``, ``collective.safetensors``, ``users/``, ``checkpoints/``.

    Args:
        path: The folder, made when something is first written.
        setting: Base, task, config and seed that the work belongs to.
        what: Whose work it is, e.g. "lora-c".
        options: What else decides its numbers, as a dataclass or plain values.
        below: Work whose stage 1 the users stand on; of another stage 1 they are of no use.
    """

    def __init__(self, path: Path, setting: Setting, what: str, options: Any, below: Work | None = None):
        self.path, self.what, self.listener, self.below = path, what, setting.listener, below
        settings = setting.seeded()
        parts = {
            "method": what,
            "options": _deciding(options),
            "base": setting.identity.as_dict(),
            "dtype": str(setting.backbone.dtype),
            "device": setting.backbone.device.type,
            "task": task_record(setting.task),
            "settings": settings.digest_text(),
        }
        self.context = hashlib.sha256(json.dumps(list(parts.values()), sort_keys=True).encode()).hexdigest()
        deciding = settings.deciding()
        seed = deciding.pop("seed")
        self.parts = {name: digest_of(part) for name, part in (parts | {"settings": deciding, "seed": seed}).items()}

    @classmethod
    def shared(cls, setting: Setting, what: str, options: Any) -> Work:
        """Work that several methods may have in common, in a folder named by what decides it."""
        work = cls(Path(), setting, what, options)
        work.path = (setting.shared or setting.folder) / f"{what}-{work.context[:16]}"
        return work

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder this work's own and keep other processes out.

        Raises:
            StoreError: Another process works here, it holds other work, or it cannot be written.
        """
        folder = self._folder
        with folder.locked():
            folder.make()
            if not self._owned() or "parts" not in folder.read():
                folder.write({"what": self.what, "context": self.context, "parts": self.parts})
            yield

    @property
    def _folder(self) -> Folder:
        return Folder(self.path, WORK)  # ``shared`` knows the path last

    def _owned(self) -> bool:
        folder = self._folder
        if not folder.exists():
            return False
        manifest = folder.read()
        if manifest.get("context") != self.context:
            if isinstance(theirs := manifest.get("parts"), dict):
                folder.check(theirs, self.parts, list(self.parts))
            # Work of before did not say what decides it, part by part.
            raise StoreError(f"{self.path}: holds work with another base, task, setting or seed; {WORK.other}")
        return True

    def checkpoint(self, name: str) -> Path:
        """State of training under way."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def drop_checkpoints(self) -> None:
        """Remove the state of training that is through."""
        for path in (self.path / "checkpoints").iterdir():
            path.unlink()

    def collective(self) -> Kept:
        """The result of stage 1.

        Raises:
            StoreError: There is none yet, it is damaged, or the folder holds other work.
        """
        kept = self._collective()
        if kept is None:
            raise StoreError(f"{self.path}: stage 1 of {self.what} is not done; call fit first")
        return kept

    def _collective(self) -> Kept | None:
        return self._read(self.path / "collective.safetensors") if self._owned() else None

    def fit_once(
        self, others: Sequence[User], train: Callable[[str], Mapping[str, Tensor]], notes: Mapping[str, Any] = {}
    ) -> None:
        """Do stage 1, unless its result lies there.

        Args:
            others: The other users.
            train: Its tensors; gets what a checkpoint must belong to.
            notes: Kept beside them.

        Raises:
            StoreError: It was trained on other users, or the folder holds other work.
        """
        pool = Dataset(users=(), others=tuple(others)).fingerprint()

        def make() -> None:
            began = time.perf_counter()
            tensors = train(pool)
            trained = hashlib.sha256(pack(tensors, {})).hexdigest()
            content = {**notes, "pool": pool, "id": trained, "seconds": time.perf_counter() - began}
            self._write(self.path / "collective.safetensors", tensors, content)

        with self.locked():
            kept, found = once(self._collective, make, self.drop_checkpoints)
        if not found:
            return
        if kept.notes["pool"] != pool:
            raise StoreError(f"{self.path}: its stage 1 was trained on other users; choose another folder")
        self.listener(Stage1Found(kept.notes["seconds"]))

    def user(self, user: User) -> Kept | None:
        """What was kept of a user, or None.

        Raises:
            StoreError: It is damaged, of another history, or the folder holds other work.
        """
        if not self._owned():
            return None
        kept = self._read(self._user_path(user))
        if kept is not None and any(kept.notes.get(name) != value for name, value in self._origin(user).items()):
            raise StoreError(
                f"{self.path}: was adapted to user {user.id!r} with another history or on another stage 1; choose "
                "another folder, or delete it to work anew"
            )
        return kept

    def _origin(self, user: User) -> dict[str, str]:
        below = {} if self.below is None else {"below": self.below.collective().notes["id"]}
        return {"user": user.id, "history": history_of(user), **below}

    def origins(self, users: Sequence[User]) -> str:
        """What a checkpoint of all these users' training must belong to."""
        return hashlib.sha256(json.dumps([self._origin(user) for user in users]).encode()).hexdigest()

    def adapted(self, user: User) -> Kept:
        """What was kept of a user whom ``adapt`` has seen.

        Raises:
            StoreError: It has not; or as ``user``.
        """
        kept = self.user(user)
        if kept is None:
            raise StoreError(f"{self.path}: {self.what} is not adapted to user {user.id!r}; call adapt first")
        return kept

    def put_user(self, user: User, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Keep what a user's adaptation made."""
        self._write(self._user_path(user), tensors, {**notes, **self._origin(user)})

    def adapt_each(
        self,
        users: Sequence[User],
        one: Callable[[User], tuple[Mapping[str, Tensor], Mapping[str, Any]]],
        passes: int = 0,
    ) -> dict[str, str]:
        """Adapt to each user that is not kept yet, one after the other, and say who could not be adapted to.

        Args:
            users: All of them.
            one: A user's tensors and notes; raises AdaptationError or DataError where there can be none.
            passes: How often training goes over a history, for the bar.
        """
        problems: dict[str, str] = {}
        with self.locked():
            waiting = [user for user in users if self.user(user) is None]
            rows = sum(len(user.history) for user in waiting)
            if rows and passes:
                self.listener(StageBegun(stage=2, rows=rows, users=len(waiting), rows_total=rows * passes))
            for user in users:
                kept = self.user(user)
                if kept is None:
                    began = time.perf_counter()
                    tensors, notes = self._try(user, one)
                    notes = {**notes, "seconds": time.perf_counter() - began}
                    self.put_user(user, tensors, notes)
                    self.drop_checkpoints()
                    kept = Kept(dict(tensors), notes)
                if "problem" in kept.notes:
                    problems[user.id] = kept.notes["problem"]
        return problems

    def _try(
        self, user: User, one: Callable[[User], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        try:
            if not user.history:
                raise AdaptationError("has nothing to train on (empty history)")
            tensors, notes = one(user)
        except (AdaptationError, DataError) as error:
            self.listener(Skipped(user.id, str(error)))
            return {}, {"problem": str(error)}
        self.listener(Finished(learner=user.id, steps=notes.get("steps", 0)))
        return tensors, notes

    def _user_path(self, user: User) -> Path:
        return self.path / "users" / user_file(user.id)

    def _write(self, path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        # Its place is noted too: what another file holds, of this work or of another, is not taken for it.
        place = [self.context, path.relative_to(self.path).as_posix()]
        write_tensors(path, tensors, {**notes, _PLACE: place})

    def _read(self, path: Path) -> Kept | None:
        kept = read_tensors(path, mend=_MEND)
        if kept is not None and kept.notes.pop(_PLACE, None) != [self.context, path.relative_to(self.path).as_posix()]:
            raise StoreError(f"{path}: is of other work; {_MEND}")
        return kept


def _deciding(options: Any) -> Any:
    """Options as plain values, without those that work of before did not know and that are not given."""
    if not is_dataclass(options) or isinstance(options, type):
        return options
    later = ("held_out", "strength_prior")
    # A given stage 1 counts by its content, as what the users stand on, and not by where it lies.
    values = {name: value for name, value in asdict(options).items() if name != "collective"}
    return {name: value for name, value in values.items() if name not in later or value is not None}


def user_file(user: str) -> str:
    """Name of the file that keeps a user's adaptation: an id is data and may be anything, its hash is a name."""
    return f"{hashlib.sha256(user.encode()).hexdigest()[:40]}.safetensors"


def history_of(user: User) -> str:
    """A hash of a user's history."""
    return Dataset(users=(User(user.id, user.history),)).fingerprint()
