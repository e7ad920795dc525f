"""A run's last evaluation on disk: scores that name the run they are of and the very predictions they were made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfit.durable.identity import digest_of
from perfit.durable.records import read_records
from perfit.errors import DamagedError, StoreError
from perfit.json_keys import json_key
from perfit.run import RunDirectory

_AGAIN = "run perfit evaluate again"
_METHOD = re.compile(r"[A-Za-z0-9_-]+(: [A-Za-z0-9_-]+)?")


def predictions_path(run: RunDirectory, method: str) -> Path:
    """``predictions/<method>.jsonl``.

    Raises:
        DamagedError: A method of this name could lead out of the folder.
    """
    if not _METHOD.fullmatch(method):
        raise DamagedError(f"{run.path / 'metrics.json'}: names a method that cannot be one; {_AGAIN}")
    return run.path / "predictions" / f"{method.replace(': ', '_')}.jsonl"


def _run_of(run: RunDirectory) -> str | None:
    """What the scores of a run are of: base, task, settings, data and the collective shift."""
    if not run.exists():
        return None
    manifest = run.manifest()
    return digest_of(manifest["context"], manifest.get("collective"))


def write_metrics(run: RunDirectory, content: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write ``metrics.json``, with the hashes of the predictions by method."""
    run.write_record("metrics.json", {**content, "of": {"run": _run_of(run), "predictions": dict(files)}})


def read_metrics(run: RunDirectory) -> dict[str, Any]:
    """The scores of a run's last evaluation, as they were written.

    Raises:
        StoreError: There are none, they are damaged, another run's, or lack what scores hold.
    """
    metrics = run.read_record("metrics.json", _AGAIN)
    of = metrics.get("of")
    if not isinstance(of, dict) or of.get("run") != _run_of(run):
        raise StoreError(f"{run.path / 'metrics.json'}: holds scores of another run; {_AGAIN}")
    methods = metrics.get("methods")
    if not isinstance(methods, dict) or not methods or not all(isinstance(one, dict) for one in methods.values()):
        raise DamagedError(f"{run.path / 'metrics.json'}: a value is missing or wrong; {_AGAIN}")
    return metrics


def read_predictions(run: RunDirectory, metrics: Mapping[str, Any], method: str) -> dict[str, str]:
    """A method's answers by query, which are those that were scored.

    Raises:
        StoreError: They are missing, damaged, or others than were scored.
    """
    path = predictions_path(run, method)
    if path.is_symlink() or path.parent.is_symlink():
        raise DamagedError(f"{path}: is a link out of the run; {_AGAIN}")
    records = read_records(path, missing=f"not found; {_AGAIN}", mend=_AGAIN)
    if hashlib.sha256(path.read_bytes()).hexdigest() != metrics["of"]["predictions"].get(json_key(method)):
        raise StoreError(f"{path}: are not the predictions that metrics.json scores; {_AGAIN}")
    try:
        return {str(record["query"]): str(record["prediction"]) for record in records}
    except KeyError:
        raise DamagedError(f"{path}: a value is missing; {_AGAIN}") from None
