"""perfit's stage 2 through its library, as ``perfit train`` runs it: checkpoints, the store of users, everything.

    ours.py STAGE.json plain|auto

It starts from shared shifts that did not train; the work is the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stage import Stage

from perfit import PerFit, PerFitConfig, StageConfig
from perfit.store.collective_file import encode_collective
from perfit.store.personal import PersonalShifts
from perfit.training.loop import Trained
from perfit.training.record import summary
from perfit.training.rows import TokenRow
from perfit.training.stages import fresh_shifts, train_personal


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
    perfit = PerFit.from_pretrained(stage.base, config)
    shared = fresh_shifts(config, perfit.backbone.hidden_size)
    users = stage.begin()
    rows = {user: [TokenRow(tuple(p), tuple(a)) for p, a in pairs] for user, pairs in users.items()}
    spec = perfit.belonging.store_spec(encode_collective(shared))
    store = PersonalShifts.open(Path(stage.out) / "personal.sqlite", perfit.identity.as_dict(), spec, new=True)
    waiting: list[Trained] = []

    def keep() -> None:
        store.put((one.name, one.shifts[0], summary(one)) for one in waiting)
        waiting.clear()

    for one in train_personal(
        perfit.backbone, rows, shared, config, checkpoint=Path(stage.out) / "stage2.safetensors", before_save=keep
    ):
        if one.problem is not None:
            raise SystemExit(f"a user was skipped: {one.problem}")
        stage.losses.append(sum(one.losses) / len(one.losses))
        waiting.append(one)
    keep()
    store.close()
    stage.end()


if __name__ == "__main__":
    main()
