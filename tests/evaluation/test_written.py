"""Scores, the predictions they are of, and the run: one evaluation, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_base import dataset

from perfit.durable.records import SEAL, read_records, sealed, write_records
from perfit.errors import DamagedError, StoreError
from perfit.evaluation.evaluate import evaluate
from perfit.evaluation.written import read_metrics, read_predictions
from perfit.personalizer import PerFit
from perfit.report.from_run import from_run
from perfit.run import RunDirectory


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(scored / "run", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def metrics_of(run: RunDirectory, **changes: Any) -> None:
    """Write the scores with changes and a checksum that holds: by somebody, not by decay."""
    metrics = json.loads((run.path / "metrics.json").read_bytes())
    metrics.pop(SEAL)
    (run.path / "metrics.json").write_text(json.dumps(sealed({**metrics, **changes})), encoding="utf-8")


def one_line(run: RunDirectory, message: str, kind: type[StoreError] = StoreError) -> None:
    for data in (None, dataset()):
        with pytest.raises(kind, match=message) as caught:
            from_run(run, data)
        assert "\n" not in str(caught.value)
        assert caught.type is kind


def test_predictions_swapped_between_methods_are_refused(run: RunDirectory) -> None:
    assert from_run(run, dataset()).reference == "collective"
    personal, collective = (run.path / "predictions" / f"{name}.jsonl" for name in ("personal", "collective"))
    kept = personal.read_bytes()
    personal.write_bytes(collective.read_bytes())
    collective.write_bytes(kept)
    one_line(run, r"\.jsonl: are not the predictions that metrics\.json scores; run perfit evaluate again")


def test_predictions_written_anew_are_refused_though_their_checksums_hold(run: RunDirectory) -> None:
    path = run.path / "predictions" / "personal.jsonl"
    first, *others = read_records(path, missing="", mend="")
    write_records(path, [{**first, "prediction": "family" if first["prediction"] != "family" else "work"}, *others])
    one_line(run, r"personal\.jsonl: are not the predictions that metrics\.json scores")


def test_an_edited_prediction_and_a_line_left_out_are_damage(run: RunDirectory) -> None:
    path = run.path / "predictions" / "personal.jsonl"
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    edited = [first, second.replace(b'"anna"', b'"ben"'), *others]
    assert edited[1] != second
    for content, number in ((edited, 2), ([second, *others], 1), ([first, *others], 2)):
        path.write_bytes(b"".join(content))
        one_line(run, rf"personal\.jsonl: line {number} is not as it was written", DamagedError)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", "", "floor: ../x", "a\nb", "floor_x: y: z"])
def test_a_method_that_leads_out_of_the_run_is_refused(name: str, run: RunDirectory) -> None:
    (run.path / "outside.jsonl").write_bytes((run.path / "predictions" / "personal.jsonl").read_bytes())
    metrics = read_metrics(run)
    found = metrics["methods"]["personal"]
    hashes = metrics["of"]["predictions"]
    methods = {**metrics["methods"], name: found}
    metrics_of(run, methods=methods, of=metrics["of"] | {"predictions": hashes | {name: hashes["personal"]}})
    with pytest.raises(DamagedError, match="names a method that cannot be one") as caught:
        read_predictions(run, read_metrics(run), name)
    assert "\n" not in str(caught.value)
    one_line(run, "names a method that cannot be one", DamagedError)


def test_predictions_that_are_a_link_are_not_followed(run: RunDirectory, tmp_path: Path) -> None:
    path = run.path / "predictions" / "personal.jsonl"
    path.rename(tmp_path / "elsewhere.jsonl")
    path.symlink_to(tmp_path / "elsewhere.jsonl")
    one_line(run, "is a link out of the run", DamagedError)


def test_scores_of_another_run_are_refused(run: RunDirectory) -> None:
    of = read_metrics(run)["of"]
    for other in ({**of, "run": "0" * 64}, {"predictions": of["predictions"]}, None):
        metrics_of(run, of=other)
        one_line(run, "holds scores of another run; run perfit evaluate again")


def test_scores_belong_to_the_collective_shift_too(run: RunDirectory) -> None:
    run.save_collective(b"of another training with the same settings")
    one_line(run, "holds scores of another run")


def test_an_evaluation_takes_the_runs_lock(run: RunDirectory) -> None:
    perfit = PerFit.from_pretrained(run.path)
    before = (run.path / "metrics.json").read_bytes()
    with run.locked(), pytest.raises(StoreError, match="another process trains or evaluates here"):
        evaluate(perfit, dataset().users, methods=["collective"], with_floors=False, with_nll=False, run=run)
    assert (run.path / "metrics.json").read_bytes() == before
    evaluate(perfit, dataset().users, methods=["collective"], with_floors=False, with_nll=False, run=run)
    assert list(read_metrics(run)["methods"]) == ["collective"]
