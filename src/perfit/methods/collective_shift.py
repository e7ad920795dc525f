"""PerFit's stage 1: both shared shifts, trained once on other users, or given, and shared by the methods that stand on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.edits.shift import parameter_count
from perfit.errors import ConfigError
from perfit.methods.method import Setting
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.store.collective_file import Collective, collective_shifts, collective_tensors
from perfit.training.stages import train_collective
from perfit.training.user_rows import pool_rows


class CollectiveStage:
    """Trains it once, and reads it back.

    Args:
        setting: The setting.
        config: Layers, positions, ranks and stages; its stage 2 decides nothing here.
        given: A stage 1 trained elsewhere: a run's folder or a ``collective.safetensors``; None trains one.

    Raises:
        ConfigError: ``given`` is not there, or has other layers or ranks.
    """

    def __init__(self, setting: Setting, config: PerFitConfig, given: str | None = None):
        self.setting, self.config, self.given = setting, config, given
        personal = ("stage2", "strength", "held_out", "strength_prior")
        decides = {name: value for name, value in config.deciding().items() if name not in personal}
        decides["format"] = 2  # R, D and b as runs keep them; W in place of D before
        if given is not None:
            decides["given"] = hashlib.sha256(self._found.file).hexdigest()
        self.work = Work.shared(setting, "collective-shift", decides)

    @property
    def parameters(self) -> int:
        """Trained numbers of the first shift, the one that acts beside users' own."""
        width = self.setting.backbone.hidden_size
        return parameter_count(len(self.config.layers), self.config.collective_rank, width)

    @cached_property
    def _found(self) -> Collective:
        """What was given, of this base's width and these layers and ranks."""
        path = Path(self.given or "")
        path = path / "collective.safetensors" if path.is_dir() else path
        try:
            found = Collective.of_file(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"collective: {path} cannot be read ({error.strerror}); give a run's folder") from error
        except Exception as error:  # safetensors' own, and what a strange file makes of a shift
            raise ConfigError(f"collective: {path} holds no shared shifts; give a run's folder") from error
        config, width = self.config, self.setting.backbone.hidden_size
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
                return dict(load(self._found.file))  # bit for bit, whatever reading makes of R
            rows = pool_rows(prompts.maker, others)
            shifts = train_collective(
                setting.backbone,
                rows,
                self.config,
                checkpoint=self.work.checkpoint("collective"),
                context={"work": self.work.context, "pool": pool},
                listener=setting.listener,
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
