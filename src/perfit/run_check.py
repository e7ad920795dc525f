"""Every byte of a run and of its base read and held against what was written down of them."""

from __future__ import annotations

from perfit.backbone.base_files import files_digest
from perfit.backbone.load import base_folder
from perfit.belonging import open_store, parts_of
from perfit.errors import BaseModelError, DamagedError
from perfit.evaluation.written import read_metrics, read_predictions
from perfit.evaluations import evaluations
from perfit.run import RunDirectory
from perfit.training.record import TrainingRecord


def verify(run: RunDirectory, *, base_at: str | None = None) -> dict[str, str]:
    """What was checked, and what there was to check.

    Args:
        run: The run.
        base_at: Where its base lies now, if no longer where it lay in training.

    Raises:
        BaseModelError: The base's files are not those the run was trained on.
        StoreError: A file of the run is damaged, or not of this run.
    """
    found = {"base": _base(run, base_at), "manifest": "as written"}
    if run.has_collective():
        run.collective()
        found["collective shift"] = "as written"
    if run.store_path.exists():
        with open_store(run) as store:
            if damaged := store.verify():
                raise DamagedError(
                    f"{run.store_path}: {len(damaged)} users' shifts are damaged; perfit users add trains them again, or "
                    "restore a copy"
                )
            found["users' shifts"] = f"{len(store)} as written"
    record = TrainingRecord(run)
    found["training record"] = f"{len(record.users)} users, {'complete' if record.complete else 'not complete'}"
    if (run.path / "metrics.json").is_file():
        metrics = read_metrics(run)
        for method in metrics["methods"]:
            read_predictions(run, metrics, method)
        found["scores"] = f"of the predictions of {len(metrics['methods'])} methods"
    evaluations(run)
    return found


def _base(run: RunDirectory, base_at: str | None) -> str:
    _, _, identity = parts_of(run)
    base = run.manifest()["base"]
    name = base["name"] if base_at is None else base_at
    try:
        folder = base_folder(name, base.get("revision") if base_at is None else None)
    except BaseModelError:
        if base_at is not None:
            raise
        folder = None  # moved, or of another machine: the shifts are what can be checked here
    kind, _, wanted = identity.contents.partition(":")
    if folder is None or kind != "files":
        return "not on this machine as files: not checked"
    try:
        found = files_digest(folder, anew=True)
    except OSError as error:
        raise BaseModelError(f"{name}: cannot be read ({error.strerror}); restore its files") from error
    if found != wanted:
        raise BaseModelError(
            f"{name}: its files are not those the run was trained on ({found[:12]}…, not {wanted[:12]}…); load the "
            "base it was made with"
        )
    return "every byte as in training"
