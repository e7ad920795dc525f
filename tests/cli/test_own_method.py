"""A method of one's own, named by where it is or by an installed package, beside perfit's; in worker processes too."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from command_line import SETTINGS, Outcome, Perfit
from small_base import dataset, write_base, write_task

from perfit.data.jsonl import write_jsonl
from perfit.erasure.comparison import ComparisonPlace

MODULE = '''"""Ours."""

from dataclasses import dataclass

from perfit.methods.method import Cost


@dataclass(frozen=True)
class Options:
    """Options. Attributes: back: Which past answer counts, from the end."""

    back: int = 1


class Last:
    """The answer the user gave last."""

    label = "Last answer"
    Options = Options
    scores = False

    def __init__(self, name, label, setting, options):
        self.name, self.label, self.setting, self.options = name, label, setting, options

    def fit(self, others):
        pass

    def adapt(self, users):
        return {}

    def predict(self, asks, done=lambda rows: None):
        done(len(asks))
        return [self.setting.task.answer_of(ask.user.history[-self.options.back]) for ask in asks]

    def cost(self):
        return Cost()


class Half:
    """No method: it cannot adapt."""

    def fit(self, others):
        pass
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module of one's own, as on any machine: perfit's script has another folder on its path."""
    (tmp_path / "ours_here.py").write_text(MODULE)
    (tmp_path / "broken_here.py").write_text("raise RuntimeError('secret')\n")
    write_jsonl(dataset(("anna", "ben")), tmp_path / "data.jsonl")
    write_task(tmp_path / "task.yaml")
    write_base(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    for name in ("ours_here", "broken_here"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def compare(perfit: Perfit, methods: str, *more: str) -> Outcome:
    return perfit("compare", "data.jsonl", "--task", "task.yaml", "--base", "base", *SETTINGS, "--out", "out", "--methods", methods, *more)  # fmt: skip


def answers(place: Path, folder: str) -> list[str]:
    path = place / "out" / "trials" / folder / "seed-0" / "predictions.jsonl"
    return [json.loads(line)["prediction"] for line in path.read_text().splitlines()]


def given(back: int) -> list[str]:
    return [user.history[-back].fields["folder"] for user in dataset(("anna", "ben")).users for _ in user.queries]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_it_stands_in_the_table_with_its_variants_and_is_resumed(place: Path, perfit: Perfit, workers: str) -> None:
    names = "ours_here:Last,ours_here:Last[back=4],floor-user-majority"
    done = compare(perfit, names, "--workers", workers, "--option", "ours_here:Last.back=2")
    assert done.code == 0, done.err
    rows = {row["method"]: row["label"] for row in csv.DictReader((place / "out" / "table.csv").open())}
    assert rows["ours_here:Last"] == "Last answer"
    assert rows["ours_here:Last[back=4]"] == "Last answer[back=4]"
    assert answers(place, "ours_here@Last") == given(2)
    assert answers(place, "ours_here@Last[back=4]") == given(4) != given(2)
    assert (
        "0 trials of 4 queries to do, 3 done before" in compare(perfit, names, "--option", "ours_here:Last.back=2").err
    )
    for step in ComparisonPlace(place / "out").steps("ben"):  # its folder is one of the comparison's
        step.act()
    assert not any('"ben"' in path.read_text() for path in (place / "out").rglob("*.json*"))


def test_reading_a_comparison_imports_nothing_that_it_names(place: Path, perfit: Perfit) -> None:
    assert compare(perfit, "ours_here:Last,floor-user-majority").code == 0
    (place / "ours_here.py").write_text("raise SystemExit('imported')\n")
    sys.modules.pop("ours_here")
    done = perfit("report", "out", "--no-texts")
    assert done.code == 0, done.err
    assert "Last answer" in (place / "out" / "report.html").read_text()


def test_an_installed_package_gives_one_by_name(place: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch) -> None:
    points = place / "site" / "ours-1.0.dist-info"
    points.mkdir(parents=True)
    (points / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    (points / "entry_points.txt").write_text("[perfit.methods]\nlast-answer = ours_here:Last\n")
    monkeypatch.syspath_prepend(str(place / "site"))
    done = compare(perfit, "last-answer,floor-user-majority")
    assert done.code == 0, done.err
    assert answers(place, "last-answer") == given(1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ours_here:First", "methods: ours_here has nothing of the name 'First'"),
        ("ours_here:Half", "methods: ours_here:Half is no method, it has no adapt, predict, cost; see docs/methods.md"),
        ("nowhere_here:Last", "cannot be imported (no module 'nowhere_here')"),
        ("broken_here:Last", "methods: 'broken_here:Last' cannot be imported (RuntimeError)"),
        ("ours_here:Last[ahead=1]", "ahead is not an option; it has back"),
        ("ours_here", "'ours_here' is unknown; choose from floor-majority"),
        ("ours_here:Last()", "is unknown"),
    ],
)
def test_what_is_none_is_one_line_before_the_base_is_loaded(place: Path, perfit: Perfit, name: str, says: str) -> None:
    done = compare(perfit, name)
    assert done.code == 2
    assert says in done.err
    assert "secret" not in done.err
    assert "Traceback" not in done.err
    assert not (place / "out").exists()


def test_the_page_says_what_works(place: Path, perfit: Perfit) -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    section = page[page.index("## One of your own") :]
    (place / "last.py").write_text(section.partition("```python\n")[2].partition("```")[0])
    sys.modules.pop("last", None)
    done = compare(perfit, "last:Last,last:Last[back=2]", "--option", "last:Last.back=4")
    assert done.code == 0, done.err
    assert (answers(place, "last@Last"), answers(place, "last@Last[back=2]")) == (given(4), given(2))
