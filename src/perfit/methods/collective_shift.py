"""PerFit's stage 1: both shared shifts, trained once on other users, or given, and shared by the methods that stand on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from perfit.belonging import Belonging
from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.durable.tensors import from_bytes
from perfit.edits.shift import parameter_count
from perfit.errors import ConfigError
from perfit.fitting import collective_of
from perfit.inference.edited import Edited
from perfit.methods.answer import edited_answer
from perfit.methods.frozen_parts import frozen_home
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.owners import Owners
from perfit.pseudo_users import COLLECTIVE
from perfit.run import RunDirectory
from perfit.store.collective_file import Collective, collective_shifts, collective_tensors
from perfit.training.stages import train_collective
from perfit.training.user_rows import pool_rows


class CollectiveStage:
    """Trains it once, or takes a run's where the setting names one, and reads it back.

    Args:
        setting: The setting.
        config: Layers, positions, ranks and stages; its stage 2 decides nothing here.
        given: A stage 1 trained elsewhere: a run's folder or a ``collective.safetensors``; None: the one the setting gives
            all methods, or else one of its own.

    Raises:
        ConfigError: ``given`` is not there, or has other layers or ranks.
        StoreError: The named run is unfinished, of another base, or edits elsewhere or with other ranks.
    """

    def __init__(self, setting: Setting, config: PerFitConfig, given: str | None = None):
        setting.backbone.check_layers(config.layers)
        self.setting, self.config = setting, config
        personal = ("stage2", "strength", "held_out", "strength_prior")
        decides = {name: value for name, value in config.deciding().items() if name not in personal}
        decides["format"] = 2  # R, D and b as runs keep them; W in place of D before
        where = given if given is not None else setting.collective
        self.given = None if where is None else self._found(Path(where))
        if self.given is not None:
            decides["given"] = self.given.digest
        self.work = Work.shared(setting, "collective-shift", decides)

    @property
    def parameters(self) -> int:
        """Trained numbers of the first shift, the one that acts beside users' own."""
        width = self.setting.backbone.hidden_size
        return parameter_count(len(self.config.layers), self.config.collective_rank, width)

    @property
    def parameters_alone(self) -> int:
        """Trained numbers of both shifts, which act where nothing is personal."""
        ranks = (self.config.collective_rank, self.config.personal_rank)
        width = self.setting.backbone.hidden_size
        return sum(parameter_count(len(self.config.layers), rank, width) for rank in ranks)

    def _found(self, path: Path) -> Collective:
        """What was given: a run's, of this base, these layers and ranks; or a file of this base's width."""
        config, width = self.config, self.setting.backbone.hidden_size
        if path.is_dir():
            return collective_of(
                RunDirectory(path), Belonging(self.setting.backbone, self.setting.identity, self.setting.task, config)
            )
        try:
            found = Collective.of_file(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"collective: {path} cannot be read ({error.strerror}); give a run's folder") from error
        except Exception as error:  # safetensors' own, and what a strange file makes of a shift
            raise ConfigError(f"collective: {path} holds no shared shifts; give a run's folder") from error
        wanted = [(len(config.layers), rank, width) for rank in (config.collective_rank, config.personal_rank)]
        there = [tuple(shift.R.shape) for shift in found.shifts]
        if there != wanted:
            raise ConfigError(
                f"collective: {path} has shifts of layers, rank and width {there}, not {wanted}; give layers and ranks as it has"
            )
        return found

    def fit(self, others: Sequence[User]) -> None:
        """Train on other users' rows, take what was given, or find it trained; see ``Method.fit``."""
        setting, prompts = self.setting, Prompts(self.setting, self.config.retrieved)

        def train(pool: str) -> dict[str, Tensor]:
            if self.given is not None:
                return from_bytes(self.given.file)  # bit for bit, whatever reading makes of R
            rows = pool_rows(prompts.maker, others)
            shifts = train_collective(
                setting.backbone,
                rows,
                self.config,
                checkpoint=self.work.checkpoint("collective"),
                context={"work": self.work.context, "pool": pool},
                listener=setting.listener,
                home=frozen_home(setting, self.config, [rows]),
            )
            prompts.warn()
            return collective_tensors(shifts)

        self.work.fit_once(others, train)

    def shared(self) -> Collective:
        """Both shared shifts.

        Raises:
            StoreError: ``fit`` has not been called.
        """
        return Collective.of_shifts(collective_shifts(self.work.collective().tensors))

    def predict(self, asks: Sequence[Ask], done: Done) -> list[str]:
        """Answers with both shared shifts."""
        prompts = Prompts(self.setting, self.config.retrieved)
        tokens = [prompts.asked(ask) for ask in asks]
        prompts.warn()
        edited = Edited.by(self.config, self.setting.backbone, Owners(self.shared()))
        return edited_answer(edited, [COLLECTIVE] * len(tokens), tokens, prompts, done)


def by_content(options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options as they decide its numbers: a stage 1 that is given counts by its tensors, not by where it lies.

    What is no stage 1 stays as it was given; the method refuses it when it is made.
    """
    where = options.get("collective")
    if not isinstance(where, str):
        return dict(options)
    path = Path(where) / "collective.safetensors" if Path(where).is_dir() else Path(where)
    try:
        return {**options, "collective": Collective.of_file(path.read_bytes()).digest}
    except Exception:  # the file system's, safetensors', and what a strange file makes of a shift
        return dict(options)
