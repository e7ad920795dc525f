"""perfit's stage 2 through its library, as ``perfit train`` runs it: checkpoints, the store of users, everything.

    ours.py STAGE.json plain|auto

It starts from shared shifts that did not train; the work is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stage import Stage

from perfit import PerFit, PerFitConfig, StageConfig
from perfit.store.collective_file import encode_collective
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts
from perfit.training.fit_users import fit_users
from perfit.training.learner import Trained
from perfit.training.rows import TokenRow
from perfit.training.stages import fresh_shifts


def main() -> None:
    """Train all users together and store their shifts."""
    stage = Stage.given()
    config = PerFitConfig(
        layers=tuple(stage.layers),
        positions=stage.positions,
        personal_rank=stage.rank,
        stage2=StageConfig(epochs=stage.epochs, batch_size=stage.batch_size),
        dtype=stage.dtype,
        engine=sys.argv[2],
    )
    perfit = PerFit.from_pretrained(stage.base, replace(config))
    shared = fresh_shifts(config, perfit.backbone.hidden_size)
    users = stage.begin()
    rows = {user: [TokenRow(tuple(p), tuple(a)) for p, a in pairs] for user, pairs in users.items()}
    spec = perfit.belonging.store_spec(encode_collective(shared))
    store = PersonalShifts.open(Path(stage.out) / "personal.sqlite", perfit.identity.as_dict(), spec, new=True)

    def keep(through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
        for one in through:
            if one.problem is not None:
                raise SystemExit(f"a user was skipped: {one.problem}")
            stage.losses.append(sum(one.losses) / len(one.losses))
        store.put_stored(shifts.items())

    fit_users(perfit.backbone, rows, shared, config, keep, checkpoint=Path(stage.out) / "stage2.safetensors")
    store.close()
    stage.end()


if __name__ == "__main__":
    main()
